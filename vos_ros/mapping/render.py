"""Map to image: all objects into one z-buffer, tested against measured depth.

Every object is rendered into its own crop of the image, from its mesh (``mesh``) or from its points
(``splat``). The crops then meet in one z-buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.config import MappingConfig
from vos_ros.geometry.points import known_depth
from vos_ros.geometry.se3 import is_se3
from vos_ros.geometry.uncertainty import depth_tolerance
from vos_ros.mapping.box_objects import box_projections
from vos_ros.mapping.mesh import cast
from vos_ros.mapping.splat import EMPTY, Crop, splat
from vos_ros.types import Intrinsics, MapObject, Projection


def render(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    *,
    depth: Float32[np.ndarray, "H W"] | None = None,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> list[Projection]:
    """Predict how ``objects`` appear to a camera, in the order given.

    An object with a ``mesh`` is ray cast, one with points splatted; points that are not finite are
    left out. One that is a box alone is as ``box_objects`` says. An object with no sample on the
    image has no ``Projection``. With measured depth, a
    predicted pixel counts as hidden where something nearer was measured, and as ``free`` where
    something farther was, each beyond the tolerance of the configuration
    (``geometry.uncertainty.depth_tolerance``). Unknown depth decides nothing.

    Args:
        objects: to render.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        depth: measured z, m; 0, or anything that is no positive number, where it is unknown.
        config: near and far plane, largest splat, tolerance of depth.

    Raises ValueError: the pose is no rigid motion, or the depth's shape is not the intrinsics'.
    """
    if not is_se3(T_map_camera, tolerance=1e-3):
        raise ValueError(
            "T_map_camera is not a rigid motion, wanted a finite 4x4 rotation and translation:"
            f" got {T_map_camera!r}"
        )
    shape = (intrinsics.height, intrinsics.width)
    if depth is not None and depth.shape != shape:
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the intrinsics are of"
            f" {shape[1]}x{shape[0]}: register the depth to the colour image"
        )
    crops = list(_crops(objects, T_map_camera, intrinsics, config))
    z_buffer = np.full(shape, EMPTY, np.float32)
    for crop in crops:
        x0, y0, x1, y1 = crop.roi
        np.minimum(z_buffer[y0:y1, x0:x1], crop.nearest, out=z_buffer[y0:y1, x0:x1])
    measured = None if depth is None else known_depth(depth)
    out = {crop.object_id: _projection(crop, z_buffer, measured, config) for crop in crops}
    if boxes := [o for o in objects if o.is_box]:
        out |= box_projections(boxes, T_map_camera, intrinsics, z_buffer, measured, config)
    return [out[o.id] for o in objects if o.id in out]


def _crops(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    """Render each object by itself, in the order given."""
    splatted = {
        crop.object_id: crop
        for crop in splat([o for o in objects if o.mesh is None], T_map_camera, intrinsics, config)
    }
    meshes = [o for o in objects if o.mesh is not None]
    if meshes:
        splatted.update(
            {crop.object_id: crop for crop in cast(meshes, T_map_camera, intrinsics, config)}
        )
    for o in objects:
        if o.id in splatted:
            yield splatted.pop(o.id)


def _projection(
    crop: Crop,
    z_buffer: Float32[np.ndarray, "H W"],
    measured: Float32[np.ndarray, "H W"] | None,
    config: MappingConfig,
) -> Projection:
    """Compare a crop with the z-buffer and with the measured depth."""
    x0, y0, x1, y1 = crop.roi
    silhouette = crop.depth < EMPTY
    mask = silhouette & (crop.nearest <= z_buffer[y0:y1, x0:x1])
    predicted = np.where(silhouette, crop.depth, np.float32(0))
    size = max(int(np.count_nonzero(silhouette)), 1)
    free = 0
    if measured is not None:
        beyond_m = measured[y0:y1, x0:x1] - predicted
        tolerance = depth_tolerance(
            predicted, config.depth_tolerance_m, config.depth_tolerance_per_m2
        )
        known = measured[y0:y1, x0:x1] > 0
        mask &= ~known | (np.abs(beyond_m) <= tolerance)
        free = int(np.count_nonzero(silhouette & known & (beyond_m > tolerance)))
    inside = 1.0 - crop.truncated
    visible = inside * int(np.count_nonzero(mask)) / size
    return Projection(
        object_id=crop.object_id,
        shape=z_buffer.shape,
        roi=crop.roi,
        mask_roi=mask,
        silhouette_roi=silhouette,
        depth_roi=predicted,
        visible=visible,
        occluded=inside - visible,
        truncated=crop.truncated,
        free=free / size,
    )
