from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import vos_ros.types
from vos_ros.types import (
    MAX_LABEL,
    UNKNOWN_LABEL,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    Observation,
    Projection,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
    label_image,
)

MSG = Path(__file__).resolve().parents[1] / "msg"


def segmentation(ids: tuple[int, ...], winner: np.ndarray) -> Segmentation:
    probs = (
        torch.nn.functional.one_hot(torch.from_numpy(winner), len(ids) + 1).permute(2, 0, 1).float()
    )
    return Segmentation(ids, probs)


def test_values_are_frozen_slotted_and_compared_by_identity() -> None:
    classes = [c for _, c in inspect.getmembers(vos_ros.types, dataclasses.is_dataclass)]
    assert len(classes) > 12
    for c in classes:
        assert (
            hasattr(c, "__slots__")
            and c.__dataclass_params__.frozen
            and not c.__dataclass_params__.eq
        ), c
        assert c.__doc__ and not c.__doc__.startswith(c.__name__ + "("), (
            f"{c} has no docstring of its own"
        )


def test_the_camera_matrix() -> None:
    k = Intrinsics(500.0, 510.0, 320.0, 240.0, 640, 480).matrix()
    assert np.allclose(k @ [0.1, -0.2, 2.0], [50 + 640, -102 + 480, 2.0])


def test_labels_are_object_ids_or_the_values_asked_for() -> None:
    winner = np.array([[0, 1, 2], [2, 2, 0]])
    s = segmentation((70, 9), winner)
    assert s.labels().tolist() == [[0, 70, 9], [9, 9, 0]]
    assert s.labels().dtype == np.uint16
    assert s.labels({70: 1, 9: MAX_LABEL}).tolist() == [
        [0, 1, MAX_LABEL],
        [MAX_LABEL, MAX_LABEL, 0],
    ]
    assert segmentation((), np.zeros((2, 2), np.int64)).labels().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("value", [0, -1, UNKNOWN_LABEL, 100_000])
def test_label_values_that_do_not_fit_are_refused(value: int) -> None:
    s = segmentation((5,), np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="65534"):
        s.labels({5: value})
    if value:
        with pytest.raises(ValueError, match="label_values"):
            segmentation((value,), np.zeros((2, 2), np.int64)).labels()


def test_a_projection_s_crop_lies_where_its_roi_says() -> None:
    mask = np.array([[True, False], [True, True]])
    p = Projection(
        3,
        (5, 6),
        (4, 2, 6, 4),
        mask,
        np.ones((2, 2), bool),
        np.full((2, 2), 1.5, np.float32),
        0.75,
        0.25,
        0.0,
    )
    assert p.area_px == 3 and p.mask.shape == p.depth.shape == (5, 6)
    assert np.array_equal(p.mask[2:4, 4:6], mask) and p.mask.sum() == 3
    assert p.depth[2:4, 4:6].min() == 1.5 and np.count_nonzero(p.depth) == 4


def test_the_label_image_of_a_result_has_the_tracks_values() -> None:
    s = segmentation((70, 9), np.array([[0, 1, 2]]))
    tracks = tuple(
        Track(
            i,
            v,
            1,
            TrackState.CONFIRMED,
            TrackSource.MAP,
            1.0,
            1,
            0,
            1,
            (0, 0, 1, 1),
            1.0,
            0.0,
            0.0,
        )
        for i, v in ((70, 4), (9, 5))
    )
    result = FrameResult(0, s, tracks, (), (), ())
    assert result.labels().tolist() == [[0, 4, 5]]
    fused = dataclasses.replace(result, instance_index=np.array([[2, 0, 1]], np.uint8))
    assert fused.labels().tolist() == [[5, 0, 4]], "what image and map say together counts"


@pytest.mark.parametrize("count", [1, 255, 256, 300])
def test_a_label_image_of_any_number_of_instances(count: int) -> None:
    index = np.arange(count + 1, dtype=np.uint8 if count < 256 else np.int16)[None]
    values = [1000 + 3 * i for i in range(count)]
    labels = label_image(index, values)
    assert labels.dtype == np.uint16 and labels.tolist() == [[0, *values]]


def test_an_observation_has_the_mean_and_the_covariance_of_its_points() -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(50, 3)) * [0.1, 0.2, 0.4] + [100.0, -3.0, 7.0]).astype(np.float32)
    o = Observation.of(5, points, 0.75)
    assert (o.track_id, o.score, o.points is points, o.embedding) == (5, 0.75, True, None)
    exact = points.astype(np.float64)
    np.testing.assert_allclose(o.centroid, exact.mean(0), atol=1e-9)
    np.testing.assert_allclose(o.cov, np.cov(exact.T), atol=1e-9)


def test_the_shape_of_a_frame_is_height_and_width() -> None:
    rgb = np.zeros((5, 7, 3), np.uint8)
    assert Frame(0, 0, rgb, None, Intrinsics(1.0, 1.0, 0.0, 0.0, 7, 5)).shape == (5, 7)


def test_more_objects_than_a_byte_names_have_their_labels() -> None:
    ids = tuple(range(1000, 1300))
    winner = np.array([[0, 1, 255, 256, 300]])
    assert segmentation(ids, winner).labels().tolist() == [[0, 1000, 1254, 1255, 1299]]


def test_every_field_of_a_value_is_described() -> None:
    tree = ast.parse(Path(vos_ros.types.__file__).read_text())
    for c in (n for n in tree.body if isinstance(n, ast.ClassDef) and n.decorator_list):
        for field, after in zip(c.body, [*c.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant), (
                    f"{c.name}.{ast.unparse(field.target)}"
                )


@pytest.mark.parametrize(
    ("enum", "message", "prefix"),
    [
        (TrackState, "Instance", ""),
        (TrackSource, "Instance", ""),
        (AssociationStatus, "Association", ""),
    ],
)
def test_enumerations_have_the_values_of_the_messages(
    enum: type, message: str, prefix: str
) -> None:
    text = (MSG / f"{message}.msg").read_text()
    constants = {
        name: int(value) for name, value in re.findall(r"^uint8\s+(\w+)\s*=\s*(\d+)", text, re.M)
    }
    for member in enum:  # type: ignore[attr-defined]
        matching = [
            v for n, v in constants.items() if n == member.name or n.endswith("_" + member.name)
        ]
        assert member.value in matching, f"{member!r} is not in {message}.msg: {constants}"
