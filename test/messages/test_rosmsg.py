"""Messages without ROS: types, poses, clouds, cameras, where the definitions are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vos_ros.messages import rosmsg
from vos_ros.messages.rosmsg import make


def test_every_message_of_ours_is_known() -> None:
    root = Path(__file__).resolve().parents[2] / "msg"
    names = {f"vos_ros/msg/{p.stem}" for p in root.glob("*.msg")}
    assert names and names <= set(rosmsg.typestore().fielddefs)


def test_an_installed_package_finds_the_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share/vos_ros/msg"
    share.mkdir(parents=True)
    (share / "MapObjectArray.msg").write_text("")
    module = tmp_path / "lib/python3.12/site-packages/vos_ros/messages/rosmsg.py"
    monkeypatch.setattr(rosmsg, "__file__", str(module))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert rosmsg.message_folder() == share
    monkeypatch.setattr(
        rosmsg, "__file__", "/elsewhere/lib/python3.12/site-packages/vos_ros/messages/rosmsg.py"
    )
    with pytest.raises(
        FileNotFoundError, match=r"not installed; looked in .*Install the package again"
    ):
        rosmsg.message_folder()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert rosmsg.message_folder() == share


def test_poses_both_ways_and_at_the_door() -> None:
    T = np.array(
        [[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]]
    )
    np.testing.assert_allclose(rosmsg.pose_matrix(rosmsg.make_pose(T)), T, atol=1e-15)
    np.testing.assert_allclose(rosmsg.pose_matrix(rosmsg.make_transform(T)), T, atol=1e-15)
    never_filled = rosmsg.make_pose(T)
    never_filled.orientation = make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0)
    with pytest.raises(ValueError, match="of length 0; wanted"):
        rosmsg.pose_matrix(never_filled)
    bad = rosmsg.make_pose(T)
    bad.position.x = float("nan")
    with pytest.raises(ValueError, match="wanted finite"):
        rosmsg.pose_matrix(bad)


def test_clouds_of_other_makers() -> None:
    points = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(rosmsg.cloud_points(rosmsg.make_cloud(5, "map", points)), points)
    assert rosmsg.cloud_points(rosmsg.make_cloud(5, "map", points[:0])).shape == (0, 3)
    # two rows of three, padded, big endian, z first, a colour between, x in double
    dtype = np.dtype(
        {
            "names": ["z", "rgb", "x", "y"],
            "formats": [">f4", ">u4", ">f8", ">f4"],
            "offsets": [0, 4, 8, 20],
            "itemsize": 28,
        }
    )
    rows = np.zeros((2, 3), dtype)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis].reshape(2, 3)
    data = b"".join(row.tobytes() + b"\0" * 12 for row in rows)
    fields = [
        SimpleNamespace(name=n, offset=o, datatype=k, count=1)
        for n, o, k in (("z", 0, 7), ("rgb", 4, 6), ("x", 8, 8), ("y", 20, 7))
    ]
    cloud = SimpleNamespace(
        width=3, height=2, fields=fields, is_bigendian=True, point_step=28, row_step=96, data=data
    )
    np.testing.assert_array_equal(rosmsg.cloud_points(cloud), points)
    cloud.data = data[:100]
    with pytest.raises(ValueError, match="cut short: 100 bytes for 2 rows"):
        rosmsg.cloud_points(cloud)
    cloud.fields = fields[:2]
    with pytest.raises(ValueError, match="with fields z, rgb: wanted x, y, z"):
        rosmsg.cloud_points(cloud)


def test_an_empty_map_is_a_message_too() -> None:
    from vos_ros.types import MapUpdate

    update = rosmsg.map_update(
        rosmsg.make_map_objects(MapUpdate(7, "s", 2, False, (), (4,), ((5, 6),)))
    )
    assert (update.objects, update.deleted_ids, update.merged, update.full, update.revision) == (
        (),
        (4,),
        ((5, 6),),
        False,
        2,
    )


def test_unequal_merges_are_refused() -> None:
    from vos_ros.types import MapUpdate

    msg = rosmsg.make_map_objects(MapUpdate(7, "s", 2, False, ()))
    msg.merged_from = np.array([1], np.uint32)
    with pytest.raises(ValueError, match="1 merged_from and 0 merged_into"):
        rosmsg.map_update(msg)
