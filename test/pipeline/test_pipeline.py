"""The whole pipeline with real segmenters, on a rendered sequence and on a drawn one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from vos_ros import config as configuration
from vos_ros.config import Config
from vos_ros.pipeline import Pipeline
from vos_ros.sources.noise import PoseNoise
from vos_ros.types import (
    AssociationStatus,
    Box,
    Frame,
    FrameResult,
    Intrinsics,
    MapObject,
    MapUpdate,
    Mask,
    Points,
    Prompt,
    Scribble,
    TrackSource,
    TrackState,
)

SMALL = {
    "segmentation.device": "cpu",
    "segmentation.features.long_side": 128,
    "segmentation.features.channels": 24,
}
S = AssociationStatus


def config(**changes: object) -> Config:
    return configuration.from_flat(
        {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}}
    )


# -- a drawn world: textured squares that face the camera, before a wall

H, W, F = 96, 128, 100.0
CAMERA = Intrinsics(F, F, (W - 1) / 2, (H - 1) / 2, W, H)
SQUARES = {
    1: (-0.45, -0.25, (220, 60, 40)),
    2: (0.1, -0.1, (40, 90, 220)),
}  # id: left, top (m, at z = 1), colour
SIDE = 0.3
RATE_NS = 100_000_000


def corner(object_id: int, shift: float) -> tuple[int, int]:
    """x, y of a square's first pixel."""
    left, top, _ = SQUARES[object_id]
    return math.ceil((left - shift) * F + CAMERA.cx), math.ceil(top * F + CAMERA.cy)


def truth(object_id: int, shift: float = 0.0) -> np.ndarray:
    u, v = np.meshgrid(np.arange(W), np.arange(H))
    left, top, _ = SQUARES[object_id]
    x, y = (u - CAMERA.cx) / F + shift - left, (v - CAMERA.cy) / F - top
    return (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)


