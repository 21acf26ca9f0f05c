"""Poses as plain numbers: for three of them, NumPy's functions take fifty times as long, and a node
waits for these in every frame.
"""

from __future__ import annotations

import math
import sys

Position = tuple[float, float, float]
Rotation = tuple[float, float, float, float]
"""Quaternion x y z w."""
Pose = tuple[Position, Rotation]

IDENTITY: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def rotate(q: Rotation, v: Position) -> Position:
    """The vector rotated by the unit quaternion."""
    (x, y, z, w), (a, b, c) = q, v
    # v + 2 u x (u x v + w v)
    d, e, f = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
    return (
        a + 2.0 * (y * f - z * e),
        b + 2.0 * (z * d - x * f),
        c + 2.0 * (x * e - y * d),
    )


def multiply(a: Rotation, b: Rotation) -> Rotation:
    """Quaternion product: the rotation b, then a."""
    (x, y, z, w), (i, j, k, r) = a, b
    return (
        w * i + r * x + y * k - z * j,
        w * j + r * y + z * i - x * k,
        w * k + r * z + x * j - y * i,
        w * r - x * i - y * j - z * k,
    )


def compose(a: Pose, b: Pose) -> Pose:
    """T_a * T_b."""
    x, y, z = rotate(a[1], b[0])
    return (a[0][0] + x, a[0][1] + y, a[0][2] + z), multiply(a[1], b[1])


def inverse(a: Pose) -> Pose:
    """The pose of the other way."""
    x, y, z, w = a[1]
    back = (-x, -y, -z, w)
    a0, a1, a2 = rotate(back, a[0])
    return (-a0, -a1, -a2), back


def unit_rotation(q: Rotation) -> Rotation | None:
    """The rotation of a quaternion of any length, None where it has none.

    tf2 turns every quaternion into a matrix and back. So any length but zero will do, one whose
    square overflows is no rotation, and of the two signs it keeps that of a positive w, or, beyond
    120 degrees, of a positive largest x, y, z. The sign decides the way between opposite rotations.
    """
    square = sum(one * one for one in q)
    if math.isnan(square) or square < 2.0 / sys.float_info.max:
        return None
    if math.isinf(square):
        return None if any(map(math.isinf, q)) else IDENTITY[1]
    length = math.sqrt(square)
    x, y, z, w = (one / length for one in q)
    leading = w if 4.0 * w * w > 1.0 else max((x, y, z), key=abs)
    return (x, y, z, w) if leading > 0.0 else (-x, -y, -z, -w)


def interpolate(a: Pose, b: Pose, ratio: float) -> Pose:
    """The pose at ``ratio`` (0..1) of the straight way, and of the shorter turn, from a to b."""
    (x, y, z), (i, j, k) = a[0], b[0]
    rest = 1.0 - ratio
    position = (rest * x + ratio * i, rest * y + ratio * j, rest * z + ratio * k)
    (x, y, z, w), (i, j, k, r) = a[1], b[1]
    cosine = x * i + y * j + z * k + w * r
    angle = math.acos(min(1.0, abs(cosine)))
    if angle == 0.0:
        return position, a[1]
    p, q = math.sin(rest * angle), math.sin(ratio * angle)
    if cosine < 0.0:  # of -0.0 the way is that of 0.0
        q = -q
    x, y, z, w = p * x + q * i, p * y + q * j, p * z + q * k, p * w + q * r
    length = math.sqrt(x * x + y * y + z * z + w * w)
    return position, (x / length, y / length, z / length, w / length)
