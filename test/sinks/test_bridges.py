"""What other mappers are told: ids that stay with their things, and objects measured in the camera's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vos_ros.config import BridgesConfig, MappingConfig
from vos_ros.mapping.render import render
from vos_ros.sinks.bridges import NAMELESS, UNKNOWN_ROTATION, PersistentIds, id_image, landmarks
from vos_ros.types import (
    UNKNOWN_LABEL,
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    MapObject,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

S = AssociationStatus
H, W, F = 96, 128, 100.0
CAMERA = Intrinsics(F, F, (W - 1) / 2, (H - 1) / 2, W, H)


def track(i: int, **changes: object) -> Track:
    return replace(
        Track(
            i,
            i + 100,
            0,
            TrackState.CONFIRMED,
            TrackSource.MAP,
            1.0,
            9,
            0,
            500,
            (0, 0, 9, 9),
            1.0,
            0.0,
            0.0,
        ),
        **changes,
    )


def result(
    *said: tuple[int, int, AssociationStatus],
    session: str = "map",
    score: float = 0.9,
    **changes: object,
) -> FrameResult:
    """A frame's result of (track, object, status)."""
    tracks = tuple(track(t) for t, _, _ in said)
    nothing = Segmentation(tuple(t.track_id for t in tracks), torch.zeros(len(tracks) + 1, H, W))
    associations = tuple(Association(t, o, s, score, n_observations=20) for t, o, s in said)
    return replace(FrameResult(0, nothing, tracks, (), (), associations, session, 1), **changes)


def same(i: int) -> int:
    return i


# -- ids ------------------------------------------------------------------------------------------------------------------------------


def test_an_object_of_the_map_has_its_id_from_its_first_tentative_frame_whatever_track_follows_it():
    ids = PersistentIds()
    assert ids.shown(result((1, 7, S.TENTATIVE)), same) == {1: 7}
    assert ids.shown(result((1, 7, S.MATCHED)), same) == {1: 7}
    assert ids.shown(result((4, 7, S.MATCHED)), same) == {4: 7}


def test_what_began_without_an_object_keeps_its_id_when_the_mapper_makes_one_of_it_and_when_it_returns_under_another_track():
    ids = PersistentIds()
    assert ids.shown(result((3, 0, S.NEW)), same) == {3: NAMELESS + 3}
    assert ids.shown(result((3, 9, S.TENTATIVE)), same) == {3: NAMELESS + 3}
    assert ids.shown(result((3, 9, S.MATCHED)), same) == {3: NAMELESS + 3}
    assert ids.shown(result((5, 9, S.MATCHED)), same) == {5: NAMELESS + 3}


def test_a_guess_renames_nothing():
    ids = PersistentIds()
    ids.shown(result((3, 0, S.NEW), (1, 7, S.MATCHED)), same)
    assert ids.shown(result((3, 7, S.TENTATIVE), (1, 7, S.OCCLUDED)), same) == {
        1: 7,
        3: NAMELESS + 3,
    }
    assert ids.shown(result((3, 0, S.NEW), (1, 7, S.MATCHED)), same) == {1: 7, 3: NAMELESS + 3}


def test_no_id_is_given_twice_in_a_frame():
    ids = PersistentIds()
    split = result((1, 7, S.SPLIT), (2, 7, S.SPLIT))
    shown = ids.shown(split, same)
    assert shown[1] == 7 and shown[2] == NAMELESS + 2


def test_merged_objects_are_one():
    ids = PersistentIds()
    ids.shown(result((1, 7, S.MATCHED), (2, 8, S.MATCHED)), same)
    assert ids.shown(result((2, 7, S.MATCHED)), lambda i: 7 if i == 8 else i) == {2: 7}


def test_another_map_and_another_session_start_over():
    ids = PersistentIds()
    ids.shown(result((3, 0, S.NEW)), same)
    ids.shown(result((3, 9, S.MATCHED)), same)
    assert ids.shown(result((8, 9, S.MATCHED), session="another"), same) == {8: 9}
    ids.clear()
    assert ids.shown(result((3, 9, S.MATCHED)), same) == {3: 9}


def test_ids_that_are_no_int32_are_those_of_their_tracks():
    ids = PersistentIds()
    assert ids.shown(result((3, 2**32 - 1, S.MATCHED)), same) == {3: NAMELESS + 3}
    assert ids.shown(result((3, 2**32 - 1, S.MATCHED)), same) == {3: NAMELESS + 3}


def test_the_image_of_ids():
    labels = np.zeros((H, W), np.uint16)
    labels[:10], labels[20:30], labels[50:] = 101, 103, UNKNOWN_LABEL
    image = id_image(labels, [track(1), track(3)], {1: 7, 3: NAMELESS + 3})
    assert (
        image.dtype == np.int32
        and image.min() == 0
        and set(np.unique(image)) == {0, 7, NAMELESS + 3}
    )
    assert (image[:10] == 7).all() and (image[20:30] == NAMELESS + 3).all() and not image[50:].any()


