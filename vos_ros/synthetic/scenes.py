"""How the objects of the synthetic world are set out on the table, scene by scene, and what is taken away. Pure functions of generators.

table       all objects, anywhere
crossing    the mugs, which look alike, stand one behind the other with a box before them; the camera goes to and fro, so that in the
            image they pass each other while the box hides them
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
SWEEP_AWAY_M = 1.2
"""Of the camera's path of ``crossing`` from the middle of the table."""
REMOVED = 4
"""Objects taken away in ``removed``."""
_REMOVED_S = (2.5, 5.0)
_ALIKE_APART_M = 0.45
_GAP_M = 0.008
_TRIES = 60
_BOX_M, _NEAR_M, _FAR_M = (
    -0.30,
    0.02,
    0.33,
)  # of box and mugs, along the axis, from the middle of the table, away from the camera
_BESIDE = 6  # other objects in ``crossing``, where they fit
_CLEAR_M = 0.15  # half of the width that stays clear about the axis

Poses = list[Float64[np.ndarray, "4 4"]]


def arrange(
    scene: str, seed: int, rng: tx.Rng, items: Sequence[catalogue.Item]
) -> tuple[list[catalogue.Item], Poses]:
    """The objects of a scene and their poses in the map frame. RuntimeError where they do not fit on the table."""
    if scene == "crossing":
        return _behind_a_box(seed, rng, items)
    return list(items), _anywhere(rng, items)


def sweep_axis(seed: int) -> Float64[np.ndarray, "2"]:
    """Unit vector (map frame, x y) from the middle of the table to that of the camera's path in ``crossing``: where no chair stands."""
    angle = np.radians(np.random.default_rng((seed, 8)).uniform(175.0, 285.0))
    return np.array([np.cos(angle), np.sin(angle)])


def removal_s(seed: int) -> float:
    """When objects are taken away in ``removed``, s from the start."""
    return float(np.random.default_rng((seed, 9)).uniform(*_REMOVED_S))


def removed(seed: int, seen: Collection[int]) -> frozenset[int]:
    """Which of the objects ``seen`` before are taken away in ``removed``."""
    order = np.random.default_rng((seed, 10)).permutation(sorted(seen))
    return frozenset(order[:REMOVED].tolist())


def _anywhere(rng: tx.Rng, items: Sequence[catalogue.Item]) -> Poses:
    """On the table without overlap; the last item lies on the one before it, look-alikes stand apart."""
    order = sorted(range(len(items) - 1), key=lambda k: -items[k].radius_m)
    for _ in range(200):
        at: dict[int, Float64[np.ndarray, "2"]] = {}
        for k in order:
            for _ in range(_TRIES):
                p = _somewhere(rng, items[k])
                room = all(
                    np.linalg.norm(p - q)
                    > (
                        _ALIKE_APART_M
                        if items[k].group and items[k].group == items[j].group
                        else items[k].radius_m + items[j].radius_m + _GAP_M
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
    seed: int, rng: tx.Rng, items: Sequence[catalogue.Item]
) -> tuple[list[catalogue.Item], Poses]:
    """A box across the axis, both mugs behind it, turned alike so that nothing but their places tells them apart; others beside and
    behind, where they hide neither."""
    named = {item.name: item for item in items}
    away = -sweep_axis(seed)
    aside = np.array([-away[1], away[0]])
    chosen = [named[n] for n in ("cereal_box", "mug_a", "mug_b")]
    at = [
        _BOX_M * away,
        *(
            (m + rng.uniform(-0.02, 0.02)) * away + rng.uniform(-0.02, 0.02) * aside
            for m in (_NEAR_M, _FAR_M)
        ),
    ]
    across = float(np.arctan2(aside[1], aside[0])) + float(rng.uniform(-0.25, 0.25))
    turned = float(rng.uniform(0, 2 * np.pi))
    poses = [_standing(at[0], across), _standing(at[1], turned), _standing(at[2], turned)]
    others = [item for item in items if item.class_name != "book" and item not in chosen]
    for item in (others[k] for k in rng.permutation(len(others))[:_BESIDE]):
        for _ in range(_TRIES):
            p = _somewhere(rng, item)
            along, beside = float(p @ away) - item.radius_m, abs(float(p @ aside)) - item.radius_m
            clear = along > -0.1 and (beside > _CLEAR_M or along > _FAR_M + _CLEAR_M)
            if clear and all(
                np.linalg.norm(p - q) > item.radius_m + o.radius_m + _GAP_M
                for o, q in zip(chosen, at, strict=True)
            ):
                chosen.append(item)
                at.append(p)
                poses.append(_standing(p, float(rng.uniform(0, 2 * np.pi))))
                break
    return chosen, poses


def _somewhere(rng: tx.Rng, item: catalogue.Item) -> Float64[np.ndarray, "2"]:
    half = np.array(catalogue.TABLE_SIZE_M) / 2 - item.radius_m - 0.015
    return np.asarray(rng.uniform(-half, half))


def _standing(at: Float64[np.ndarray, "2"], yaw: float) -> Float64[np.ndarray, "4 4"]:
    return sh.pose(float(at[0]), float(at[1]), catalogue.TABLE_Z_M, yaw)
