"""Read the map that a mapper starts with from its file, and save it there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.store import MapFileError, load, save


@dataclass(frozen=True, slots=True)
class SaveOutcome:
    """Hold what a save did."""

    saved: bool
    """Whether the file holds the present map."""
    message: str
    """Text for users; empty where there is no file to save to."""


class MapFile:
    """Keep the map of ``node.map_file``.

    Args:
        config: the mapper's parameters; an empty ``node.map_file`` keeps nothing.
    """

    def __init__(self, config: MapperConfig) -> None:
        name = config.node.map_file
        self._config = config
        self.path = Path(name).expanduser() if name else None
        self._saved_state: tuple[str, int, int] | None = None
        self._saved_at = time.monotonic()

    def open(self) -> tuple[ObjectMapper, str]:
        """Return a mapper with the map of the file, or an empty one, and a text for users.

        Raises MapFileError: the file's folder is missing, the file is damaged, or its map is in
        another frame than ``node.map_frame``.
        """
        mapper, message = self._open()
        self._saved_state = _state(mapper)
        return mapper, message

    def _open(self) -> tuple[ObjectMapper, str]:
        path, map_frame = self.path, self._config.node.map_frame
        if path is None:
            return ObjectMapper(self._config), ""
        if not path.parent.is_dir():
            raise MapFileError(
                f"node.map_file is {path}, and there is no folder {path.parent}: make it first"
            )
        if not path.exists():
            message = f"{path} does not exist yet: the map starts empty and is saved there"
            return ObjectMapper(self._config), message
        saved = load(path)
        if saved.frame_id != map_frame:
            raise MapFileError(
                f"the map {path} is in frame {saved.frame_id!r}, node.map_frame is {map_frame!r}:"
                " set it to that, or name another file"
            )
        message = (
            f"{path}: {len(saved.objects)} objects, session {saved.session_id},"
            f" revision {saved.revision}"
        )
        return ObjectMapper(self._config, saved), message

    def is_due(self) -> bool:
        """Return whether ``node.autosave_s`` has passed, and if so start it anew."""
        period_s = self._config.node.autosave_s
        if self.path is None or not period_s or time.monotonic() - self._saved_at <= period_s:
            return False
        self._saved_at = time.monotonic()
        return True

    def save(self, mapper: ObjectMapper) -> SaveOutcome:
        """Save the map where something has changed since it was opened or saved last."""
        if self.path is None:
            return SaveOutcome(False, "")
        state = _state(mapper)
        if state == self._saved_state and self.path.exists():
            message = f"{self.path} holds the map already (revision {mapper.revision})"
            return SaveOutcome(True, message)
        try:
            save(mapper.saved(), self.path)
        except OSError as e:
            return SaveOutcome(False, f"the map could not be saved to {self.path}: {e}")
        self._saved_state = state
        message = f"{len(mapper.objects)} objects saved to {self.path} (revision {mapper.revision})"
        return SaveOutcome(True, message)

    def keep_before_reset(self, mapper: ObjectMapper) -> SaveOutcome:
        """Write a map that is about to be forgotten into a file of its own, unless it is empty.

        Whoever calls the reset may not be who owns the map. One such file is kept, the last.
        """
        if self.path is None or not mapper.objects:
            return SaveOutcome(False, "")
        kept = self.path.with_name(f"{self.path.stem}.before_reset{self.path.suffix}")
        try:
            save(mapper.saved(), kept)
        except OSError as e:
            return SaveOutcome(False, f"the map could not be kept in {kept}: {e}")
        return SaveOutcome(True, f"the map before is kept in {kept}")


def _state(mapper: ObjectMapper) -> tuple[str, int, int]:
    return mapper.session_id, mapper.revision, mapper.stamp_ns
