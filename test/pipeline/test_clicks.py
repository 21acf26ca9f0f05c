"""From a clicked point in space to a click in the image, and what is said of wrong ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import squares

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import unproject
from vos_ros.mapping.render import render
from vos_ros.pipeline.clicks import SeenFrame, check_clicks, click_on
from vos_ros.types import Points

CONFIG = MappingConfig()
SHIFT = np.array([10.0, -20.0, 30.0])


def seen(**changes: Any) -> SeenFrame:
    """Return the squares seen from ``SHIFT``: square 1 is followed as track 7 with label 3."""
    labels = np.zeros((squares.H, squares.W), np.uint16)
    x0, y0, x1, y1 = squares.BOXES[1]
    labels[y0:y1, x0:x1] = 3
    T = np.eye(4)
    T[:3, 3] = SHIFT
    frame = replace(squares.frame_at(squares.START), T_map_camera=T)
    values: dict[str, Any] = {
        "frame": frame,
        "labels": labels,
        "track_of": {3: 7},
        "T_map_camera": T,
        "pose_cov": None,
        "projections": (),
    }
    return SeenFrame(**values | changes)


def lifted(x: float, y: float, z: float) -> np.ndarray:
    """Return the point in the camera's frame that is seen at a pixel, z m away."""
    return unproject(np.array([[x, y]]), np.array([z]), squares.CAMERA)[0]


@pytest.mark.parametrize("in_map", [False, True])
def test_a_point_is_projected_into_the_image(in_map: bool) -> None:
    point = lifted(60.2, 45.4, 1.05) + (SHIFT if in_map else 0)
    click = click_on(point, seen(), in_map=in_map, config=CONFIG)
    np.testing.assert_array_equal(click.xy, np.float32([[60, 45]]))
    assert click.positive.tolist() == [True]


def test_a_click_next_to_the_edge_of_its_surface_is_moved_onto_it() -> None:
    x0, *_ = squares.BOXES[2]
    click = click_on(lifted(x0 - 2, 45, 1.0), seen(), in_map=False, config=CONFIG)
    np.testing.assert_array_equal(click.xy, np.float32([[x0, 45]]))


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (np.array([0.0, 0.0, -1.2]), "behind the camera (z = -1.20 m"),
        (lifted(200, 45, 1.0), "outside the 128x96 image, at pixel (200, 45)"),
        (
            lifted(64, 48, 1.9),
            "hidden behind a wall or another object: at pixel (64, 48) the",
        ),
        (lifted(5, 5, 1.0), "nothing stands there: at pixel (5, 5) the depth is 2.00 m"),
        (np.array([np.nan, 0.0, 1.0]), "not finite"),
    ],
)
def test_what_is_wrong_with_a_point_is_said(point: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        click_on(point, seen(), in_map=False, config=CONFIG)
    assert said in str(caught.value)


def test_a_point_of_the_map_needs_a_pose_and_one_of_the_camera_does_not() -> None:
    without = seen(T_map_camera=None)
    with pytest.raises(ValueError, match=r"no camera pose.*'camera_optical'"):
        click_on(lifted(60, 45, 1.0) + SHIFT, without, in_map=True, config=CONFIG)
    click_on(lifted(60, 45, 1.0), without, in_map=False, config=CONFIG)


def test_an_uncertain_pose_allows_larger_differences_of_depth() -> None:
    point = lifted(60, 45, 1.3) + SHIFT
    with pytest.raises(ValueError, match="hidden"):
        click_on(point, seen(), in_map=True, config=CONFIG)
    uncertain = seen(pose_cov=0.15**2 * np.eye(6))
    click_on(point, uncertain, in_map=True, config=CONFIG)


def test_the_sky_has_no_surface_unless_the_map_has_one_there() -> None:
    sky = replace(seen().frame, depth=np.zeros((squares.H, squares.W), np.float32))
    with pytest.raises(ValueError, match=r"no surface is measured at pixel \(60, 45\)"):
        click_on(lifted(60, 45, 1.0), seen(frame=sky), in_map=False, config=CONFIG)
    mapped = tuple(render(squares.map_objects(), np.eye(4), squares.CAMERA))
    click_on(lifted(60, 45, 1.0), seen(frame=sky, projections=mapped), in_map=False, config=CONFIG)


def test_without_depth_the_map_tells_what_is_hidden() -> None:
    blind = replace(seen().frame, depth=None)
    point = lifted(60, 45, 1.8)
    click_on(point, seen(frame=blind), in_map=False, config=CONFIG)
    mapped = tuple(render(squares.map_objects(), np.eye(4), squares.CAMERA))
    with pytest.raises(ValueError, match=r"behind map object 2: the map has it 1\.00 m away"):
        click_on(point, seen(frame=blind, projections=mapped), in_map=False, config=CONFIG)


def points(*xy: tuple[int, int], positive: tuple[bool, ...] = ()) -> Points:
    return Points(np.array(xy, np.float32), np.array(positive or [True] * len(xy)))


def test_a_click_on_a_followed_object_names_its_track() -> None:
    click = points((20, 40))
    assert seen().owners(click, {7}) == (7,)
    with pytest.raises(ValueError, match="already followed, as track 7"):
        check_clicks(click, (7,), ())
    assert seen().owners(click, set()) == (0,), "a track that has ended owns nothing"
    check_clicks(points((20, 40), (60, 40), positive=(False, True)), (7, 0), ())


def test_clicks_on_two_objects_are_refused() -> None:
    two = points((20, 40), (60, 40))
    with pytest.raises(ValueError, match="2 objects, tracks 7 and 9"):
        check_clicks(two, (9, 7), ())
    mapped = render(squares.map_objects(), np.eye(4), squares.CAMERA)
    with pytest.raises(ValueError, match="2 map objects, 1 and 2"):
        check_clicks(two, (0, 0), mapped)
    check_clicks(points((20, 40), (60, 40), positive=(True, False)), (0, 0), mapped)
