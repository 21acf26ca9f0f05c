"""The ground-truth twin of the segmenters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_ros.evaluation.oracle import OracleSegmenter
from vos_ros.evaluation.score import Truth
from vos_ros.types import Frame, Intrinsics, Mask, Seed

H, W = 24, 32


@pytest.fixture()
def truth(tmp_path: Path) -> Truth:
    """Object 3 walks right by 4 px per frame; object 7 stays; one column is void."""
    paths = []
    for i in range(3):
        mask = np.zeros((H, W), np.uint8)
        mask[2:8, 2 + 4 * i : 8 + 4 * i] = 3
        mask[12:20, 20:30] = 7
        mask[:, -1] = 255
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(mask, mode="L").save(paths[-1])
    return Truth(tuple(i * 100_000_000 for i in range(3)), tuple(paths), {3: "a", 7: "b"})


def frame(i: int) -> Frame:
    return Frame(
        i,
        i * 100_000_000,
        np.zeros((H, W, 3), np.uint8),
        None,
        Intrinsics(30.0, 30.0, 15.5, 11.5, W, H),
    )


def box(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return Mask(mask)


def test_a_rough_seed_becomes_the_true_mask_and_follows(truth: Truth) -> None:
    oracle = OracleSegmenter(truth)
    assert oracle.uses_image
    seeded = oracle.seed(frame(0), [Seed(40, box(4, 4, 12, 12)), Seed(41, box(15, 10, 25, 18))])
    assert seeded.object_ids == (40, 41) and float(seeded.probs.sum(0).min()) == pytest.approx(1.0)
    labels = oracle.step(frame(2)).labels()
    assert np.array_equal(labels == 40, np.pad(np.ones((6, 6), bool), ((2, H - 8), (10, W - 16))))
    assert np.count_nonzero(labels == 41) == 80


def test_a_seed_beside_everything_is_never_found(truth: Truth) -> None:
    oracle = OracleSegmenter(truth)
    oracle.seed(frame(0), [Seed(5, box(0, 20, 6, 24))])
    assert not oracle.step(frame(1)).labels().any()


def test_dropped_and_unknown_objects(truth: Truth) -> None:
    oracle = OracleSegmenter(truth)
    oracle.seed(frame(0), [Seed(5, box(2, 2, 8, 8))])
    with pytest.raises(KeyError, match="9"):
        oracle.drop([9])
    oracle.drop([5])
    assert oracle.object_ids == () and not oracle.step(frame(1)).labels().any()


def test_a_frame_of_another_recording_is_refused(truth: Truth) -> None:
    oracle = OracleSegmenter(truth)
    late = Frame(9, 5_000_000_000, np.zeros((H, W, 3), np.uint8), None, frame(0).intrinsics)
    with pytest.raises(ValueError, match="no ground truth"):
        oracle.seed(late, [Seed(5, box(2, 2, 8, 8))])
