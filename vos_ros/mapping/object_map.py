"""The mapper's objects, as of its most recent message."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from vos_ros.types import MapChange, MapObject, MapUpdate

_MAX_ID = 2**32 - 1
"""Largest id: ids are uint32."""
_MAX_MERGES = 100_000
"""Merges that are remembered: ids of deleted objects keep their meaning for so many."""
_MAX_SHOWN = 8
"""Ids of a circle that its report shows."""


class ObjectMap:
    """Hold the map's objects by id. Iterates in the order of ids. Not thread-safe.

    ``session_id``, ``revision``, ``stamp_ns`` and ``frame_id`` are those of the last update that
    was applied; before the first they are "", 0, 0 and "map".
    """

    def __init__(self) -> None:
        self.session_id = ""
        self.revision = 0
        self.stamp_ns = 0
        self.frame_id = "map"
        self._objects: dict[int, MapObject] = {}
        self._merged: dict[int, int] = {}
        self._started = False
        self._missed = 0  # the highest revision that could not be applied: one before it is missing

    def apply(self, update: MapUpdate) -> MapChange:
        """Apply an update, whole or not at all. The map stays usable either way.

        Returns what it changed, or the reason why it was not applied. A snapshot replaces
        everything and may jump to any later revision; one of the present revision is applied again.
        A delta applies to the revision right before its own. A new ``session_id`` (the mapper
        started over) begins with a snapshot, at any revision. Deletions of unknown ids and merges
        from unknown ids are no errors: the map is already as they want it.
        """
        reason, late = self._out_of_order(update)
        reason = reason or _flaw(update)
        if reason:
            if not late:
                self._missed = max(self._missed, update.revision)
            return MapChange(reason=reason)
        before, new_session = self._objects, update.session_id != self.session_id
        objects = {} if update.full else dict(self._objects)
        merged = {} if update.full and update.session_id != self.session_id else dict(self._merged)
        objects.update((o.id, _finite(o)) for o in update.objects)
        _merge(merged, dict(update.merged))
        for old, _ in update.merged:
            objects.pop(old, None)
        for gone in update.deleted_ids:
            objects.pop(gone, None)
        for o in objects:  # an id that is in the map means itself
            merged.pop(o, None)
        self._objects = dict(sorted(objects.items()))
        self._merged = merged
        self.session_id, self.revision = update.session_id, update.revision
        self.stamp_ns, self.frame_id = update.stamp_ns, update.frame_id
        self._started = True
        if update.full or self.revision >= self._missed:
            self._missed = 0
        return self._change(before, new_session)

    @property
    def needs_snapshot(self) -> bool:
        """Whether changes of the map are missing: later ones can't be applied before a snapshot."""
        return self._missed > 0

    def resolve(self, object_id: int) -> int:
        """Follow the merges of an id to the last one; the id itself where it was not merged."""
        return next(self._resolved([object_id]))

    def _resolved(self, object_ids: Iterable[int]) -> Iterator[int]:
        """Resolve many ids; each merge is followed once, however long the chains are."""
        last: dict[int, int] = {}
        for object_id in object_ids:
            chain = []
            while object_id in self._merged and object_id not in last:  # _merge leaves no circle
                chain.append(object_id)
                object_id = self._merged[object_id]
            end = last.get(object_id, object_id)
            last.update((i, end) for i in chain)
            yield end

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[MapObject]:
        return iter(self._objects.values())

    def __contains__(self, object_id: object) -> bool:
        return object_id in self._objects

    def __getitem__(self, object_id: int) -> MapObject:
        """Return the object of an id.

        Raises KeyError: the map has none.
        """
        try:
            return self._objects[object_id]
        except KeyError:
            raise KeyError(
                f"object {object_id} is not in the map (revision {self.revision},"
                f" {len(self)} objects)"
            ) from None

    def get(self, object_id: int) -> MapObject | None:
        """Return the object of an id, or None."""
        return self._objects.get(object_id)

    def _change(self, before: Mapping[int, MapObject], new_session: bool) -> MapChange:
        """Compare the objects with those before the update."""
        now = self._objects
        deleted = tuple(o for i, o in before.items() if i not in now)
        ids = [o.id for o in deleted]
        merged = dict(zip(ids, self._resolved(ids), strict=True))
        return MapChange(
            new_session=new_session,
            added=tuple(o for i, o in now.items() if i not in before),
            changed=tuple(
                (before[i], o)
                for i, o in now.items()
                if i in before and (new_session or o is not before[i])
            ),
            deleted=deleted,
            merged={old: new for old, new in merged.items() if new in now},
        )

    def _out_of_order(self, update: MapUpdate) -> tuple[str, bool]:
        """Tell why an update can't be applied now, and whether it is one that came before."""
        if not self._started or update.session_id != self.session_id:
            if update.full:
                return "", False
            known = (
                f"map session {update.session_id!r} is new"
                if self._started
                else "no map has come yet"
            )
            return (
                f"revision {update.revision} is a delta and {known}: waiting for a snapshot",
                False,
            )
        if update.full:
            if update.revision >= self.revision:
                return "", False
            return (
                f"snapshot of revision {update.revision} is older than revision {self.revision},"
                " which is in use: ignored",
                True,
            )
        if update.revision <= self.revision:
            return (
                f"revision {update.revision} is not newer than revision {self.revision},"
                " which is in use: ignored",
                True,
            )
        if update.revision > self.revision + 1:
            first, last = self.revision + 1, update.revision - 1
            missing = (
                f"revision {first} is" if first == last else f"revisions {first} to {last} are"
            )
            return (
                f"revision {update.revision} came after {self.revision}: {missing} missing,"
                " waiting for a snapshot",
                False,
            )
        if update.frame_id != self.frame_id:
            return (
                f"revision {update.revision} is in frame {update.frame_id!r}, the map in"
                f" {self.frame_id!r}: waiting for a snapshot",
                False,
            )
        return "", False


