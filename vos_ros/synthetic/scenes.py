"""How the objects of the synthetic world are placed on the table, and what is taken away.

Pure functions of generators. The scenes:

table       all objects, anywhere
crossing    the mugs, which look alike, stand one behind the other with a box before them; the
            camera goes to and fro, so that in the image they pass each other behind the box
removed     as table; some of the objects are taken away while the camera runs
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float64

from vos_ros.synthetic import catalogue
from vos_ros.synthetic import shapes as sh
from vos_ros.synthetic import textures as tx

SCENES = ("table", "crossing", "removed")
SWEEP_DISTANCE_M = 1.2
"""Distance of the camera's path in ``crossing`` from the centre of the table."""
REMOVED_OBJECTS = 4
"""Objects taken away in ``removed``."""
_REMOVAL_S = (2.5, 5.0)
"""Earliest and latest time of the removal, from the start."""
_MIN_ALIKE_DISTANCE_M = 0.45
"""Least distance of objects that look alike."""
_MIN_GAP_M = 0.008
"""Least gap between two footprints."""
_EDGE_M = 0.015
"""Least distance of a footprint from the edge of the table."""
_MAX_TRIES = 60
"""Most places tried for one object."""
_MAX_ARRANGEMENTS = 200
"""Most arrangements tried until all objects fit."""
_BOX_M, _NEAR_MUG_M, _FAR_MUG_M = -0.30, 0.02, 0.33
"""Places of box and mugs in ``crossing``, along the axis from the table's centre, away from the
camera."""
_MAX_OTHERS = 6
"""Most other objects in ``crossing``, where they fit."""
_CLEARANCE_M = 0.15
"""Half of the width along the axis that stays clear of other objects."""

Poses = list[Float64[np.ndarray, "4 4"]]


def arrange(
    scene: str, seed: int, rng: tx.Rng, items: Sequence[catalogue.CatalogueItem]
) -> tuple[list[catalogue.CatalogueItem], Poses]:
    """Place the objects of a scene; returns them and their poses in the map frame.

    Raises RuntimeError: they do not fit on the table.
    """
    if scene == "crossing":
        return _behind_a_box(seed, rng, items)
    return list(items), _anywhere(rng, items)


def sweep_axis(seed: int) -> Float64[np.ndarray, "2"]:
    """Choose the unit vector (map frame, x y) from the table's centre to the path of ``crossing``.

    No chair stands on that side.
    """
    angle = np.radians(np.random.default_rng((seed, 8)).uniform(175.0, 285.0))
    return np.array([np.cos(angle), np.sin(angle)])


def removal_s(seed: int) -> float:
    """Choose when objects are taken away in ``removed``, s from the start."""
    return float(np.random.default_rng((seed, 9)).uniform(*_REMOVAL_S))


def removed(seed: int, seen: Collection[int]) -> frozenset[int]:
    """Choose which of the objects ``seen`` before are taken away in ``removed``."""
    order = np.random.default_rng((seed, 10)).permutation(sorted(seen))
    return frozenset(order[:REMOVED_OBJECTS].tolist())


def _anywhere(rng: tx.Rng, items: Sequence[catalogue.CatalogueItem]) -> Poses:
    """Place items on the table without overlap; the last one lies on the one before it.

    Items that look alike stand apart.
    """
    order = sorted(range(len(items) - 1), key=lambda k: -items[k].radius_m)
    for _ in range(_MAX_ARRANGEMENTS):
        at: dict[int, Float64[np.ndarray, "2"]] = {}
        for k in order:
            for _ in range(_MAX_TRIES):
                p = _somewhere(rng, items[k])
                room = all(
                    np.linalg.norm(p - q)
                    > (
                        _MIN_ALIKE_DISTANCE_M
                        if items[k].alike_group and items[k].alike_group == items[j].alike_group
                        else items[k].radius_m + items[j].radius_m + _MIN_GAP_M
                    )
                    for j, q in at.items()
                )
                if room:
                    at[k] = p
                    break
        if len(at) == len(order):
            break
    else:
        raise RuntimeError("the objects of the catalogue do not fit on the table")
    poses = [_standing(at[k], float(rng.uniform(0, 2 * np.pi))) for k in range(len(items) - 1)]
    under = items[-2].shape.vertices[:, 2].max()
    return [*poses, poses[-1] @ sh.pose(0.01, 0.005, float(under), float(rng.uniform(-0.5, 0.5)))]


def _behind_a_box(
    seed: int, rng: tx.Rng, items: Sequence[catalogue.CatalogueItem]
) -> tuple[list[catalogue.CatalogueItem], Poses]:
    """Place a box across the axis and both mugs behind it; others where they hide neither.

    The mugs are turned alike, so that nothing but their places tells them apart.
    """
    named = {item.name: item for item in items}
    away = -sweep_axis(seed)
    aside = np.array([-away[1], away[0]])
    chosen = [named[n] for n in ("cereal_box", "mug_a", "mug_b")]
    at = [
        _BOX_M * away,
        *(
            (m + rng.uniform(-0.02, 0.02)) * away + rng.uniform(-0.02, 0.02) * aside
            for m in (_NEAR_MUG_M, _FAR_MUG_M)
        ),
    ]
    across = float(np.arctan2(aside[1], aside[0])) + float(rng.uniform(-0.25, 0.25))
    turned = float(rng.uniform(0, 2 * np.pi))
    poses = [_standing(at[0], across), _standing(at[1], turned), _standing(at[2], turned)]
    others = [item for item in items if item.class_name != "book" and item not in chosen]
    for item in (others[k] for k in rng.permutation(len(others))[:_MAX_OTHERS]):
        for _ in range(_MAX_TRIES):
            p = _somewhere(rng, item)
            along, across_m = float(p @ away) - item.radius_m, abs(float(p @ aside)) - item.radius_m
            clear = along > -0.1 and (across_m > _CLEARANCE_M or along > _FAR_MUG_M + _CLEARANCE_M)
            if clear and all(
                np.linalg.norm(p - q) > item.radius_m + o.radius_m + _MIN_GAP_M
                for o, q in zip(chosen, at, strict=True)
            ):
                chosen.append(item)
                at.append(p)
                poses.append(_standing(p, float(rng.uniform(0, 2 * np.pi))))
                break
    return chosen, poses


def _somewhere(rng: tx.Rng, item: catalogue.CatalogueItem) -> Float64[np.ndarray, "2"]:
    half = np.array(catalogue.TABLE_SIZE_M) / 2 - item.radius_m - _EDGE_M
    return np.asarray(rng.uniform(-half, half))


def _standing(at: Float64[np.ndarray, "2"], yaw: float) -> Float64[np.ndarray, "4 4"]:
    return sh.pose(float(at[0]), float(at[1]), catalogue.TABLE_Z_M, yaw)
