"""EvidenceCollector: what one frame shows of tracks and map objects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.pipeline_values import (
    CAMERA,
    H,
    W,
    config,
    covariance,
    frame,
    instance_masks,
    map_object,
    map_view,
    match,
    no_pose,
    pose,
    projection,
    rect,
    track_manager,
)

from vos_ros.association.interface import FrameEvidence
from vos_ros.pipeline.evidence_collector import EvidenceCollector, sample_surfaces
from vos_ros.pipeline.map_view import Lattice, MapView
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import MapChange, TrackState

A, B = rect(4, 4, 28, 28), rect(34, 20, 58, 44)
MASKS = instance_masks({1: A, 2: B})
OBJECTS = (map_object(1, A), map_object(2, B))
VIEW = map_view(projection(1, A, z=1.0), projection(2, B, z=1.0), pose_cov=covariance(0.0, 0.0))
FRAME = frame(depth=np.where(A | B, 1.0, 2.0).astype(np.float32))


def features(a: tuple[float, ...] = (1, 0, 0), b: tuple[float, ...] = (0, 1, 0)) -> torch.Tensor:
    """A feature map of one value per pixel of A, B and the rest."""
    out = np.zeros((3, H, W), np.float32)
    out[2] = 1.0
    out[:, A], out[:, B] = np.array(a)[:, None], np.array(b)[:, None]
    return torch.from_numpy(out)


def collector(**association: object) -> EvidenceCollector:
    c = config(**{f"association__{k}": v for k, v in association.items()})
    return EvidenceCollector(c.association, c.mapping)


def confirmed(objects: dict[int, int]) -> TrackManager:
    return track_manager(objects, state=TrackState.CONFIRMED)


def collect(
    c: EvidenceCollector,
    tracks: TrackManager | None = None,
    view: MapView = VIEW,
    **changes: object,
) -> FrameEvidence:
    given = {
        "frame": FRAME,
        "masks": MASKS,
        "objects": OBJECTS,
        "features": features(),
        **changes,
    }
    tracks = confirmed({1: 1, 2: 2}) if tracks is None else tracks
    return c.collect(view=view, tracks=tracks, **given)  # type: ignore[arg-type]


# -- what is handed on


def test_masks_and_predictions_are_handed_on() -> None:
    e = collect(collector(), confirmed({1: 7, 2: 0}))
    assert e.instance_index is MASKS.instance_index and e.track_ids == (1, 2)
    assert e.boxes == {1: (4, 4, 28, 28), 2: (34, 20, 58, 44)}
    assert e.predicted_pixels is VIEW.predicted_pixels
    assert e.current_match == {1: 7, 2: 0}
    assert e.objects == {1: OBJECTS[0], 2: OBJECTS[1]}


def test_the_frame_has_the_pose_that_was_used() -> None:
    view = map_view(T_map_camera=pose(0.1), pose_cov=covariance(0.3, 0.2))
    e = collect(collector(), view=view)
    assert e.frame is not None and e.frame.rgb is FRAME.rgb
    assert e.frame.T_map_camera is view.T_map_camera and e.frame.pose_cov is view.pose_cov


def test_a_track_has_the_class_of_its_object_or_of_its_prompt() -> None:
    tracks = confirmed({1: 1, 2: 0})
    tracks[1].class_id, tracks[2].class_id = 5, 6
    assert collect(collector(), tracks).track_classes == {1: 11, 2: 6}
    tracks[1].map_object_id = 9  # not in the map
    assert collect(collector(), tracks).track_classes == {1: 5, 2: 6}


def test_measured_pixels_are_those_of_the_view_or_of_the_depth() -> None:
    holes = FRAME.depth * (np.arange(W) > 9)  # type: ignore[operator]
    f = frame(depth=holes.astype(np.float32))
    e = collect(collector(), frame=f)
    assert e.measured is not None and np.array_equal(e.measured, holes > 0)
    view = replace(VIEW, measured=np.ones((H, W), bool))
    assert collect(collector(), view=view, frame=f).measured is view.measured
    assert collect(collector(), frame=frame(depth=None)).measured is None


# -- surfaces and motion


def test_measured_surfaces_are_compared_with_those_of_the_map() -> None:
    e = collect(collector())
    assert e.overlaps_3d[1, 1] == 1.0 == e.overlaps_3d[2, 2]
    assert (1, 2) not in e.overlaps_3d and (2, 1) not in e.overlaps_3d


def test_an_uncertain_pose_reaches_farther() -> None:
    """The surfaces are measured 20 cm in front of the map's."""
    near = frame(depth=np.full((H, W), 0.8, np.float32))
    assert collect(collector(), frame=near).overlaps_3d == {}
    moved = replace(VIEW, pose_cov=covariance(0.25, 0.0))
    assert collect(collector(), view=moved, frame=near).overlaps_3d[1, 1] == 1.0
    turned = replace(VIEW, pose_cov=covariance(0.0, 0.3))  # 0.8 m x 0.3 rad
    assert collect(collector(), view=turned, frame=near).overlaps_3d[1, 1] == 1.0
    unknown = replace(VIEW, pose_cov=None)
    assert collect(collector(), view=unknown, frame=near).overlaps_3d == {}