def _merge(merged: dict[int, int], recent: Mapping[int, int]) -> None:
    """Add the recent merges, which have no circle in themselves, to all that are known.

    Where earlier ones lead back, so that a circle would close, the first of them is forgotten: the
    most recent merge counts. So are the oldest, where there are too many. Takes time linear in
    their number.
    """
    merged.update(recent)
    for circle in merge_circles(merged, recent):
        earlier = (o for i, o in enumerate(circle) if circle[i - 1] in recent and o not in recent)
        merged.pop(next(earlier))
    for object_id in list(itertools.islice(merged, max(0, len(merged) - _MAX_MERGES))):
        merged.pop(object_id)


def merge_circles(merges: Mapping[int, int], starts: Iterable[int]) -> Iterator[list[int]]:
    """Find the circles that merges close, each once, by following them from some ids."""
    seen: set[int] = set()
    for start in starts:
        chain: dict[int, None] = {}
        object_id = start
        while object_id in merges and object_id not in seen:
            seen.add(object_id)
            chain[object_id] = None
            object_id = merges[object_id]
        if object_id in chain:
            ids = list(chain)
            yield ids[ids.index(object_id) :]


def _flaw(update: MapUpdate) -> str:
    """Describe what is wrong with an update in itself; "" where nothing is."""
    head = f"revision {update.revision}: "
    seen: set[int] = set()
    for o in update.objects:
        flaw = _object_flaw(o)
        if flaw or o.id in seen:
            return (
                f"{head}object {o.id} {flaw or 'comes twice'}: nothing of this update was applied"
            )
        seen.add(o.id)
    into = dict(update.merged)
    if len(into) != len(update.merged):
        return f"{head}an object is merged into two others: nothing of this update was applied"
    for circle in merge_circles(into, into):
        shown = ", ".join(map(str, (*circle[:_MAX_SHOWN], circle[0])))
        return (
            f"{head}merges go round in a circle through {shown}: nothing of this update was applied"
        )
    for old, new in update.merged:
        if not 1 <= new <= _MAX_ID or old in seen:
            return (
                f"{head}object {old} is merged into {new}{' and listed too' if old in seen else ''}"
                f", wanted an id of 1..{_MAX_ID} for an object that is not listed: nothing of this"
                " update was applied"
            )
    return ""


def _object_flaw(o: MapObject) -> str:
    """Describe what is wrong with an object; "" where nothing is."""
    if not 1 <= o.id <= _MAX_ID:
        return f"has an id outside 1..{_MAX_ID} (0 means none)"
    if o.points.ndim != 2 or o.points.shape[1] != 3:
        return f"has points of shape {o.points.shape}, wanted (M, 3)"
    if len(o.points) and not (np.isfinite(o.point_radius) and o.point_radius > 0):
        return (
            f"has point_radius {o.point_radius}, wanted the radius in m > 0 of the disk that a"
            " point stands for"
        )
    if o.T_map_object.shape != (4, 4) or not np.isfinite(o.T_map_object).all():
        return "has a pose that is not a finite 4x4 matrix"
    if o.mesh is not None and len(o.mesh.triangles):
        low, high = int(o.mesh.triangles.min()), int(o.mesh.triangles.max())
        if low < 0 or high >= len(o.mesh.vertices):
            return f"has triangles of vertices {low}..{high}, but {len(o.mesh.vertices)} vertices"
        if not np.isfinite(o.mesh.vertices).all():
            return "has mesh vertices that are not finite"
    return ""


def _finite(o: MapObject) -> MapObject:
    """Drop points that are not finite: a hole in the sensor's data is no flaw of the object."""
    good = np.isfinite(o.points).all(axis=1)
    return o if good.all() else replace(o, points=np.ascontiguousarray(o.points[good]))
