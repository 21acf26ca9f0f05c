"""Which changes are published, and when as a snapshot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import changed
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.publication import MapHeader, MapPublication
from vos_ros.reference_mapper.voxels import grid_from_means
from vos_ros.types import MapUpdate

SECOND = 1_000_000_000


def model(object_id: int = 1, count: int = 100, x: float = 0.0, **fields: object) -> ObjectModel:
    """A row of points, a centimetre apart."""
    means = np.zeros((count, 3), np.float32)
    means[:, 0] = x + 0.01 * np.arange(count) + 0.005
    hits = np.full(count, 9, np.int32)
    grid = grid_from_means(0.01, np.zeros(3), means, np.ones(count), hits, 0 * hits)
    given = {"id": object_id, "grid": grid, "first_ns": 0, "last_ns": 0, "observations": 9}
    return ObjectModel(**{**given, **fields})  # type: ignore[arg-type]


class Publisher:
    """A publication with the map that it publishes."""

    def __init__(self, **parameters: object) -> None:
        self.publication = MapPublication(changed(MapperConfig(), parameters))
        self.revision = 0
        self.merged: dict[int, int] = {}

    def build(
        self, *objects: ObjectModel, stamp_ns: int = 0, full: bool = False
    ) -> MapUpdate | None:
        for o in objects:
            self.publication.touch(o.id)
        header = MapHeader(
            stamp_ns=stamp_ns, session_id="s", revision=self.revision, frame_id="map"
        )
        by_id = {o.id: o for o in objects}
        update = self.publication.build(header, by_id, self.merged, full=full)
        self.revision = self.revision if update is None else update.revision
        return update


@pytest.fixture
def publisher() -> Publisher:
    """One that has published object 1."""
    made = Publisher()
    first = made.build(model())
    assert first is not None and first.full and first.revision == 1
    return made


def test_nothing_new_is_no_update(publisher: Publisher) -> None:
    assert publisher.build(model()) is None and publisher.revision == 1


@pytest.mark.parametrize(
    ("changes", "is_published"),
    [
        ({}, False),
        ({"votes": {3: 1}}, True),
        ({"x": 0.006}, True),  # more than half a cube
        ({"x": 0.004}, False),
        ({"count": 94}, True),  # more than 5 % of the points
        ({"observations": 10}, False),  # published a moment ago
    ],
)
def test_what_is_a_change(
    publisher: Publisher, changes: dict[str, object], is_published: bool
) -> None:
    update = publisher.build(model(**changes))
    assert (update is not None) == is_published
    if update is not None:
        assert [o.id for o in update.objects] == [1] and not update.full and update.revision == 2


def test_five_percent_of_the_points_are_no_change_and_six_are(publisher: Publisher) -> None:
    base = model()
    for removed, is_published in ((5, False), (6, True)):
        kept = np.ones(100, bool)
        kept[40 : 40 + removed] = False  # the box stays
        thinned = base.with_grid(base.grid.select(kept))
        assert (publisher.build(thinned) is not None) == is_published


def test_matched_objects_are_published_again_after_a_while(publisher: Publisher) -> None:
    more = model(observations=10)
    assert publisher.build(more, stamp_ns=5 * SECOND - 1) is None
    assert publisher.build(model(), stamp_ns=5 * SECOND) is None, "it was not matched since"
    assert publisher.build(more, stamp_ns=5 * SECOND) is not None
    assert publisher.build(model(observations=11), stamp_ns=6 * SECOND) is None, "published now"
    assert publisher.build(model(observations=11), stamp_ns=4 * SECOND) is not None, "time jumped"


def test_an_object_that_loses_or_gains_all_points_is_published(publisher: Publisher) -> None:
    gone = model().with_grid(model().grid.select(np.zeros(100, bool)))
    assert publisher.build(gone) is not None
    assert publisher.build(gone) is None
    assert publisher.build(model()) is not None


def test_deletions_and_merges_are_published_once_and_merges_again_in_snapshots(
    publisher: Publisher,
) -> None:
    publisher.build(model(), model(2), model(3))
    publisher.publication.delete(2)
    publisher.publication.merge(3, 1)
    publisher.merged = {3: 1}
    update = publisher.build(model())
    assert update is not None and (update.deleted_ids, update.merged) == ((2,), ((3, 1),))
    assert publisher.build(model()) is None
    snapshot = publisher.build(model(), full=True)
    assert snapshot is not None and snapshot.full
    assert snapshot.merged == ((3, 1),) and snapshot.deleted_ids == ()


def test_a_snapshot_follows_so_many_deltas() -> None:
    publisher = Publisher(**{"node.snapshot_every": 2})
    full = []
    for k in range(7):
        update = publisher.build(model(x=float(k)), model(2))
        assert update is not None
        full.append(update.full)
        assert [o.id for o in update.objects] == ([1, 2] if update.full else [1])
    assert full == [True, False, False, True, False, False, True]


def test_a_requested_snapshot_comes_next_even_without_changes(publisher: Publisher) -> None:
    publisher.publication.request_snapshot()
    update = publisher.build(model())
    assert update is not None and update.full and publisher.build(model()) is None


def test_an_id_that_is_used_after_a_deletion_is_new(publisher: Publisher) -> None:
    publisher.publication.delete(1)
    assert publisher.publication.touched == frozenset()
    update = publisher.build(model())
    assert update is not None and [o.id for o in update.objects] == [1]


def test_neighbours_are_those_whose_published_box_may_touch(publisher: Publisher) -> None:
    near, far = model(2, x=1.085), model(3, x=1.1)
    below = model(4, x=-1.08)
    aside = replace(model(5), grid=replace(model().grid, origin_m=np.array([0.0, 0.2, 0.0])))
    publisher.build(model(), near, far, below, aside)
    assert publisher.publication.neighbours(model()) == [2, 4]
