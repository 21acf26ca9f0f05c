"""Scenes of the synthetic world: what stands where, what is hidden, and what is taken away."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from vos_ros.evaluation.score import read_truth
from vos_ros.synthetic import scenes
from vos_ros.synthetic.sensor import camera_pose
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

pytest.importorskip("open3d")
SMALL = {"width": 160, "height": 120}


def test_the_table_is_set_out_as_ever() -> None:
    """Results are compared with older ones: poses of objects and camera stay as they were."""
    source = SyntheticSource(SyntheticSpec(seed=3, frames=1, **SMALL))
    numbers = [
        *(o.T_map_object for o in source.objects),
        *(camera_pose(3, t) for t in (0.0, 1.7, 3.3)),
    ]
    digest = hashlib.sha256((np.round(np.array(numbers), 6) + 0.0).tobytes()).hexdigest()
    assert [o.name for o in source.objects][-1] == "book_small" and len(source.objects) == 14
    assert digest.startswith("caa28454156f")


@pytest.mark.slow
def test_twins_pass_each_other_while_the_box_hides_them() -> None:
    source = SyntheticSource(
        SyntheticSpec(seed=11, frames=30, rate_hz=4.0, scene="crossing", **SMALL)
    )
    names = {o.name: o for o in source.objects}
    near, far = names["mug_a"], names["mug_b"]
    assert near.alike_group == far.alike_group == "mug" and len(names) >= 6
    assert np.allclose(near.T_map_object[:3, :3], far.T_map_object[:3, :3]), "turned alike"
    order, hidden = [], 0
    for i in range(len(source)):
        ids = source.capture(i).ids
        places = [np.nonzero(ids == o.id)[1] for o in (near, far)]
        if all(len(p) > 25 for p in places):
            order.append(places[0].mean() < places[1].mean())
        hidden += all(len(p) < 25 for p in places)
    assert np.count_nonzero(np.diff(np.array(order))) >= 1, "they change sides"
    assert hidden >= 1, "both are hidden between"


@pytest.mark.slow
def test_what_is_taken_away_was_seen_and_stays_in_the_map(tmp_path: Path) -> None:
    source = SyntheticSource(
        SyntheticSpec(seed=12, frames=14, rate_hz=2.0, scene="removed", **SMALL)
    )
    gone_ns = source.removed_ns
    assert len(gone_ns) == scenes.REMOVED_OBJECTS and set(gone_ns) <= {
        o.id for o in source.map_snapshot().objects
    }
    before, after = set(), set()
    for i in range(len(source)):
        capture = source.capture(i)
        shown = set(np.unique(capture.ids).tolist())
        (after if capture.frame.stamp_ns >= min(gone_ns.values()) else before).update(shown)
    assert set(gone_ns) <= before and not set(gone_ns) & after and len(after) > 5
    write_folder(
        SyntheticSource(
            SyntheticSpec(seed=12, frames=14, rate_hz=2.0, scene="removed", width=64, height=48)
        ),
        tmp_path,
    )
    assert read_truth(tmp_path).removed_ns == gone_ns and read_truth(tmp_path).alike == {
        2: "mug",
        3: "mug",
    }


@pytest.mark.slow
def test_nothing_is_taken_away_before_its_time_or_on_the_table(tmp_path: Path) -> None:
    assert (
        SyntheticSource(SyntheticSpec(seed=12, frames=5, scene="removed", **SMALL)).removed_ns == {}
    )
    source = SyntheticSource(SyntheticSpec(seed=3, frames=1, **SMALL))
    write_folder(source, tmp_path)
    assert source.removed_ns == {} and not any(
        "removed_s" in o for o in json.loads((tmp_path / "objects.json").read_text())
    )


def test_the_same_seed_takes_the_same_away() -> None:
    assert scenes.removed(5, [9, 2, 7, 4, 1, 3]) == scenes.removed(5, (1, 2, 3, 4, 7, 9))
    assert len({scenes.removed(s, range(1, 15)) for s in range(8)}) > 4
    with pytest.raises(ValueError, match="scene: got 'garden'"):
        SyntheticSpec(scene="garden")
