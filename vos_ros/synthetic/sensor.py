"""How the synthetic camera moves, and what its sensor does to a perfect view.

Pure functions of time or of a generator.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.spatial.transform import Rotation

from vos_ros.synthetic import scenes
from vos_ros.synthetic import textures as tx
from vos_ros.synthetic.world import View

ORBIT_DEG_PER_S = 22.0
"""Speed of the camera around the table."""
TURN_AWAY_DEG = 62.0
"""Angle by which the camera turns away from the table."""
TURN_AWAY_PERIOD_S = 6.5
"""Time from one turn away to the next."""
SWEEP_M = 0.75
"""Half the length of the camera's path in the scene ``crossing``."""
NEAR_M, FAR_M = 0.3, 6.0
"""Range of the depth sensor."""


def _smooth(x: float) -> float:
    """Rise smoothly from 0 at 0 to 1 at 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def camera_pose(seed: int, time_s: float, *, turn_away: bool = True) -> Float64[np.ndarray, "4 4"]:
    """Compute T_map_camera at a time: a hand-held orbit around the table.

    Height and radius change; every ``TURN_AWAY_PERIOD_S`` the camera turns away from the table, to
    one side and the other, and back.
    """
    rng = np.random.default_rng((seed, 2))
    start, way = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    phase = rng.uniform(0, 2 * np.pi, 12)

    def sway(k: int, hertz: float) -> float:
        return float(np.sin(2 * np.pi * hertz * time_s + phase[k]))

    azimuth = start + way * np.radians(ORBIT_DEG_PER_S * time_s + 7 * sway(0, 0.13))
    radius = 1.25 + 0.15 * sway(1, 0.11) + 0.01 * sway(2, 0.9)
    eye = np.array(
        [
            radius * np.cos(azimuth),
            radius * np.sin(azimuth),
            1.34 + 0.18 * sway(3, 0.09) + 0.012 * sway(4, 1.1),
        ]
    )
    target = np.array([0.10 * sway(5, 0.17), 0.08 * sway(6, 0.15), 0.77 + 0.05 * sway(7, 0.12)])
    forward = target - eye
    if turn_away:
        turn, since = divmod(time_s + 0.42 * TURN_AWAY_PERIOD_S, TURN_AWAY_PERIOD_S)
        away = _smooth((since - 4.2) / 1.1) - _smooth((since - 5.4) / 1.1)
        side = 1.0 if int(turn) % 2 else -1.0
        forward = Rotation.from_rotvec([0, 0, side * np.radians(TURN_AWAY_DEG) * away]).apply(
            forward
        )
    return _upright(eye, forward, (0.5 * sway(8, 0.8), 0.5 * sway(9, 0.7), 1.6 * sway(10, 0.3)))


def sweep_pose(seed: int, time_s: float) -> Float64[np.ndarray, "4 4"]:
    """Compute T_map_camera at a time in the scene ``crossing``.

    Hand-held and low, the camera goes to and fro along a line next to the table. At its ends, what
    the box hides on the way is visible.
    """
    rng = np.random.default_rng((seed, 2))
    period_s, start = rng.uniform(7.0, 9.0), -np.pi / 2 + rng.uniform(-0.3, 0.3)
    phase = rng.uniform(0, 2 * np.pi, 8)

    def sway(k: int, hertz: float) -> float:
        return float(np.sin(2 * np.pi * hertz * time_s + phase[k]))

    towards = scenes.sweep_axis(seed)
    aside = np.array([towards[1], -towards[0]])
    along_m = SWEEP_M * float(np.sin(2 * np.pi * time_s / period_s + start))
    place = (scenes.SWEEP_DISTANCE_M + 0.03 * sway(0, 0.11)) * towards + (
        along_m + 0.01 * sway(1, 0.9)
    ) * aside
    eye = np.array([*place, 1.16 + 0.02 * sway(2, 0.13) + 0.008 * sway(3, 1.1)])
    target = np.array([*(0.15 * along_m * aside), 0.80 + 0.02 * sway(4, 0.17)])
    return _upright(eye, target - eye, (0.5 * sway(5, 0.8), 0.5 * sway(6, 0.7), 1.6 * sway(7, 0.3)))


def _upright(
    eye: Float64[np.ndarray, "3"],
    forward: Float64[np.ndarray, "3"],
    shake_deg: tuple[float, float, float],
) -> Float64[np.ndarray, "4 4"]:
    """Compute T_map_camera of an upright camera, turned a little about its own axes."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = (
        np.stack([x, np.cross(z, x), z], 1)
        @ Rotation.from_rotvec(np.radians(shake_deg)).as_matrix()
    )
    T[:3, 3] = eye
    return T


def sense_color(
    linear: Float32[np.ndarray, "H W 3"], exposure: float, rng: tx.Rng
) -> UInt8[np.ndarray, "H W 3"]:
    """Take a photo: vignetting, exposure, shot and read noise, tone curve, a slightly soft lens."""
    height, width = linear.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    r2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 / 4 + height**2 / 4)
    light = cv2.GaussianBlur(linear, (3, 3), 0.45) * (exposure * (1 - 0.28 * r2))[..., None]
    sigma = np.sqrt(np.maximum(light, 0) * 0.00012 + 0.0000045)
    return tx.to_srgb8(light + sigma * rng.standard_normal(light.shape, np.float32))


def sense_depth(view: View, rng: tx.Rng) -> Float32[np.ndarray, "H W"]:
    """Measure depth as a structured-light or stereo sensor does, m; 0 = no measurement.

    Axial noise of sigma 0.0012 + 0.0019 (z - 0.4)^2 m (Nguyen, Izadi and Lovell 2012), pixels that
    measure their neighbour, holes and flying pixels at depth steps, no measurement at grazing
    angles, whole millimetres, ``NEAR_M`` to ``FAR_M``.
    """
    shape = view.depth.shape
    y, x = np.indices(shape)
    z = view.depth[
        np.clip(y + np.rint(rng.normal(0, 0.5, shape)).astype(int), 0, shape[0] - 1),
        np.clip(x + np.rint(rng.normal(0, 0.5, shape)).astype(int), 0, shape[1] - 1),
    ]
    kernel = np.ones((3, 3), np.uint8)
    far, near = cv2.dilate(view.depth, kernel), cv2.erode(view.depth, kernel)
    step = far - near > 0.03 + 0.05 * view.depth
    luck = rng.random(shape)
    mixed = near + (far - near) * rng.random(shape, np.float32)
    z = np.where(step & (luck < 0.2), mixed, z)
    z = z + (0.0012 + 0.0019 * (z - 0.4) ** 2) * rng.standard_normal(shape, np.float32)
    grazing = np.clip((0.22 - view.cosine) / 0.22, 0, 1) * 0.9 + 0.0015
    lost = (
        (step & (luck > 0.7))
        | (rng.random(shape) < grazing)
        | (z < NEAR_M)
        | (z > FAR_M)
        | (view.depth == 0)
    )
    return np.where(lost, 0.0, np.rint(z * 1000.0) / 1000.0).astype(np.float32)