# -- landmarks ------------------------------------------------------------------------------------------------------------------------


def plate(
    x: float = 0.0, y: float = 0.0, z: float = 1.0, side: float = 0.3, **changes: object
) -> MapObject:
    u, v = np.meshgrid(np.arange(-side / 2, side / 2, 0.004), np.arange(-side / 2, side / 2, 0.004))
    points = np.stack([u + x, v + y, np.full_like(u, z)], -1).reshape(-1, 3).astype(np.float32)
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return replace(MapObject(7, 1, T, np.array([side, side, 0.0]), points, 0.004), **changes)


def view(
    there: MapObject, mapped: MapObject, T: np.ndarray | None = None, **said: object
) -> tuple[Frame, np.ndarray, FrameResult]:
    """What a camera sees of ``there`` where the map has ``mapped``; the mask is perfect."""
    (seen,) = render([there], np.eye(4), CAMERA, config=MappingConfig())
    depth = np.where(seen.mask, seen.depth, np.float32(2.5)).astype(np.float32)
    depth[: H // 3] = 0.0  # and a part without measurement
    labels = np.where(seen.mask, 101, 0).astype(np.uint16)
    pose = np.eye(4) if T is None else T
    frame = Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, CAMERA, pose)
    said = {"score": 0.97, "n_observations": 30, **said}
    told = result((1, mapped.id, S.MATCHED))
    return (
        frame,
        labels,
        replace(
            told,
            projections=tuple(render([mapped], pose, CAMERA, config=MappingConfig())),
            T_map_camera=pose,
            associations=tuple(replace(a, **said) for a in told.associations),
        ),
    )


def test_a_landmark_is_where_the_frame_measured_it_not_where_the_map_has_it():
    there, mapped = plate(0.03, -0.02, 1.04), plate()
    frame, labels, told = view(there, mapped)
    (one,) = landmarks(frame, labels, told, {7: mapped}.get, BridgesConfig())
    assert one.object_id == 7
    np.testing.assert_allclose(one.T_camera_object[:3, 3], [0.03, -0.02, 1.04], atol=0.012)
    assert np.all(np.diag(one.cov)[:3] > 0) and np.all(
        np.abs(one.T_camera_object[:3, 3] - [0.03, -0.02, 1.04]) < 3 * np.sqrt(np.diag(one.cov)[:3])
    )
    np.testing.assert_array_equal(np.diag(one.cov)[3:], UNKNOWN_ROTATION)


def test_it_does_not_hang_on_the_pose_that_was_used():
    mapped, wrong = plate(), np.eye(4)
    wrong[:3, 3] = (
        0.04,
        0.0,
        -0.03,
    )  # the camera is said to stand there; in truth it stands at the origin
    right, off = (view(plate(), mapped, T) for T in (None, wrong))
    (a,), (b,) = (landmarks(*v, {7: mapped}.get, BridgesConfig()) for v in (right, off))
    np.testing.assert_allclose(b.T_camera_object[:3, 3], a.T_camera_object[:3, 3], atol=0.012)
    assert b.cov[0, 0] > a.cov[0, 0], "the mask and the projection agree less"


@pytest.mark.parametrize(
    "doubt",
    [
        {"score": 0.8},
        {"runner_up_score": 0.6, "runner_up_id": 3},
        {"n_observations": 3},
        {"status": S.TENTATIVE},
        {"status": S.REIDENTIFIED},
    ],
)
def test_what_is_in_doubt_is_no_landmark(doubt):
    mapped = plate()
    assert len(landmarks(*view(plate(), mapped), {7: mapped}.get, BridgesConfig())) == 1
    assert not landmarks(*view(plate(), mapped, **doubt), {7: mapped}.get, BridgesConfig())


def test_nor_is_what_moves_or_is_hidden_or_not_measured():
    mapped = plate()
    frame, labels, told = view(plate(), mapped)
    find, config = {7: mapped}.get, BridgesConfig()
    moving = replace(mapped, is_static=False)
    assert not landmarks(frame, labels, told, {7: moving}.get, config)
    assert not landmarks(
        frame, labels, replace(told, tracks=(track(1, visible=0.3),)), find, config
    )
    assert not landmarks(
        frame, labels, replace(told, tracks=(track(1, state=TrackState.TENTATIVE),)), find, config
    )
    assert not landmarks(replace(frame, depth=None), labels, told, find, config)
    assert not landmarks(
        replace(frame, depth=np.zeros_like(frame.depth)), labels, told, find, config
    )
    assert not landmarks(frame, labels, replace(told, T_map_camera=None), find, config)
    huge = replace(mapped, id=2**31)
    assert not landmarks(*view(plate(), huge), {2**31: huge}.get, config)
