"""A map that is used to correct the poses that it is made from: it must not creep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vos_ros.config import Config
from vos_ros.mapping.align import align
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.frames import (
    AssociatedFrame,
    LabelledDepth,
    MeasuredInstance,
    lift_tracks,
)
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.types import Association, AssociationStatus


def test_in_a_loop_with_the_pose_correction_the_map_stays_where_the_poses_have_it() -> None:
    """True masks and poses, depth with 1 % of noise; the node corrects its pose by the map."""
    pytest.importorskip("open3d", reason="the synthetic world is rendered by Open3D")
    from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec

    source = SyntheticSource(SyntheticSpec(seed=5, frames=20, width=240, height=180))
    captures = [source.capture(i) for i in range(len(source))]
    rng = np.random.default_rng(0)
    config, mapper, held = Config(), ObjectMapper(MapperConfig()), ObjectMap()
    prior = np.diag([config.pose.sigma_m**2] * 3 + [math.radians(config.pose.sigma_deg) ** 2] * 3)
    off = []
    object_of: dict[int, int] = {}
    for index, capture in enumerate(captures * 2):
        frame, ids = capture.frame, capture.ids.astype(np.uint16)
        assert frame.depth is not None and frame.T_map_camera is not None
        depth = (frame.depth * (1 + 0.01 * rng.standard_normal(frame.shape))).astype(np.float32)
        if len(held):
            corrected = align(
                list(held),
                frame.T_map_camera,
                prior,
                depth,
                frame.intrinsics,
                config=config.mapping,
            )
            off.append(corrected.T_map_camera[:3, 3] - frame.T_map_camera[:3, 3])
        seen = [int(i) for i in np.unique(ids) if i and np.count_nonzero(ids == i) >= 60]
        status = {
            i: AssociationStatus.MATCHED if i in object_of else AssociationStatus.NEW for i in seen
        }
        associations = [Association(i, object_of.get(i, 0), status[i], 0.9) for i in seen]
        image = LabelledDepth(ids, {i: i for i in seen}, depth, frame.intrinsics)
        points = lift_tracks(image, seen, frame.T_map_camera, mapper.lifting)
        none = np.zeros((0, 3), np.float32)
        before = set(mapper.objects)
        mapper.integrate(
            AssociatedFrame(
                stamp_ns=index * 100_000_000,
                session_id="node",
                map_session_id=mapper.session_id,
                map_revision=mapper.revision,
                map_frame="map",
                T_map_camera=frame.T_map_camera,
                pose_cov=None,
                instances=tuple(MeasuredInstance(i, 0, True, points.get(i, none)) for i in seen),
                associations=tuple(associations),
                labelled_depth=image,
            )
        )
        for new in set(mapper.objects) - before:  # which track it began from, by where it is
            middle = mapper.objects[new].points(mapper.config.model).mean(0)
            away = {
                i: float(np.linalg.norm(p.mean(0) - middle))
                for i, p in points.items()
                if i not in object_of
            }
            object_of[min(away, key=lambda i: away[i])] = new
        if index % 5 == 4 and (update := mapper.update()):
            assert held.apply(update).reason == ""
    late = np.array(off[len(off) // 2 :])
    assert len(held) >= 10
    assert np.linalg.norm(np.median(late, axis=0)) < 0.008, (
        "what the corrections have in common is the map's own error"
    )
    truth = {o.id: o for o in source.map_snapshot().objects}
    for track, thing in object_of.items():
        if thing in held:
            box = np.stack([truth[track].points.min(0), truth[track].points.max(0)])
            grown = np.maximum(
                box[0] - held[thing].points.min(0), held[thing].points.max(0) - box[1]
            )
            assert grown.max() < 0.03, (
                f"object {thing} is {grown} m larger than the thing of track {track}"
            )
