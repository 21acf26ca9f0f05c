"""Stage: decide which changes of the map are worth publishing, and build the updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vos_ros.geometry.extents import Extent
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.joining import Pair
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.types import MapUpdate

_MAX_GROWTH_M = 0.1
"""Growth of an object's box between two publications that neighbours are searched with, m."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _PublishedState:
    """An object as it was last published."""

    points: int
    """Number of its points."""
    extent: Extent | None
    """Its box; None without points."""
    class_id: int
    """Its class."""
    observations: int
    """Number of frames that had shown it."""
    stamp_ns: int
    """Stamp of the map then."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MapHeader:
    """What an update says of the map as a whole."""

    stamp_ns: int
    """Stamp of the last frame that was integrated."""
    session_id: str
    """Session of the map."""
    revision: int
    """Revision of the last update."""
    frame_id: str
    """Frame of the map."""


class MapPublication:
    """Track what has changed since the last update. The first update is a snapshot."""

    def __init__(self, config: MapperConfig) -> None:
        self._config = config
        self._published: dict[int, _PublishedState] = {}
        self._touched: set[int] = set()
        self._deleted: list[int] = []
        self._merged: list[Pair] = []
        self._needs_snapshot = True
        self._since_snapshot = 0

    @property
    def touched(self) -> frozenset[int]:
        """Objects that were replaced since the last update."""
        return frozenset(self._touched)

    def touch(self, object_id: int) -> None:
        """Note that an object was replaced."""
        self._touched.add(object_id)

    def delete(self, object_id: int) -> None:
        """Note that an object was deleted."""
        self._forget(object_id)
        self._deleted.append(object_id)

    def merge(self, gone: int, into: int) -> None:
        """Note that an object became part of another one."""
        self._forget(gone)
        self._merged.append((gone, into))

    def _forget(self, object_id: int) -> None:
        self._touched.discard(object_id)
        self._published.pop(object_id, None)

    def request_snapshot(self) -> None:
        """Make the next update a snapshot."""
        self._needs_snapshot = True

    def has_changed(self, model: ObjectModel, stamp_ns: int) -> bool:
        """Return whether an object differs from what was published enough to publish it again."""
        before, rules, config = (
            self._published.get(model.id),
            self._config.rules,
            self._config.model,
        )
        points = model.points(config)
        if before is None or before.class_id != model.class_id:
            return True
        if (before.extent is None) != (len(points) == 0):
            return True
        if abs(len(points) - before.points) > rules.changed_share * before.points:
            return True
        if before.extent is not None:
            moved_m = float(np.abs(model.extent(config) - before.extent).max())
            if moved_m > model.grid.size_m / 2:
                return True
        is_recent = 0 <= stamp_ns - before.stamp_ns < rules.refresh_s * 1e9
        return model.observations > before.observations and not is_recent

    def neighbours(self, model: ObjectModel) -> list[int]:
        """Return the other objects whose published box may touch that of an object by now."""
        low, high = model.extent(self._config.model)
        return sorted(
            i
            for i, state in self._published.items()
            if i != model.id
            and state.extent is not None
            and (state.extent[0] <= high + _MAX_GROWTH_M).all()
            and (state.extent[1] >= low - _MAX_GROWTH_M).all()
        )

    def build(
        self,
        header: MapHeader,
        objects: Mapping[int, ObjectModel],
        merged: Mapping[int, int],
        *,
        full: bool,
    ) -> MapUpdate | None:
        """Build the next update; None where nothing has changed that matters.

        It is a snapshot where ``full`` asks for one, the first time, and after
        ``node.snapshot_every`` deltas.

        Args:
            header: the map; the update has the next revision.
            objects: all objects.
            merged: all merges of the session, former id -> the id that it became part of.
            full: whether a snapshot is wanted.
        """
        stamp_ns = header.stamp_ns
        changed = [i for i in sorted(self._touched) if self.has_changed(objects[i], stamp_ns)]
        is_due = full or self._needs_snapshot
        if not (is_due or changed or self._deleted or self._merged):
            return None
        full = is_due or self._since_snapshot >= self._config.node.snapshot_every
        revision = header.revision + 1
        chosen = [objects[i] for i in (sorted(objects) if full else changed)]
        update = MapUpdate(
            stamp_ns,
            header.session_id,
            revision,
            full,
            tuple(o.map_object(revision, self._config.model) for o in chosen),
            # A snapshot holds every merge: without it a reader that has lost the delta would
            # delete the object.
            deleted_ids=() if full else tuple(self._deleted),
            merged=tuple(merged.items() if full else self._merged),
            frame_id=header.frame_id,
        )
        for model in chosen:
            self._published[model.id] = self._state(model, stamp_ns)
        self._touched.clear()
        self._deleted, self._merged, self._needs_snapshot = [], [], False
        self._since_snapshot = 0 if full else self._since_snapshot + 1
        return update

    def _state(self, model: ObjectModel, stamp_ns: int) -> _PublishedState:
        count = len(model.points(self._config.model))
        return _PublishedState(
            points=count,
            extent=model.extent(self._config.model) if count else None,
            class_id=model.class_id,
            observations=model.observations,
            stamp_ns=stamp_ns,
        )
