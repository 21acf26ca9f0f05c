"""Places of tracks: learned where mask and surface agree, and left by tracks that drift."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.grid import Grid, grid_of
from vos_ros.discovery.places import TrackPlaces, voxels_of
from vos_ros.geometry.voxels import with_neighbours
from vos_ros.types import Intrinsics

CAMERA = Intrinsics(100.0, 100.0, 79.5, 59.5, 160, 120)
HOME = np.eye(4)


def wall(z: float = 1.0) -> Grid:
    """A wall in front of the camera: a cell per pixel, 1 cm apart at 1 m."""
    return grid_of(np.full((120, 160), z, np.float32), CAMERA, ProposalsConfig())


def square(x: int, y: int, side: int = 20, value: int = 1) -> np.ndarray:
    cells = np.zeros((120, 160), np.int32)
    cells[y : y + side, x : x + side] = value
    return cells


def place_of(cells: np.ndarray, grid: Grid, T: np.ndarray = HOME) -> np.ndarray:
    return voxels_of(grid.vertices[cells > 0], T)


def test_a_track_is_where_its_mask_and_a_surface_agree() -> None:
    places, grid = TrackPlaces(), wall()
    mask = square(20, 20, value=2)
    places.learn((7, 9), mask, square(20, 20), grid, HOME)
    assert places.track_at(place_of(mask, grid)) == 9
    assert places.track_at(place_of(square(100, 20), grid)) == 0
    assert places.track_at(place_of(mask, wall(1.5))) == 0, "at another depth"


@pytest.mark.parametrize(("shift", "learned"), [(6, True), (7, False)])
def test_mask_and_surface_must_overlap_by_half(shift: int, learned: bool) -> None:
    """Squares of side 20 that are shifted by s have an IoU of (20 - s) / (20 + s)."""
    places, grid = TrackPlaces(), wall()
    mask = square(20, 20)
    places.learn((7,), mask, square(20 + shift, 20), grid, HOME)
    assert (places.track_at(place_of(mask, grid)) == 7) == learned


def test_a_place_is_in_the_map() -> None:
    places, grid = TrackPlaces(), wall()
    mask = square(20, 20)
    places.learn((7,), mask, mask, grid, HOME)
    moved = np.eye(4)
    moved[1, 3] = 0.3
    assert places.track_at(place_of(mask, grid, moved)) == 0
    shifted = square(20, 50)  # 0.3 m lower in the image: the same place, seen from 0.3 m higher
    up = np.eye(4)
    up[1, 3] = -0.3
    assert places.track_at(place_of(shifted, grid, up)) == 7


def test_of_two_places_the_one_with_more_voxels_is_taken_from_two_fifths_on() -> None:
    places, grid = TrackPlaces(), wall()
    for track, x in ((7, 20), (9, 60)):
        places.set(track, place_of(square(x, 20), grid))
    near_nine = place_of(square(52, 20, 20), grid)
    assert places.track_at(near_nine) == 9
    assert places.track_at(place_of(square(45, 20, 20), grid)) == 0, "a quarter of it"
    places.keep_only({7})
    assert places.track_at(near_nine) == 0


def test_a_place_grows_where_what_is_seen_touches_it_and_not_elsewhere() -> None:
    places, grid = TrackPlaces(), wall()
    for x in (20, 30, 40):
        mask = square(x, 20)
        places.learn((7,), mask, mask, grid, HOME)
    assert places.track_at(place_of(square(20, 20, 20), grid)) == 7
    assert places.track_at(place_of(square(40, 20, 20), grid)) == 7
    jumped = square(120, 20)
    places.learn((7,), jumped, jumped, grid, HOME)
    assert places.track_at(place_of(jumped, grid)) == 0


def test_a_track_that_is_elsewhere_has_drifted() -> None:
    places, grid = TrackPlaces(), wall()
    places.set(7, with_neighbours(place_of(square(20, 20), grid)))
    index = square(100, 20)
    assert places.drifted({7}, (7,), index, grid, HOME) == [7]
    assert places.drifted(set(), (7,), index, grid, HOME) == [], "only candidates are tested"
    assert places.drifted({7}, (7,), square(20, 20), grid, HOME) == []
    assert places.drifted({7}, (7,), square(100, 20, 3), grid, HOME) == [], "nine cells are too few"
    assert places.drifted({7}, (7,), square(100, 20, 4), grid, HOME) == [7]
    assert places.drifted({8}, (8,), index, grid, HOME) == [], "its place is not known"


def test_where_most_tracks_have_drifted_the_pose_has_jumped() -> None:
    places, grid = TrackPlaces(), wall()
    tracks = (5, 6, 7)
    index = np.zeros((120, 160), np.int32)
    for row, track in enumerate(tracks, start=1):
        places.set(track, with_neighbours(place_of(square(40 * row, 20), grid)))
        index[80:100, 40 * row : 40 * row + 20] = row
    one = index.copy()
    one[80:100, 80:] = 0
    one[20:40, 80:100], one[20:40, 120:140] = 2, 3  # two are where they were
    assert places.drifted(set(tracks), tracks, one, grid, HOME) == [5]
    two = index.copy()
    two[80:100, 120:] = 0
    two[20:40, 120:140] = 3
    four = (*tracks, 8)
    places.set(8, with_neighbours(place_of(square(0, 50), grid)))
    two[50:70, 0:20] = 4
    assert places.drifted(set(four), four, two, grid, HOME) == [5, 6], "half are not most"
    assert places.drifted(set(tracks), tracks, index, grid, HOME) == []
    assert places.track_at(place_of(square(40, 20), grid)) == 0, "their places are forgotten"