def test_the_lever_arm_is_that_of_the_track() -> None:
    """A rotation moves far points more than near ones; the camera is not at the map's origin."""
    cov = np.diag([0.0, 0, 0, 0.04, 0.04, 0.04])
    far = replace(VIEW, T_map_camera=pose(100.0), pose_cov=cov)
    depth = np.where(A, 0.5, 2.0).astype(np.float32)
    c = collector()
    collect(c, view=far, frame=frame(depth=depth))
    e = collect(c, view=replace(far, T_map_camera=pose(100.3)), frame=frame(depth=depth))
    assert e.consistency[1] < 0.5 < e.consistency[2]


def test_a_track_that_jumps_is_not_consistent() -> None:
    c = collector()
    assert collect(c).consistency == pytest.approx({1: 1.0, 2: 1.0})
    assert collect(c).consistency == pytest.approx({1: 1.0, 2: 1.0})
    jumped = instance_masks({1: rect(40, 4, 64, 28), 2: B})
    e = collect(c, masks=jumped)
    assert e.consistency[1] < 0.3 and e.consistency[2] > 0.95


def test_the_place_of_a_track_that_ended_is_forgotten() -> None:
    c = collector()
    collect(c)
    only = instance_masks({2: B})
    collect(c, confirmed({1: 1, 2: 2}), masks=only)
    far = instance_masks({1: rect(40, 0, 64, 16), 2: B})
    assert collect(c, masks=far).consistency[1] < 0.5, "it lives on"
    tracks = confirmed({1: 1, 2: 2})
    tracks.remove([1])
    collect(c, tracks, masks=only)
    assert collect(c, masks=instance_masks({1: A, 2: B})).consistency[1] == 1.0


@pytest.mark.parametrize("view", [VIEW, no_pose()], ids=["no depth", "no pose"])
def test_without_depth_or_pose_there_are_no_surfaces(view: MapView) -> None:
    f = frame(depth=None) if view is VIEW else FRAME
    assert sample_surfaces(f, view, MASKS).track_ids == ()
    e = collect(collector(), view=view, frame=f)
    assert e.overlaps_3d == {} == e.consistency


def test_samples_are_points_of_the_map_frame() -> None:
    T = pose(0.5, turned_deg=90.0)
    samples = sample_surfaces(FRAME, map_view(T_map_camera=T), MASKS)
    assert samples.track_ids == (1, 2) and samples.count.tolist() == [16, 16]
    x = (np.arange(6, 28, 6).mean() - CAMERA.cx) / 100
    y = (np.arange(6, 28, 6).mean() - CAMERA.cy) / 100
    assert samples.mean[0] == pytest.approx([1.0 + 0.5, y, -x], abs=1e-5)


def test_a_track_of_fewer_than_four_samples_has_no_place() -> None:
    small, enough = rect(0, 0, 7, 6), rect(30, 0, 37, 7)  # 2 x 1 and 2 x 2 lattice points
    samples = sample_surfaces(FRAME, VIEW, instance_masks({1: small, 2: enough}))
    assert samples.track_ids == (2,) and samples.count.tolist() == [4]


def test_the_lattice_of_the_view_is_taken_where_there_is_one() -> None:
    some = Lattice(np.array([6 * W + 6] * 4), np.zeros((4, 3), np.float32))
    samples = sample_surfaces(FRAME, replace(VIEW, lattice=some), MASKS)
    assert samples.track_ids == (1,) and not samples.mean.any()
    liftable = A.copy()
    assert sample_surfaces(FRAME, replace(VIEW, liftable=liftable), MASKS).track_ids == (1,)


