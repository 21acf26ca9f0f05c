"""Planes of the map that were found before."""

from __future__ import annotations

import numpy as np

from vos_ros.discovery.backgrounds import Backgrounds
from vos_ros.discovery.planes import Flat
from vos_ros.geometry import se3

HOME = np.eye(4)


def in_map_of(vertices: np.ndarray, T: np.ndarray) -> np.ndarray:
    return np.tensordot(T[:3, :3], vertices, (1, 2)) + T[:3, 3, None, None]


def wall(z: float, x0: float = -0.5) -> tuple[Flat, np.ndarray]:
    """A wall 1 m wide at depth ``z``: the plane with its cells, and the vertices."""
    x, y = np.meshgrid(np.linspace(x0, x0 + 1.0, 40), np.linspace(-0.4, 0.4, 30))
    vertices = np.stack([x, y, np.full(x.shape, z)], -1)
    return Flat(np.array([0.0, 0.0, 1.0, -z]), np.ones(x.shape, bool)), vertices


def test_a_plane_is_expected_where_it_was_found_from_any_pose() -> None:
    known = Backgrounds()
    flat, vertices = wall(2.0)
    known.add([flat], in_map_of(vertices, HOME), HOME)
    T = se3.perturb(HOME, np.array([0.1, 0.2, -0.5, 0.0, 0.3, 0.0]))
    local = se3.transform(se3.inverse(T), vertices.reshape(-1, 3)).reshape(vertices.shape)
    ((plane, cells),) = known.guesses(in_map_of(local, T), T)
    np.testing.assert_allclose(local @ plane[:3] + plane[3], 0.0, atol=1e-9)
    assert cells.all()
    for axis in range(3):  # 0.1 m around its box, along each axis
        shift = np.zeros(3)
        shift[axis] = 5.0
        ((_, away),) = known.guesses(in_map_of(vertices + shift, HOME), HOME)
        assert not away.any()


def test_a_plane_that_is_found_again_is_one_and_its_box_grows() -> None:
    known = Backgrounds()
    for x0 in (-0.5, 0.3):
        flat, vertices = wall(2.0, x0)
        known.add([flat], in_map_of(vertices, HOME), HOME)
    ((_, cells),) = known.guesses(in_map_of(wall(2.0, -0.5)[1], HOME), HOME)
    assert cells.all()
    opposite = Flat(-wall(2.0)[0].plane, wall(2.0)[0].cells)  # the normal's sign is arbitrary
    known.add([opposite], in_map_of(wall(2.0)[1], HOME), HOME)
    assert len(known.guesses(in_map_of(wall(2.0)[1], HOME), HOME)) == 1


def test_planes_apart_or_turned_or_far_from_each_other_are_two() -> None:
    turned = se3.so3_exp(np.array([0.0, 0.2, 0.0]))
    flat, vertices = wall(2.0)
    pivot = np.array([0.0, 0.0, 2.0])
    tilted = Flat(np.append(turned[:, 2], -turned[:, 2] @ pivot), flat.cells)
    tilted_vertices = (vertices - pivot) @ turned.T + pivot
    for other, other_vertices in (wall(2.08), (tilted, tilted_vertices), wall(2.0, 5.0)):
        known = Backgrounds()
        known.add([flat], in_map_of(vertices, HOME), HOME)
        known.add([other], in_map_of(other_vertices, HOME), HOME)
        assert len(known.guesses(in_map_of(vertices, HOME), HOME)) == 2


def test_the_planes_found_most_recently_are_remembered() -> None:
    known = Backgrounds()
    for k in range(14):
        flat, vertices = wall(2.0 + k)
        known.add([flat], in_map_of(vertices, HOME), HOME)
    planes = [-p[3] for p, _ in known.guesses(in_map_of(wall(2.0)[1], HOME), HOME)]
    assert planes == [float(z) for z in range(4, 16)]


def test_a_plane_of_scattered_cells_is_not_remembered() -> None:
    known = Backgrounds()
    flat, vertices = wall(2.0)
    scattered = np.zeros_like(flat.cells)
    scattered[::4, ::4] = True
    known.add([Flat(flat.plane, scattered)], in_map_of(vertices, HOME), HOME)
    assert known.guesses(in_map_of(vertices, HOME), HOME) == []
