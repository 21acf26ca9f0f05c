"""The Fast DDS profile is found, and set only where the user has not settled the transports."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from vos_ros.ros.common import fastdds


def test_the_profile_gives_room_for_images():
    path = fastdds.profile()
    assert path is not None
    root = ET.parse(path).getroot()
    sizes = [int(e.text) for e in root.iter() if e.tag.endswith("segment_size")]
    assert sizes and min(sizes) > 4 * 1920 * 1080


@pytest.mark.parametrize("name", [None, "FASTDDS_BUILTIN_TRANSPORTS", fastdds.VARIABLE])
def test_what_the_user_set_stays(name):
    environment = {} if name is None else {name: "1"}
    fastdds.prepare(environment)
    assert environment == (
        {fastdds.VARIABLE: str(fastdds.profile())} if name is None else {name: "1"}
    )
