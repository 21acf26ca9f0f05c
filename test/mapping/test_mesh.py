"""Objects that come as meshes: ray cast, in one z-buffer; open3d only when one occurs."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.evaluation.davis_metrics import region_similarity
from vos_ros.geometry import se3
from vos_ros.mapping.render import render
from vos_ros.types import Mesh


def box_mesh(low, high):
    corners = np.array(
        [
            [x, y, z]
            for x in (low[0], high[0])
            for y in (low[1], high[1])
            for z in (low[2], high[2])
        ],
        np.float32,
    )
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(
        corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    )


@pytest.fixture
def mesh_box(make_box):
    def build(object_id, low, high):
        return replace(make_box(object_id, low, high), mesh=box_mesh(low, high))

    return build


def test_a_mesh_is_exact(camera, mesh_box, cut_boxes):
    low, high = [-0.2, -0.15, -0.1], [0.2, 0.15, 0.1]
    R = se3.so3_exp(np.array([0.4, 0.7, 0.2]))
    T = se3.from_rt(R, R @ np.array([0.05, 0.0, -1.2]))
    (p,) = render([mesh_box(3, low, high)], T, camera)
    exact = cut_boxes([(low, high)], T, camera)
    assert region_similarity(p.mask, exact > 0) > 0.995
    both = p.mask & (exact > 0)
    np.testing.assert_allclose(p.depth[both], exact[both], atol=1e-4)
    assert (p.object_id, p.visible, p.truncated) == (3, 1.0, 0.0)
    assert p.mask_roi.any(axis=0)[[0, -1]].all() and p.mask_roi.any(axis=1)[[0, -1]].all(), (
        "the roi is tight"
    )


def test_meshes_and_points_share_one_z_buffer(camera, make_box, mesh_box):
    far, near = ([-0.4, -0.4, 2.0], [0.4, 0.4, 2.1]), ([0.0, -0.3, 1.0], [0.5, 0.3, 1.1])
    for objects in (
        [make_box(1, *far), mesh_box(2, *near)],
        [mesh_box(1, *far), make_box(2, *near)],
    ):
        a, b = render(objects, np.eye(4), camera)
        assert (a.object_id, b.object_id) == (1, 2)
        assert not (a.mask & b.mask).any()
        assert 0.3 < a.visible < 0.7 and b.visible == 1.0


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_mesh_that_leaves_the_image_is_truncated(camera, mesh_box, axis, side):
    half = (camera.width / camera.fx / 2, camera.height / camera.fy / 2)
    centre = np.array([0.0, 0.0, 1.005])
    centre[axis] = side * half[axis]
    size = np.array([0.1, 0.1, 0.005])
    (p,) = render([mesh_box(1, centre - size, centre + size)], np.eye(4), camera)
    assert p.truncated == pytest.approx(0.5, abs=0.04)


def test_a_mesh_around_behind_and_beside_the_camera(camera, mesh_box):
    room = mesh_box(1, [-2, -2, -2], [2, 2, 2])
    (p,) = render([room], np.eye(4), camera)
    assert p.mask.all() and p.truncated > 0.3
    assert render([mesh_box(2, [-0.1, -0.1, -1.1], [0.1, 0.1, -1.0])], np.eye(4), camera) == []
    assert render([mesh_box(3, [9, 9, 1], [9.1, 9.1, 1.1])], np.eye(4), camera) == []
    empty = replace(room, mesh=Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
    assert len(render([empty], np.eye(4), camera)) == 1, "a mesh of nothing leaves the points"


def test_a_mesh_kilometres_from_the_origin(camera, mesh_box):
    offset = np.array([2048.0, -1024.0, 64.0])
    near = mesh_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.5])
    far = replace(
        near, mesh=Mesh(near.mesh.vertices + offset.astype(np.float32), near.mesh.triangles)
    )
    (a,), (b,) = (
        render([near], np.eye(4), camera),
        render([far], se3.from_rt(np.eye(3), offset), camera),
    )
    assert region_similarity(a.mask, b.mask) > 0.98


def test_without_open3d_points_stand_in_and_bare_meshes_say_what_is_missing(
    camera, mesh_box, monkeypatch
):
    monkeypatch.setitem(sys.modules, "open3d", None)
    box = mesh_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.5])
    with pytest.warns(RuntimeWarning, match="open3d is not installed"):
        (p,) = render([box], np.eye(4), camera)
    assert p.visible == 1.0
    with pytest.raises(
        ImportError,
        match=r"map objects \[1\] come as meshes without points.*pip install open3d-cpu",
    ):
        render([replace(box, points=np.zeros((0, 3), np.float32))], np.eye(4), camera)


def test_open3d_is_loaded_only_when_a_mesh_occurs(camera, make_box):
    program = """
import sys
import numpy as np
from vos_ros.mapping.render import render
from vos_ros.types import Intrinsics, MapObject
points = np.array([[0, 0, 1], [0.1, 0, 1]], np.float32)
plate = MapObject(1, 1, np.eye(4), np.ones(3), points, 0.01)
render([plate], np.eye(4), Intrinsics(100, 100, 50, 50, 100, 100))
assert "open3d" not in sys.modules and "rclpy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_ray_casting_warns_of_nothing(camera, mesh_box):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render([mesh_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.5])], np.eye(4), camera)
