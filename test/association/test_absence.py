from __future__ import annotations

import numpy as np
import pytest

from vos_ros.association.absence import AbsenceDetector
from vos_ros.association.predicted_pixels import AGREES, MASK, PredictedPixels
from vos_ros.config import AssociationConfig
from vos_ros.types import Projection

SIDE = 20
SECOND = 10**9


def scene(free: float, agreeing: float = 0.0) -> tuple[Projection, PredictedPixels]:
    """Object 7, 400 px: the shares of its place that are seen through, and on which its surface is measured."""
    silhouette, flat = np.ones((SIDE, SIDE), bool), np.zeros(SIDE * SIDE, np.uint8)
    flat[: round(agreeing * flat.size)] = AGREES | MASK
    codes = flat.reshape(SIDE, SIDE)
    mask = codes > 0
    visible = float(mask.mean())
    p = Projection(
        7,
        (100, 100),
        (0, 0, SIDE, SIDE),
        mask,
        silhouette,
        np.ones((SIDE, SIDE), np.float32),
        visible,
        1 - visible,
        0.0,
        free,
    )
    px = int(mask.sum())
    return p, PredictedPixels(
        object_id=7, roi=p.roi, codes=codes, mask_px=px, core_px=px, agrees_px=px
    )


def book() -> AbsenceDetector:
    return AbsenceDetector(AssociationConfig(absent_s=0.25, absent_frames=3))


def watch(
    b: AbsenceDetector,
    stamps: list[float],
    free: float = 1.0,
    agreeing: float = 0.0,
    sigma_px: float = 1.0,
    matched: tuple[int, ...] = (),
) -> bool:
    for t in stamps:
        p, e = scene(free, agreeing)
        b.observe([p], [e], {7: sigma_px}, int(t * SECOND), matched)
    return 7 in b.absent(int(stamps[-1] * SECOND))


@pytest.mark.parametrize(
    ("stamps", "known"),
    [([0.0], False), ([0.0, 0.1, 0.2], False), ([0.0, 0.3], False), ([0.0, 0.1, 0.3], True)],
)
def test_it_takes_frames_and_time(stamps: list[float], known: bool) -> None:
    assert watch(book(), stamps) is known


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"free": 0.85}, True),
        ({"free": 0.1}, False),  # 40 px of 400: too few to say anything
        ({"free": 0.55, "agreeing": 0.45}, False),  # nearly half of it stands there
        ({"sigma_px": 6.0}, False),  # the pose can't tell the place from the one beside it
        ({"matched": (7,)}, False),
    ],
)
def test_what_is_no_evidence(said: dict[str, float], known: bool) -> None:
    assert watch(book(), [0.0, 0.1, 0.2, 0.3], **said) is known  # type: ignore[arg-type]


def test_what_is_hidden_says_nothing_and_what_is_measured_there_speaks_against_it() -> None:
    b = book()
    assert watch(b, [0.0, 0.1, 0.3])
    assert not watch(b, [0.4], free=0.0), "not seen to be empty now"
    assert watch(b, [0.5]), "nor to be there"
    assert not watch(b, [0.6], free=0.0, agreeing=0.9)
    assert not watch(b, [0.7, 0.8]) and watch(b, [0.9, 1.0])


def test_what_is_known_to_be_absent_stays_so_on_less_until_more_speaks_against_it() -> None:
    b = book()
    assert watch(b, [0.0, 0.1, 0.3])
    assert watch(b, [0.4, 0.5], free=0.5, agreeing=0.45)
    assert not watch(b, [0.6], free=0.4, agreeing=0.5) and not watch(b, [0.7, 0.8])


def test_what_is_forgotten_starts_anew() -> None:
    b = book()
    assert watch(b, [0.0, 0.1, 0.3])
    b.forget([7, 8])
    assert not b.absent(int(0.3 * SECOND)) and not watch(b, [0.4])
