"""Depth images as points."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import points
from vos_ros.types import Intrinsics

CAMERA = Intrinsics(100.0, 110.0, 31.5, 23.5, 64, 48)


def plane_depth(normal, distance):
    """z of the plane n . p = distance seen by CAMERA."""
    y, x = np.mgrid[0:48, 0:64]
    rays = np.stack(
        [(x - CAMERA.cx) / CAMERA.fx, (y - CAMERA.cy) / CAMERA.fy, np.ones((48, 64))], axis=-1
    )
    return (distance / (rays @ normal)).astype(np.float32)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_vertices_lie_on_the_plane_and_normals_are_its(step):
    normal = np.array([0.3, -0.4, 0.866])
    normal /= np.linalg.norm(normal)
    vertices = points.vertex_map(plane_depth(normal, 1.5), CAMERA, step=step)
    np.testing.assert_allclose(vertices @ normal, 1.5, atol=1e-5)
    normals = points.normal_map(vertices)
    np.testing.assert_allclose(
        normals[1:-1, 1:-1], np.broadcast_to(-normal, normals[1:-1, 1:-1].shape), atol=1e-3
    )
    assert not normals[0].any() and not normals[:, -1].any()


def test_there_is_no_normal_across_a_jump_or_beside_a_hole():
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 32:] = 1.0
    depth[20, 10] = np.nan
    normals = points.normal_map(points.vertex_map(depth, CAMERA))
    assert not normals[:, 31:33].any()
    assert not normals[20, 9:12].any() and not normals[19:22, 10].any()
    np.testing.assert_allclose(normals[30, 20], [0.0, 0.0, -1.0], atol=1e-6)


def test_depth_that_is_no_number_is_unknown():
    depth = np.array([[np.nan, np.inf, -np.inf, -1.0, 0.0, 2.0]], np.float32)
    assert points.known_depth(depth).tolist() == [[0.0, 0.0, 0.0, 0.0, 0.0, 2.0]]
    good = np.ones((2, 2), np.float32)
    assert points.known_depth(good) is good


def test_images_too_small_for_neighbours_have_no_normals():
    assert not points.normal_map(points.vertex_map(np.ones((2, 2), np.float32), CAMERA)).any()
