"""Gives each tracked object one id for its whole life, for mappers that go by ids alone.

docs/bridges.md says which mappers those are, and why the ids behave as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int32, UInt16

from vos_ros.types import UNKNOWN_LABEL, AssociationStatus, FrameResult, Track

FIRST_TRACK_BASED_ID = 1 << 30
"""A track that first appears without a map object gets this plus its track id. The upper half of
the positive int32 is kept for such ids; the lower half is that of map objects."""
_PIXELS_OF_ANOTHER = frozenset(
    {AssociationStatus.NEW, AssociationStatus.ABSENT, AssociationStatus.LOST}
)
"""Statuses of tracks whose pixels are not those of the map object."""
_MATCHED = frozenset({AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED})


class PersistentIds:
    """Keeps the id under which each track was first published.

    That is the id of its map object, or ``FIRST_TRACK_BASED_ID`` plus the track id where it has
    none. The track keeps that id when the mapper makes a map object of it, and the map object keeps
    it when another track follows it. A track that turns out to be an object which has an id already
    takes over that id. Ids are positive int32, and no two tracks of a frame have the same.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all ids: the track ids of a new session mean other objects."""
        self._map_session = ""
        self._of_object: dict[int, int] = {}
        self._of_track: dict[int, int] = {}

    def update(self, result: FrameResult, resolve: Callable[[int], int]) -> dict[int, int]:
        """Give the persistent id of each live track of a frame, by track id.

        ``resolve`` gives the id of the map object that a map object was merged into (its own id
        where it wasn't merged).
        """
        if result.map_session_id != self._map_session:  # another map: its ids mean other objects
            self._of_object.clear()
            self._map_session = result.map_session_id
        associated = {
            a.track_id: a
            for a in result.associations
            if a.track_id and a.map_object_id and a.status not in _PIXELS_OF_ANOTHER
        }
        live = {t.track_id for t in result.tracks}
        self._of_track = {t: i for t, i in self._of_track.items() if t in live}
        scores = {t: associated[t].score if t in associated else 0.0 for t in live}
        out: dict[int, int] = {}
        # Of two tracks on one object (SPLIT) the one with the higher score gets the object's id.
        for track_id in sorted(live, key=lambda t: (-scores[t], t)):
            former, a = self._of_track.get(track_id), associated.get(track_id)
            wanted = former
            # A tentative association does not rename a track.
            if a is not None and (former is None or a.status in _MATCHED):
                wanted = self._id_of_object(resolve(a.map_object_id), former)
            if wanted is None or wanted in out.values():
                wanted = FIRST_TRACK_BASED_ID + track_id
            out[track_id] = self._of_track[track_id] = wanted
        return out

    def _id_of_object(self, object_id: int, id_of_track: int | None) -> int | None:
        """Give the persistent id of a map object.

        An object without one gets that of its track, where no other object has it, or else its own
        id. None: its own id is too large.
        """
        if object_id not in self._of_object:
            if id_of_track is not None and id_of_track not in self._of_object.values():
                self._of_object[object_id] = id_of_track
            elif object_id < FIRST_TRACK_BASED_ID:
                self._of_object[object_id] = object_id
        return self._of_object.get(object_id)


def id_image(
    labels: UInt16[np.ndarray, "H W"], tracks: Sequence[Track], ids: Mapping[int, int]
) -> Int32[np.ndarray, "H W"]:
    """Replace the label values of an image by persistent ids; 0 is background or unknown.

    ``ids`` holds the persistent id of each track by its track id.
    """
    table = np.zeros(UNKNOWN_LABEL + 1, np.int32)
    for t in tracks:
        table[t.label_value] = ids[t.track_id]
    return np.asarray(table[labels])