def pose(shift: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = shift
    return T


def frame(
    index: int,
    *,
    shift: float | None = None,
    shown: Iterable[int] = tuple(SQUARES),
    **fields: object,
) -> Frame:
    """Frame ``index`` at 10 Hz from a camera ``shift`` m to the right, 1 cm per frame if None."""
    shift = 0.01 * index if shift is None else shift
    rng = np.random.default_rng(index)
    rgb = rng.integers(90, 125, (H, W, 3), np.uint8)
    depth = np.full((H, W), 2.0, np.float32)
    for i in shown:
        on = truth(i, shift)
        texture = np.random.default_rng(i).integers(0, 40, (H, W), np.uint8)
        rgb[on] = np.clip(np.array(SQUARES[i][2]) - texture[on][:, None], 0, 255)
        depth[on] = 1.0
    given = {
        "index": index,
        "stamp_ns": 1_000_000_000 + index * RATE_NS,
        "rgb": rgb,
        "depth": depth,
        "intrinsics": CAMERA,
        "T_map_camera": pose(shift),
    }
    return Frame(**{**given, **fields})  # type: ignore[arg-type]


def plate(
    object_id: int,
    left: float,
    top: float,
    side: float = SIDE,
    z: float = 1.0,
    spacing: float = 0.005,
) -> MapObject:
    ticks = np.arange(spacing / 2, side, spacing)
    x, y = (a.ravel() for a in np.meshgrid(left + ticks, top + ticks))
    points = np.column_stack([x, y, np.full_like(x, z)]).astype(np.float32)
    T = np.eye(4)
    T[:3, 3] = points.mean(0)
    return MapObject(object_id, 10 + object_id, T, np.array([side, side, 0.0]), points, 0.0036)


def square(object_id: int) -> MapObject:
    return plate(object_id, *SQUARES[object_id][:2])


def snapshot(objects: Sequence[MapObject], revision: int = 1, session: str = "map") -> MapUpdate:
    return MapUpdate(500, session, revision, True, tuple(objects))


def started(objects: Sequence[MapObject] | None = None, **changes: object) -> Pipeline:
    pipeline = Pipeline(config(**changes), session_id="test")
    assert (
        pipeline.update_map(snapshot([square(i) for i in SQUARES] if objects is None else objects))
        == ""
    )
    return pipeline


def object_of(result: FrameResult) -> dict[int, int]:
    """track -> map object."""
    return {a.track_id: a.map_object_id for a in result.associations if a.track_id}


def mask_of(result: FrameResult, object_id: int) -> np.ndarray:
    """All pixels that are reported to be a map object."""
    named = object_of(result)
    values = [t.label_value for t in result.tracks if named[t.track_id] == object_id]
    return np.isin(result.labels(), values)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def status_of(result: FrameResult, object_id: int) -> AssociationStatus:
    (status,) = [a.status for a in result.associations if a.map_object_id == object_id]
    return status


def consistent(pipeline: Pipeline, f: Frame, result: FrameResult) -> None:
    """What every result must be, whatever went wrong."""
    assert result.stamp_ns == f.stamp_ns
    ids = tuple(t.track_id for t in result.tracks)
    assert result.segmentation.object_ids == ids and len(set(ids)) == len(ids) and 0 not in ids
    assert result.segmentation.probs.shape == (len(ids) + 1, *f.shape)
    sums = result.segmentation.probs.float().sum(0)
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    values = [t.label_value for t in result.tracks]
    assert len(set(values)) == len(values) and all(1 <= v <= 65534 for v in values)
    labels = result.labels()
    assert (
        labels.shape == f.shape
        and labels.dtype == np.uint16
        and set(np.unique(labels)) <= {0, *values}
    )
    for t in result.tracks:
        ys, xs = np.nonzero(labels == t.label_value)
        assert t.area_px == len(xs) and 0.0 <= t.score <= 1.0
        assert t.roi == (
            (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else (0, 0, 0, 0)
        )
        assert (t.misses == 0) == (t.area_px >= pipeline.config.tracking.min_px)
    reported = [a.track_id for a in result.associations if a.track_id]
    assert reported == list(ids)  # one association per track, in order
    alone = [a.map_object_id for a in result.associations if not a.track_id]
    assert len(set(alone)) == len(alone) and not set(alone) & {
        a.map_object_id for a in result.associations if a.track_id
    }
    in_map = {o.id for o in pipeline.map}
    assert {a.map_object_id for a in result.associations} <= {0, *in_map} and {
        p.object_id for p in result.projections
    } <= in_map
    matched = [a.map_object_id for a in result.associations if a.status == S.MATCHED]
    assert len(set(matched)) == len(matched) and 0 not in matched
    assert all(0.0 <= a.score <= 1.0 for a in result.associations)
    assert {o.track_id for o in result.observations} <= set(ids)
    for o in result.observations:
        assert (
            np.isfinite(o.points).all()
            and np.allclose(o.centroid, o.points.mean(0), atol=1e-4)
            and o.cov.shape == (3, 3)
        )
    assert {"segmentation", "total"} <= set(result.timings_ms) and all(
        v >= 0 for v in result.timings_ms.values()
    )
    assert {r.track_id for r in pipeline.tracks} >= set(pipeline.stages.segmenter.object_ids)


def step(pipeline: Pipeline, f: Frame) -> FrameResult:
    result = pipeline.step(f)
    consistent(pipeline, f, result)
    return result


# -- a rendered world


class Rendered:
    """A short synthetic sequence and its truth."""

    def __init__(self) -> None:
        from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec

        source = SyntheticSource(SyntheticSpec(seed=3, frames=10, width=240, height=180))
        self.map_frame, self.map = source.map_frame, source.map_snapshot()
        captures = [source.capture(i) for i in range(len(source))]
        self.frames, self.ids = [c.frame for c in captures], [c.ids for c in captures]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        yield self.map
        yield from self.frames


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    pytest.importorskip("open3d", reason="the synthetic world is rendered by Open3D")
    return Rendered()


def follow(pipeline: Pipeline, source: Rendered | PoseNoise) -> list[FrameResult]:
    results = []
    for item in source:
        if isinstance(item, MapUpdate):
            assert pipeline.update_map(item) == ""
        else:
            results.append(step(pipeline, item))
    return results


def scores(
    results: Sequence[FrameResult], ids: Sequence[np.ndarray], min_px: int = 60
) -> tuple[float, float]:
    """Mean IoU over (frame, object) and the share of tracks on an object that name it."""
    ious, right = [], []
    for result, true in zip(results, ids, strict=True):
        labels, named = result.labels(), object_of(result)
        for i in np.unique(true[true > 0]):
            on = true == i
            if on.sum() < min_px:
                continue
            ious.append(iou(mask_of(result, int(i)), on))
            right += [
                named[t.track_id] == i
                for t in result.tracks
                if iou(labels == t.label_value, on) >= 0.5
            ]
    return float(np.mean(ious)), float(np.mean(right))


RENDERED = {"segmentation__features__long_side": 256}


def test_with_given_poses_masks_and_ids_are_right(rendered: Rendered) -> None:
    mean_iou, accuracy = scores(follow(Pipeline(config(**RENDERED)), rendered), rendered.ids)
    assert mean_iou > 0.75 and accuracy == 1.0


def test_with_noisy_poses_masks_are_better_than_the_projection(rendered: Rendered) -> None:
    def noisy() -> PoseNoise:
        return PoseNoise(rendered, 0.05, 2.0, seed=1)

    baseline, _ = scores(
        follow(
            Pipeline(config(segmentation__method="null", pose__correction="off", **RENDERED)),
            noisy(),
        ),
        rendered.ids,
    )
    mean_iou, accuracy = scores(follow(Pipeline(config(**RENDERED)), noisy()), rendered.ids)
    assert mean_iou > max(0.72, baseline + 0.15) and accuracy >= 0.97


def test_without_depth_the_image_carries_what_the_pose_cannot(rendered: Rendered) -> None:
    class Blind(Rendered):
        def __init__(self) -> None:
            self.map_frame, self.map, self.ids = rendered.map_frame, rendered.map, rendered.ids
            self.frames = [replace(f, depth=None) for f in rendered.frames]

    def run(**changes: object) -> float:
        return scores(
            follow(Pipeline(config(**changes, **RENDERED)), PoseNoise(Blind(), 0.04, 2.0, seed=1)),
            rendered.ids,
        )[0]

    assert run() > run(segmentation__method="null") + 0.03


def test_two_runs_agree_to_the_bit(rendered: Rendered) -> None:
    runs = [follow(Pipeline(config(**RENDERED)), PoseNoise(rendered, 0.05, 2.0)) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert np.array_equal(a.labels(), b.labels()) and torch.equal(
            a.segmentation.probs, b.segmentation.probs
        )
        assert repr(a.associations) == repr(b.associations) and repr(a.tracks) == repr(b.tracks)
        assert np.array_equal(a.T_map_camera, b.T_map_camera)


def test_the_rest_of_an_object_joins_its_mask() -> None:
    """The map has the left half of a square; its mapper learns the rest later, or never."""
    whole = square(1)
    half = replace(whole, points=whole.points[whole.points[:, 0] < SQUARES[1][0] + SIDE / 2])

    def covered(pipeline: Pipeline, frames: range) -> float:
        for k in frames:
            result = pipeline.step(frame(k, shift=0.0))
        (track,) = [a.track_id for a in result.associations if a.map_object_id == 1]
        mask = result.labels() == next(t.label_value for t in result.tracks if t.track_id == track)
        return float((mask & truth(1)).sum() / (mask | truth(1)).sum())

    off, on = (started([half, square(2)], proposals__mode=mode) for mode in ("off", "depth"))
    assert covered(off, range(25)) < 0.6
    assert covered(on, range(25)) > 0.9
    moved = plate(1, SQUARES[1][0], SQUARES[1][1] - 0.2)
    assert len(on.stages.discovery.completed_objects(on.map)[0].points) > len(half.points)
    assert on.update_map(snapshot([moved, square(2)], 2)) == "" and len(
        on.stages.discovery.completed_objects(on.map)[0].points
    ) == len(moved.points)


# -- the life of a stream


@pytest.mark.parametrize("method", ["lwl", "null"])
def test_objects_of_the_map_are_seeded_followed_and_named(method: str) -> None:
    pipeline = started(segmentation__method=method)
    for i in range(6):
        result = step(pipeline, frame(i))
    assert sorted(object_of(result).values()) == [1, 2]
    for i in SQUARES:
        assert iou(mask_of(result, i), truth(i, 0.05)) > 0.85
        assert status_of(result, i) == S.MATCHED
    assert {t.state for t in result.tracks} == {TrackState.CONFIRMED} and {
        t.source for t in result.tracks
    } == {TrackSource.MAP}
    assert {t.class_id for t in result.tracks} == {11, 12} and {
        t.age_frames for t in result.tracks
    } == {6}
    assert len(result.observations) == 2
    for o in result.observations:
        left, top, _ = SQUARES[object_of(result)[o.track_id]]
        assert np.allclose(o.centroid, [left + SIDE / 2, top + SIDE / 2, 1.0], atol=0.02)
    assert (result.map_session_id, result.map_revision, result.map_stamp_ns, result.map_frame) == (
        "map",
        1,
        500,
        "map",
    )
    assert result.T_map_camera is not None and result.pose_cov is not None


def test_appearance_is_compared_with_what_was_certain_before() -> None:
    pipeline = started(segmentation__lwl__model="plain")
    similarities = []
    for i in range(8):
        result = step(pipeline, frame(i))
        similarities.append([a.appearance_similarity for a in result.associations])
    assert np.isnan(similarities[0]).all(), "nothing was learned before"
    assert min(similarities[-1]) > 0.8
    away = [step(pipeline, frame(i, shift=5.0)) for i in range(8, 10)]
    assert all(math.isnan(a.appearance_similarity) for a in away[-1].associations), (
        "no pixels, no appearance"
    )
    off = started(segmentation__lwl__model="plain", association__appearance_views=0)
    assert all(
        math.isnan(a.appearance_similarity)
        for i in range(8)
        for a in step(off, frame(i)).associations
    )


def test_a_track_is_tentative_before_it_is_matched() -> None:
    pipeline = started()
    status = [status_of(step(pipeline, frame(i)), 1) for i in range(5)]
    assert status == [S.TENTATIVE] * 3 + [S.MATCHED] * 2  # confirm_s = 0.3 at 10 Hz


def test_label_values_and_ids_stay_while_objects_come_and_go() -> None:
    pipeline = started([square(1)])
    first = step(pipeline, frame(0, shown=(1,)))
    assert pipeline.update_map(replace(snapshot([square(2)], 2), full=False)) == ""
    both = step(pipeline, frame(1))
    pipeline.remove([first.tracks[0].track_id])
    after = step(pipeline, frame(2))
    assert both.tracks[0].label_value == first.tracks[0].label_value
    assert both.tracks[1].track_id in {t.track_id for t in after.tracks}
    assert (
        len({t.track_id for r in (first, both, after) for t in r.tracks}) == 3
    )  # object 1 is seeded anew, under a new id


def test_an_object_behind_something_is_occluded_and_then_back() -> None:
    pipeline = started(tracking__segmenter_update_interval=1)
    for i in range(5):
        step(pipeline, frame(i, shift=0.0))
    hidden = frame(5, shift=0.0, shown=(2,))
    hidden.rgb[:, :64] = 60
    assert hidden.depth is not None
    hidden.depth[:, :64] = 0.4  # something near covers the left half
    for i in range(5, 20):
        result = step(pipeline, replace(hidden, index=i, stamp_ns=frame(i).stamp_ns))
    assert status_of(result, 1) == S.OCCLUDED and status_of(result, 2) == S.MATCHED
    (t,) = [t for t in result.tracks if object_of(result)[t.track_id] == 1]
    assert t.state == TrackState.OCCLUDED and t.misses > 5 and t.occluded > 0.9
    for i in range(20, 23):
        result = step(pipeline, frame(i, shift=0.0))
    assert status_of(result, 1) == S.MATCHED and t.track_id in object_of(result)


def test_an_object_out_of_view_keeps_its_track() -> None:
    pipeline = started(pose__correction="off")
    before = object_of([step(pipeline, frame(i, shift=0.0)) for i in range(5)][-1])
    for i in range(5, 10):
        away = step(pipeline, frame(i, shift=0.4 * (i - 4)))
    assert status_of(away, 1) == status_of(away, 2) == S.OUT_OF_VIEW
    for i in range(10, 15):
        back = step(pipeline, frame(i, shift=0.4 * (14 - i)))
    assert object_of(back) == before


def test_an_object_that_should_be_seen_and_is_not_gets_lost_and_is_recognised() -> None:
    pipeline = started(tracking__lost_s=0.3)
    before = object_of([step(pipeline, frame(i, shift=0.0)) for i in range(5)][-1])
    for i in range(5, 12):  # without a pose the map explains nothing: what isn't found is missing
        result = step(pipeline, frame(i, shift=0.0, shown=(2,), T_map_camera=None))
    assert (status_of(result, 1), status_of(result, 2)) == (S.LOST, S.TENTATIVE)
    assert {t.state for t in result.tracks if object_of(result)[t.track_id] == 1} == {
        TrackState.LOST
    }
    status = []
    for i in range(12, 15):
        result = step(pipeline, frame(i, shift=0.0))
        status.append(status_of(result, 1))
    assert status == [S.REIDENTIFIED, S.MATCHED, S.MATCHED] and object_of(result) == before


def test_an_object_whose_place_is_empty_is_absent_until_it_is_back() -> None:
    pipeline = started(association__absent_s=0.3)
    before = object_of([step(pipeline, frame(i)) for i in range(5)][-1])
    status = []
    for i in range(5, 16):
        result = step(pipeline, frame(i, shown=(2,)))
        status.append(status_of(result, 1))
        assert status_of(result, 2) == S.MATCHED
    assert S.ABSENT not in status[:3] and status[4:] == [S.ABSENT] * len(status[4:]), status
    assert S.LOST not in status
    hidden = frame(16, shown=(2,))
    assert hidden.depth is not None
    result = step(pipeline, replace(hidden, depth=np.minimum(hidden.depth, 0.5)))
    assert status_of(result, 1) == S.OCCLUDED, "a place that can't be seen isn't known to be empty"
    assert status_of(step(pipeline, frame(17, shown=(2,))), 1) == S.ABSENT, (
        "nothing spoke against it meanwhile"
    )
    for i in range(18, 24):
        result = step(pipeline, frame(i))
    assert status_of(result, 1) == S.MATCHED and object_of(result) == before


def test_an_absent_object_that_the_map_moves_is_followed_at_once() -> None:
    pipeline = started([plate(1, 0.3, 0.2), square(2)])
    for i in range(12):
        result = step(pipeline, frame(i, shift=0.0))
    assert status_of(result, 1) == S.ABSENT and not mask_of(result, 1).any()
    pipeline.update_map(MapUpdate(600, "map", 2, False, (square(1),)))
    assert iou(mask_of(step(pipeline, frame(12, shift=0.0)), 1), truth(1)) > 0.7


def test_an_object_that_the_map_invents_is_absent() -> None:
    invented = plate(9, -0.3, 0.15, side=0.25)
    pipeline = started([square(1), square(2), invented])
    for i in range(10):
        result = step(pipeline, frame(i))
    assert (status_of(result, 9), status_of(result, 1)) == (S.ABSENT, S.MATCHED)
    assert pipeline.update_map(snapshot([square(1), square(2), replace(invented)], 2)) == ""
    assert status_of(step(pipeline, frame(10)), 9) == S.ABSENT, "reported again, the same place"
    elsewhere = plate(9, -0.3, -0.4, side=0.25)
    assert pipeline.update_map(snapshot([square(1), square(2), elsewhere], 3)) == ""
    assert status_of(step(pipeline, frame(11)), 9) != S.ABSENT, (
        "a new place, of which nothing is known yet"
    )


def test_an_object_that_the_map_has_twice_is_reported_as_a_merge() -> None:
    twin = replace(square(1), id=3)
    pipeline = started([square(1), square(2), twin], association__identity_s=0.3)
    results = [step(pipeline, frame(i)) for i in range(12)]
    merges = {
        (a.map_object_id, a.status, a.related_ids)
        for a in results[-1].associations
        if a.track_id and a.status == S.MERGE
    }
    assert merges in ({(1, S.MERGE, (3,))}, {(3, S.MERGE, (1,))})
    assert status_of(results[-1], 2) == S.MATCHED
    assert not any(a.status == S.MERGE for r in results[:3] for a in r.associations)


def test_an_object_of_which_a_part_is_prompted_is_reported_as_a_split() -> None:
    both = np.vstack([square(1).points, square(2).points])
    pipeline = started([replace(square(1), points=both)], association__identity_s=0.3)
    for i in range(5):
        result = step(pipeline, frame(i))
    assert (
        status_of(result, 1) == S.MATCHED
        and iou(mask_of(result, 1), truth(1, 0.04) | truth(2, 0.04)) > 0.8
    )
    (part,) = pipeline.add_objects([(Mask(truth(2, 0.05)), 0)])
    for i in range(5, 16):
        result = step(pipeline, frame(i))
    (whole,) = [a for a in result.associations if a.status == S.SPLIT]
    assert whole.map_object_id == 1 and whole.related_ids == (part,)


# -- input that is missing or wrong


def test_without_pose_depth_and_map_nothing_happens() -> None:
    pipeline = Pipeline(config())
    for i in range(2):
        result = step(pipeline, frame(i, depth=None, T_map_camera=None))
        assert (
            result.tracks
            == result.associations
            == result.observations
            == result.projections
            == result.warnings
            == ()
        )


@pytest.mark.parametrize("method", ["lwl", "null"])
def test_frames_without_a_pose_are_followed_by_the_image(method: str) -> None:
    pipeline = started(segmentation__method=method)
    for i in range(5):
        step(pipeline, frame(i, shift=0.0))
    for i in range(5, 9):
        result = step(pipeline, frame(i, shift=0.0, T_map_camera=None))
    assert sorted(object_of(result).values()) == [1, 2]  # as before
    assert {a.status for a in result.associations} == {S.TENTATIVE}
    assert all(math.isnan(a.predicted_visible_fraction) for a in result.associations)
    assert result.projections == result.observations == () and result.T_map_camera is None
    assert iou(mask_of(result, 1), truth(1)) > 0.5
    assert {a.status for a in step(pipeline, frame(9, shift=0.0)).associations} == {S.MATCHED}


def test_frames_without_depth_are_no_problem() -> None:
    pipeline = started()
    for i in range(5):
        result = step(pipeline, frame(i, depth=None))
    assert result.observations == () and {a.status for a in result.associations} == {S.MATCHED}
    assert all(math.isnan(a.depth_inlier_ratio) for a in result.associations)
    assert iou(mask_of(result, 1), truth(1, 0.04)) > 0.85


def test_depth_that_is_not_a_number_is_unknown_depth() -> None:
    pipeline = started()
    for i in range(5):
        f = frame(i)
        assert f.depth is not None
        f.depth[::3] = np.nan
        f.depth[1::7] = np.inf
        f.depth[2::9] = -np.inf
        before = f.depth.copy()
        result = step(pipeline, f)
        assert np.array_equal(f.depth, before, equal_nan=True)
    assert {a.status for a in result.associations} == {S.MATCHED}
    assert iou(mask_of(result, 2), truth(2, 0.04)) > 0.85
    step(pipeline, frame(5, depth=np.full((H, W), np.nan, np.float32)))


def test_a_covariance_of_zero_is_an_exact_pose() -> None:
    result = step(started(), frame(0, pose_cov=np.zeros((6, 6))))
    assert result.warnings == () and iou(mask_of(result, 1), truth(1)) > 0.9


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": np.ones((H // 2, W // 2), np.float32)},
        {"intrinsics": Intrinsics(F, F, 160.0, 120.0, 320, 240)},
        {"T_map_camera": np.full((4, 4), np.nan)},
        {"pose_cov": np.full((6, 6), np.nan)},
        {"stamp_ns": 0},
    ],
    ids=["depth", "camera_info", "pose", "covariance", "stamp"],
)
def test_a_stream_goes_on_after_a_frame_that_is_wrong(bad: dict) -> None:
    pipeline = started()
    step(pipeline, frame(0))
    assert len(step(pipeline, frame(1, **bad)).warnings) == 1
    result = step(pipeline, frame(2))
    assert result.warnings == () and sorted(object_of(result).values()) == [1, 2]


@pytest.mark.parametrize("method", ["lwl", "null"])
def test_a_change_of_the_image_size_starts_the_masks_over(method: str) -> None:
    pipeline = started(segmentation__method=method)
    pipeline.add_objects([(Box(np.array([2, 60, 30, 90], np.float32)), 5)])
    before = [step(pipeline, frame(i, shift=0.0)) for i in range(5)][-1]
    half = Intrinsics(F / 2, F / 2, (W / 2 - 1) / 2, (H / 2 - 1) / 2, W // 2, H // 2)
    f = frame(5, shift=0.0)
    assert f.depth is not None
    # the camera looks away from object 2 at the same time, which thus cannot be seeded anew
    rgb, depth = f.rgb[::2, ::2].copy(), f.depth[::2, ::2].copy()
    rgb[:, 32:], depth[:, 32:] = 60, 0.3
    result = step(pipeline, replace(f, rgb=rgb, depth=depth, intrinsics=half))
    assert "128x96 to 64x48" in result.warnings[0]
    assert result.labels().shape == (H // 2, W // 2)
    assert object_of(result)[{v: k for k, v in object_of(before).items()}[1]] == 1  # the same track
    assert iou(mask_of(result, 1), truth(1)[::2, ::2]) > 0.7
    again = step(pipeline, frame(6, shift=0.0))
    assert "64x48 to 128x96" in again.warnings[0]
    assert {k: v for k, v in object_of(before).items() if v} == object_of(again)


def test_masks_follow_a_pose_that_jumps() -> None:
    pipeline = started(pose__correction="off")
    for i in range(5):
        step(pipeline, frame(i, shift=-0.3))
    result = step(pipeline, frame(5, shift=0.4))
    assert len(result.warnings) == 1 and "jumped by 0.70 m" in result.warnings[0]
    assert iou(mask_of(result, 2), truth(2, 0.4)) > 0.8
    assert step(pipeline, frame(6, shift=0.4)).warnings == ()


def test_objects_behind_the_camera_and_on_its_plane_are_out_of_view() -> None:
    objects = [
        plate(5, -0.1, -0.1, z=-1.0),
        plate(6, -0.1, -0.1, z=0.0),
        plate(7, 50.0, 0.0),
        square(1),
    ]
    result = step(started(objects), frame(0))
    assert list(object_of(result).values()) == [1]
    assert {status_of(result, i) for i in (5, 6, 7)} == {S.OUT_OF_VIEW}


def test_an_object_of_one_pixel_is_in_the_map_but_not_seeded() -> None:
    dot = replace(plate(9, 0.0, 0.0, side=0.005), point_radius=0.002)
    result = step(started([dot, square(1)]), frame(0))
    assert list(object_of(result).values()) == [1]
    assert status_of(result, 9) in (S.OCCLUDED, S.OUT_OF_VIEW)
    lenient = started(
        [dot], tracking__seed_min_px=1, tracking__seed_min_visible=0.0, tracking__min_px=1
    )
    for i in range(6):
        f = frame(i, shift=0.0, depth=None)
        step(lenient, f)


def many(n: int) -> list[MapObject]:
    side = 0.045
    columns = 24
    return [
        plate(
            i + 1, -0.62 + 0.052 * (i % columns), -0.46 + 0.07 * (i // columns), side, spacing=0.003
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("method", ["lwl", "null"])
def test_three_hundred_objects(method: str) -> None:
    pipeline = started(
        many(300),
        segmentation__method=method,
        tracking__seed_min_px=8,
        tracking__min_px=4,
        tracking__max_objects=64,
    )
    f = frame(0, shown=(), depth=np.ones((H, W), np.float32))
    result = step(pipeline, f)
    assert len(result.tracks) == 64 and len(result.projections) > 250
    assert len({a.map_object_id for a in result.associations}) == 300
    result = step(pipeline, replace(f, index=1, stamp_ns=f.stamp_ns + RATE_NS))
    assert len(result.tracks) == 64


def test_objects_that_left_the_view_make_room_for_those_that_come() -> None:
    """The camera passes more objects than may be followed at once, and comes back."""
    row = [plate(i + 1, 0.5 * i - 0.15, -0.15) for i in range(8)]
    pipeline = started(row, tracking__max_objects=3, pose__correction="off")
    firsts: dict[int, int] = {}
    for index, place in enumerate([*range(8), *range(7, -1, -1)]):
        for k in range(3):
            f = replace(frame(3 * index + k, shift=0.5 * place, shown=()), depth=None)
            result = step(pipeline, f)
            assert len(result.tracks) <= 3
        seen = {v: k for k, v in object_of(result).items() if v == place + 1}
        assert seen, f"object {place + 1} is in the middle of the view and not followed"
        assert firsts.setdefault(place + 1, seen[place + 1]) == seen[place + 1]


# -- what people ask for


def prompts(shift: float = 0.0) -> dict[str, Prompt]:
    x, y = corner(1, shift)
    side = int(SIDE * F)
    strokes = np.zeros((H, W), np.uint8)
    strokes[y + 14 : y + 16, x + 4 : x + 26] = 1
    strokes[y + 38 : y + 40, x + 4 : x + 26] = 2
    return {
        "Mask": Mask(truth(1, shift)),
        "Box": Box(np.array([x - 2, y - 2, x + side + 2, y + side + 2], np.float32)),
        "Points": Points(
            np.array([[x + 8, y + 8], [x + 20, y + 22]], np.float32), np.ones(2, bool)
        ),
        "Scribble": Scribble(strokes),
    }


@pytest.mark.parametrize("kind", ["Mask", "Box", "Points", "Scribble"])
@pytest.mark.parametrize("now", [True, False], ids=["on a frame", "on the next frame"])
def test_prompts_start_tracks(kind: str, now: bool) -> None:
    pipeline = Pipeline(config())
    (track,) = pipeline.add_objects([(prompts()[kind], 42)], frame(0, shift=0.0) if now else None)
    for i in range(5):
        result = step(pipeline, frame(i, shift=0.0, T_map_camera=None))
    (t,) = result.tracks
    assert (t.track_id, t.class_id, t.source, t.state) == (
        track,
        42,
        TrackSource.PROMPT,
        TrackState.CONFIRMED,
    )
    assert iou(result.labels() == t.label_value, truth(1)) > 0.6
    assert [(a.track_id, a.map_object_id, a.status) for a in result.associations] == [
        (track, 0, S.NEW)
    ]


def test_a_prompted_track_becomes_the_map_object_that_the_mapper_makes_of_it() -> None:
    pipeline = started([square(2)])
    (track,) = pipeline.add_objects([(prompts()["Mask"], 42)])
    for i in range(3):
        assert object_of(step(pipeline, frame(i, shift=0.0)))[track] == 0
    pipeline.update_map(MapUpdate(600, "map", 2, False, (square(1),)))
    for i in range(3, 9):
        result = step(pipeline, frame(i, shift=0.0))
        assert object_of(result)[track] == 1 and list(object_of(result).values()).count(1) == 1
    assert status_of(result, 1) == S.MATCHED and iou(mask_of(result, 1), truth(1)) > 0.85


def test_the_frame_given_is_left_as_it_was() -> None:
    pipeline = started()
    for i in range(5):
        f = frame(i)
        copies = [np.array(a) for a in (f.rgb, f.depth, f.T_map_camera)]
        step(pipeline, f)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(copies, (f.rgb, f.depth, f.T_map_camera), strict=True)
        )


def test_results_stay_as_they_were() -> None:
    pipeline = started()
    results = [step(pipeline, frame(i)) for i in range(3)]
    before = [(r.labels(), repr(r.associations), repr(r.tracks)) for r in results]
    for i in range(3, 9):
        step(pipeline, frame(i))
    pipeline.reset()
    assert all(
        np.array_equal(r.labels(), b[0]) and (repr(r.associations), repr(r.tracks)) == b[1:]
        for r, b in zip(results, before, strict=True)
    )


def test_an_object_for_which_there_is_no_room_is_not_reported_as_hidden() -> None:
    pipeline = started(tracking__max_objects=1, pose__correction="off")
    for i in range(3):
        result = step(pipeline, frame(i, shift=0.0))
    waiting = next(a for a in result.associations if a.track_id == 0)
    assert waiting.status == S.TENTATIVE and waiting.predicted_visible_fraction > 0.9