# -- appearance


def learned(c: EvidenceCollector, tracks: TrackManager | None = None, **terms: float) -> bool:
    """Whether the frame after one in which track 1 matches object 1 knows how that looks."""
    tracks = confirmed({1: 1, 2: 2}) if tracks is None else tracks
    collect(c, tracks)
    c.learn([match(1, 1, **{"score": 0.99, **terms})], tracks, VIEW)
    return (1, 1) in collect(c, tracks).similarities


def test_a_certain_match_teaches_how_its_object_looks() -> None:
    c, tracks = collector(), confirmed({1: 1, 2: 2})
    assert collect(c, tracks).similarities == {}
    c.learn([match(1, 1, 0.99), match(2, 2, 0.99)], tracks, VIEW)
    e = collect(c, tracks)
    assert set(e.similarities) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert e.similarities[1, 1] == pytest.approx(1.0) == e.similarities[2, 2]
    assert e.similarities[1, 2] < 0.5
    assert e.descriptors[1] == pytest.approx([1, 0, 0]) and set(e.descriptors) == {1, 2}


def test_an_uncertain_match_teaches_nothing() -> None:
    assert learned(collector(appearance_min_score=0.9), score=0.9)
    assert not learned(collector(appearance_min_score=0.9), score=0.89)


def test_only_the_object_that_the_track_is_associated_with_learns() -> None:
    assert not learned(collector(), confirmed({1: 2, 2: 0}))


@pytest.mark.parametrize("state", [TrackState.TENTATIVE, TrackState.OCCLUDED, TrackState.LOST])
def test_only_confirmed_tracks_teach(state: TrackState) -> None:
    assert not learned(collector(), track_manager({1: 1, 2: 2}, state=state))


def test_a_view_that_is_known_teaches_nothing() -> None:
    assert not learned(collector(), similarity=0.96)
    assert learned(collector(), similarity=0.9) and learned(collector(), similarity=math.nan)


def test_a_hidden_object_teaches_nothing() -> None:
    for visible, teaches in ((0.5, True), (0.49, False)):
        c, tracks = collector(), confirmed({1: 1, 2: 2})
        collect(c, tracks)
        p = projection(1, A, visible=visible, occluded=1 - visible)
        c.learn([match(1, 1, 0.99)], tracks, map_view(p))
        assert ((1, 1) in collect(c, tracks).similarities) == teaches
    c = collector()
    collect(c)
    c.learn([match(1, 1, 0.99)], confirmed({1: 1, 2: 2}), map_view())
    assert collect(c).similarities == {}, "nor one out of view"


def test_a_track_without_a_match_or_without_pixels_teaches_nothing() -> None:
    c, tracks = collector(), confirmed({1: 1, 2: 2})
    collect(c, tracks, masks=instance_masks({1: rect(0, 0, 0, 0), 2: B}))
    c.learn([match(1, 1, 0.99), match(2)], tracks, VIEW)
    assert collect(c, tracks).similarities == {}


def test_appearance_is_of_the_frame_just_collected() -> None:
    c, tracks = collector(), confirmed({1: 1, 2: 2})
    collect(c, tracks)
    collect(c, tracks, features=None)
    c.learn([match(1, 1, 0.99)], tracks, VIEW)
    assert collect(c, tracks).similarities == {}


def test_without_features_or_views_there_is_no_appearance() -> None:
    c = collector(appearance_views=0)
    assert not learned(c) and collect(c).descriptors == {}
    e = collect(collector(), features=None)
    assert e.descriptors == {} == e.similarities


def test_a_new_map_session_forgets_how_objects_look() -> None:
    c = collector()
    assert learned(c)
    c.follow_map(MapChange(changed=((OBJECTS[0], OBJECTS[0]),)))
    assert (1, 1) in collect(c).similarities
    c.follow_map(MapChange(new_session=True))
    assert collect(c).similarities == {}


def test_an_object_that_left_the_map_is_forgotten() -> None:
    c = collector()
    assert learned(c)
    assert collect(c, objects=OBJECTS[1:]).similarities == {}
    assert collect(c).similarities == {}
