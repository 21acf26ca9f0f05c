from __future__ import annotations

import numpy as np
import pytest

from vos_ros.association.absence import AbsenceDetector
from vos_ros.association.predicted_pixels import AGREES, MASK, PredictedPixels
from vos_ros.config import AssociationConfig
from vos_ros.types import Projection

SIDE = 20
AREA = SIDE * SIDE
SECOND = 10**9


def scene(
    free: float, agreeing: float = 0.0, object_id: int = 7
) -> tuple[Projection, PredictedPixels]:
    """An object of 400 px: shares of its place that are free, and that show its surface."""
    codes = np.zeros(AREA, np.uint8)
    codes[: round(agreeing * AREA)] = AGREES | MASK
    codes = codes.reshape(SIDE, SIDE)
    mask = codes > 0
    visible = float(mask.mean())
    p = Projection(
        object_id=object_id,
        shape=(100, 100),
        roi=(0, 0, SIDE, SIDE),
        mask_roi=mask,
        silhouette_roi=np.ones((SIDE, SIDE), bool),
        depth_roi=np.ones((SIDE, SIDE), np.float32),
        visible=visible,
        occluded=1 - visible,
        truncated=0.0,
        free=free,
    )
    px = int(mask.sum())
    return p, PredictedPixels(
        object_id=object_id, roi=p.roi, codes=codes, mask_px=px, core_px=px, agrees_px=px
    )


def detector() -> AbsenceDetector:
    return AbsenceDetector(
        AssociationConfig(absent_s=0.25, absent_frames=3, absent_px=50, absent_free=0.6)
    )


def watch(
    d: AbsenceDetector,
    stamps: list[float],
    free: float = 1.0,
    agreeing: float = 0.0,
    sigma_px: float | None = 1.0,
    matched: tuple[int, ...] = (),
) -> bool:
    """Whether object 7 is absent after frames at the given times, s."""
    sigmas = {} if sigma_px is None else {7: sigma_px}
    for t in stamps:
        p, predicted = scene(free, agreeing)
        d.observe([p], [predicted], sigmas, int(t * SECOND), matched)
    return 7 in d.absent(int(stamps[-1] * SECOND))


@pytest.mark.parametrize(
    ("stamps", "absent"),
    [
        ([0.0], False),
        ([0.0, 0.1, 0.2], False),
        ([0.0, 0.3], False),
        ([0.0, 0.1, 0.25], True),
        ([0.0, 0.1, 0.249], False),
        ([5.0, 5.1, 5.2], False),
        ([5.0, 5.1, 5.25], True),
    ],
)
def test_it_takes_frames_and_time(stamps: list[float], absent: bool) -> None:
    assert watch(detector(), stamps) is absent


@pytest.mark.parametrize(
    ("frame", "absent"),
    [
        ({"free": 0.125}, True),  # 50 px of 400
        ({"free": 0.1225}, False),  # 49 px: too few to decide
        ({"free": 0.6, "agreeing": 0.4}, True),
        ({"free": 0.55, "agreeing": 0.45}, False),  # nearly half of its surface is there
        ({"free": 0.6, "agreeing": 0.2}, True),  # a fifth is hidden: 0.75 of the rest is free
        ({"sigma_px": 5.0}, True),  # a quarter of its side
        ({"sigma_px": 5.1}, False),  # the pose cannot tell its place from the one next to it
        ({"sigma_px": None}, False),
        ({"matched": (7,)}, False),
        ({"matched": (8,)}, True),
    ],
)
def test_what_is_evidence(frame: dict[str, float], absent: bool) -> None:
    assert watch(detector(), [0.0, 0.1, 0.2, 0.3], **frame) is absent  # type: ignore[arg-type]


def test_a_hidden_place_is_no_evidence_and_a_measured_surface_is_evidence_against() -> None:
    d = detector()
    assert watch(d, [0.0, 0.1, 0.3])
    assert not watch(d, [0.4], free=0.0), "its place is not free in this frame"
    assert watch(d, [0.5]), "nor was its surface measured"
    assert not watch(d, [0.6], free=0.0, agreeing=0.9)
    assert not watch(d, [0.7, 0.8]) and watch(d, [0.9, 1.0]), "the count started again"


@pytest.mark.parametrize(
    ("agreeing", "against"), [(0.1225, False), (0.125, True)], ids=["49 px", "50 px"]
)
def test_a_surface_of_some_pixels_is_evidence_against(agreeing: float, against: bool) -> None:
    d = detector()
    assert watch(d, [0.0, 0.1, 0.3])
    watch(d, [0.4], free=0.05, agreeing=agreeing)
    assert watch(d, [0.5]) is not against


def test_a_match_in_its_place_starts_the_count_again() -> None:
    d = detector()
    assert watch(d, [0.0, 0.1, 0.3])
    assert not watch(d, [0.4], matched=(7,)) and not watch(d, [0.5, 0.6]) and watch(d, [0.8])


def test_an_absent_object_stays_absent_on_less_evidence_until_more_is_against_it() -> None:
    d = detector()
    assert watch(d, [0.0, 0.1, 0.3])
    assert watch(d, [0.4, 0.5], free=0.5, agreeing=0.45)
    assert watch(d, [0.55], free=0.5, agreeing=0.5), "as much surface as free space"
    assert not watch(d, [0.6], free=0.4, agreeing=0.5) and not watch(d, [0.7, 0.8])


def test_less_evidence_counts_no_frame() -> None:
    d = detector()
    watch(d, [0.0, 0.1])
    assert not watch(d, [0.3, 0.4], free=0.5, agreeing=0.45), "two frames counted"
    assert watch(d, [0.5])


def test_evidence_is_of_each_object_apart() -> None:
    d = detector()
    for t in (0.0, 0.1, 0.3):
        items = [scene(1.0), scene(0.0, 0.9, object_id=8), scene(1.0, object_id=9)]
        projections, predicted = zip(*items, strict=True)
        d.observe(projections, predicted[::-1], {7: 1.0, 8: 1.0, 9: 1.0}, int(t * SECOND))
    assert d.absent(int(0.3 * SECOND)) == {7, 9}
    d.observe(*zip(scene(1.0), strict=True), {7: 1.0}, int(0.4 * SECOND))
    assert d.absent(int(0.4 * SECOND)) == {7}, "object 9 is out of view"


def test_a_forgotten_object_starts_anew() -> None:
    d = detector()
    assert watch(d, [0.0, 0.1, 0.3])
    d.forget([8])
    assert d.absent(int(0.3 * SECOND)) == {7}
    d.forget([7, 8])
    assert not d.absent(int(0.3 * SECOND)) and not watch(d, [0.4])
