"""The fusion against the formula in its docstring, computed by NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vos_ros.segmentation.fusion import (
    LAST_PLACE_PRIOR,
    MIN_BACKGROUND_PRIOR,
    MIN_LIKELIHOOD,
    PixelRows,
    Prior,
    box_priors,
    follows_box,
    fuse,
    limit_runaway_masks,
    most_probable_rows,
    projection_is_reliable,
    projection_prior,
)
from vos_ros.types import Projection, Segmentation

H, W = 48, 64


def rect(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def projection(mask: np.ndarray, depth_m: float = 2.0, object_id: int = 7) -> Projection:
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    crop = mask[y0:y1, x0:x1]
    depth = np.where(crop, np.float32(depth_m), np.float32(0))
    return Projection(object_id, mask.shape, (x0, y0, x1, y1), crop, crop, depth, 1.0, 0.0, 0.0)


def segmentation(
    *objects: np.ndarray, ids: tuple[int, ...] = (), boundary_px: float = 4.0
) -> Segmentation:
    """Rows of given probabilities; the background has the rest."""
    p = np.stack([1.0 - np.sum(objects, 0), *objects]).astype(np.float32)
    return Segmentation(ids or tuple(range(1, len(objects) + 1)), torch.from_numpy(p), boundary_px)


def whole(prior: Prior) -> np.ndarray:
    out = np.zeros((H, W), np.float32)
    x0, y0, x1, y1 = prior.roi
    out[y0:y1, x0:x1] = prior.prob
    return out


def winner(rows: PixelRows) -> np.ndarray:
    return rows.row.numpy()


def best(rows: PixelRows) -> np.ndarray:
    return rows.prob.numpy()


# -- the prior


def test_a_sure_prior_is_the_projection() -> None:
    mask = rect(20, 10, 40, 30)
    assert np.array_equal(whole(projection_prior(projection(mask), 0.0, None, 0.05)), mask)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 5.0])
def test_an_unsure_prior_is_the_blurred_projection(sigma: float) -> None:
    mask = rect(20, 10, 40, 30)
    blurred = cv2.GaussianBlur(
        mask.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
    )
    prior = projection_prior(projection(mask), sigma, None, 0.05)
    assert prior.sigma_px == sigma
    assert np.allclose(whole(prior), blurred, atol=0.01)


def test_blurring_never_leaves_an_object_to_the_background() -> None:
    prior = whole(projection_prior(projection(rect(20, 10, 40, 30)), 30.0, None, 0.05))
    assert prior[20, 30] > 0.5


def test_where_a_projection_lies_beside_its_object_the_image_has_nothing_to_say() -> None:
    """A segmenter that was seeded there follows something else."""
    mask, elsewhere = rect(20, 10, 40, 30), rect(30, 10, 50, 30)
    got = fuse(
        segmentation(np.where(elsewhere, 0.97, 0.02)),
        {1: projection_prior(projection(mask), 11.0, None, 0.05)},
        {},
        0.0,
    )
    found = winner(got) == 1
    assert (found & mask).sum() / (found | mask).sum() > 0.8


def test_an_object_at_the_image_border_goes_on_outside() -> None:
    mask = rect(0, 10, 20, 30)
    prior = whole(projection_prior(projection(mask), 3.0, None, 0.05))
    assert prior[20, 0] == pytest.approx(1.0, abs=0.01)
    assert prior[20, 20] == pytest.approx(0.5, abs=0.1)


def test_depth_that_contradicts_cuts_and_depth_that_is_unknown_does_not() -> None:
    mask = rect(20, 10, 40, 30)
    depth = np.full((H, W), 2.02, np.float32)
    depth[10:30, 20:25] = 1.5  # something before it
    depth[10:30, 25:30] = 2.5  # something behind where it should be
    depth[10:30, 30:35] = 0.0
    prior = whole(projection_prior(projection(mask, 2.0), 0.0, depth, 0.05))
    assert np.allclose(prior[10:30, 20:30], 0.05), "as much as outliers have"
    assert prior[10:30, 30:40].min() == 1.0


def test_depth_is_compared_with_all_that_the_object_shows_nearby() -> None:
    mask = rect(20, 10, 40, 30)
    p = projection(mask)
    slanted = np.where(p.mask_roi, np.linspace(1.0, 2.0, 20, dtype=np.float32)[None], np.float32(0))
    p = Projection(7, p.shape, p.roi, p.mask_roi, p.silhouette_roi, slanted, 1.0, 0.0, 0.0)
    moved = np.zeros((H, W), np.float32)
    moved[10:30, 23:43] = slanted  # as the camera sees it, 3 px beside where the pose puts it
    unsure = whole(projection_prior(p, 3.0, moved, 0.05))
    assert unsure[20, 27:35].min() > 0.5
    sure = whole(projection_prior(p, 0.0, moved, 0.05))
    assert sure[20, 27:35].max() < 0.1


def test_a_projection_is_reliable_up_to_half_the_root_of_its_area() -> None:
    p = projection(rect(20, 10, 40, 30))
    assert projection_is_reliable(p, 10.0) and not projection_is_reliable(p, 10.1)
    assert projection_prior(p, 10.0, None, 0.05).sigma_px == 10.0
    assert projection_prior(p, 10.1, None, 0.05).sigma_px == 0.0


def test_depth_that_differs_by_less_than_the_tolerance_agrees() -> None:
    mask = rect(20, 10, 40, 30)
    depth = np.full((H, W), 2.0, np.float32)
    depth[:, 20:25], depth[:, 25:30], depth[:, 30:35] = 1.96, 2.04, 2.06
    prior = whole(projection_prior(projection(mask, 2.0), 0.0, depth, 0.05))
    assert prior[20, 20:30].min() == 1.0 and prior[20, 31:34].max() < 0.1


def test_a_prior_reaches_three_sigma_and_not_out_of_the_image() -> None:
    inner = projection_prior(projection(rect(20, 10, 40, 30)), 2.0, None, 0.05)
    assert inner.roi == (13, 3, 47, 37)
    outer = projection_prior(projection(rect(1, 2, 62, 45)), 2.0, None, 0.05)
    assert outer.roi == (0, 0, W, H) and outer.prob.shape == (H, W)


# -- the fusion


def oracle(s: Segmentation, priors: Mapping[int, Prior]) -> np.ndarray:
    """posterior_n ~ prior_n (p_n / p_0)^beta_n, posterior_0 ~ 1 - sum prior_n, with the minima."""
    p = s.probs.numpy().astype(float)
    out = np.zeros_like(p)
    out[0] = np.clip(1 - sum(whole(q) for q in priors.values()), MIN_BACKGROUND_PRIOR, 1)
    for row, i in enumerate(s.object_ids, start=1):
        beta = priors[i].sigma_px ** 2 / (priors[i].sigma_px ** 2 + s.boundary_px**2)
        out[row] = (
            whole(priors[i])
            * (np.maximum(p[row], MIN_LIKELIHOOD) / np.maximum(p[0], MIN_LIKELIHOOD)) ** beta
        )
    return out / out.sum(0)


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64], ids=["as on the CPU", "as elsewhere"]
)
@pytest.mark.parametrize("sigmas", [(0.0, 0.0), (2.0, 5.0), (6.0, 0.5), (15.0, 15.0)])
def test_the_formula(sigmas: tuple[float, float], kind: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet((1, 1, 1), (H, W)).transpose(2, 0, 1)
    s = segmentation(p[1], p[2], ids=(4, 9))
    s = replace(s, probs=s.probs.to(kind))
    priors = {
        i: projection_prior(projection(m), sigma, None, 0.05)
        for i, m, sigma in zip(
            (4, 9), (rect(8, 8, 30, 30), rect(34, 12, 60, 40)), sigmas, strict=True
        )
    }
    got = fuse(s, priors, {}, 0.0)
    wanted = oracle(s, priors)
    assert np.allclose(best(got), wanted.max(0), atol=1e-4)
    clear = np.diff(np.sort(wanted, 0)[-2:], axis=0)[0] > 1e-3
    assert np.array_equal(winner(got)[clear], wanted.argmax(0)[clear]) and clear.mean() > 0.9


def test_a_sure_pose_gives_the_projection_whatever_the_image_says() -> None:
    mask = rect(20, 10, 40, 30)
    s = segmentation(np.where(rect(30, 20, 60, 44), 0.99, 0.005))
    got = fuse(s, {1: projection_prior(projection(mask), 0.0, None, 0.05)}, {}, 0.0)
    assert np.array_equal(winner(got) == 1, mask)


def test_an_unsure_pose_follows_the_image() -> None:
    shifted = rect(28, 14, 48, 34)
    s = segmentation(np.where(shifted, 0.97, 0.02))
    got = fuse(s, {1: projection_prior(projection(rect(20, 10, 40, 30)), 9.0, None, 0.05)}, {}, 0.0)
    found = winner(got) == 1
    assert (found & shifted).sum() / (found | shifted).sum() > 0.8


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64], ids=["as on the CPU", "as elsewhere"]
)
def test_an_object_that_the_map_says_nothing_of_keeps_its_odds(kind: torch.dtype) -> None:
    p = np.random.default_rng(0).uniform(0.1, 0.4, (2, H, W))
    s = segmentation(p[0], p[1], ids=(4, 9))
    s = replace(s, probs=s.probs.to(kind))
    mask = rect(20, 10, 40, 30)
    got = fuse(s, {9: projection_prior(projection(mask), 2.0, None, 0.05)}, {}, 0.0)
    away = ~rect(4, 0, 56, 46)  # where object 9's prior doesn't reach
    odds = (s.probs[1] / s.probs[0]).numpy()[away]
    assert np.array_equal(winner(got)[away], odds > 1)
    assert np.allclose(best(got)[away], np.maximum(odds, 1) / (1 + odds), rtol=1e-3)


def test_without_priors_the_image_decides() -> None:
    s = segmentation(np.where(rect(0, 0, 20, H), 0.7, 0.4))
    got = fuse(s, {}, {1: (0, 0, W, H)}, 3.0)
    assert np.array_equal(winner(got) == 1, rect(0, 0, 20, H))
    assert np.allclose(best(got), np.where(rect(0, 0, 20, H), 0.7, 0.6))
    nothing = Segmentation((), torch.ones((1, H, W)))
    got = fuse(nothing, {1: None}, {}, 3.0)
    assert not winner(got).any() and best(got).min() == 1.0


@pytest.mark.parametrize(("objects", "kind"), [(255, torch.uint8), (256, torch.int16)])
def test_rows_are_bytes_as_long_as_bytes_can_number_them(objects: int, kind: torch.dtype) -> None:
    probs = torch.zeros((objects + 1, 2, 2))
    probs[0], probs[objects, 1, 1] = 0.5, 0.9
    got = most_probable_rows(Segmentation(tuple(range(1, objects + 1)), probs))
    assert got.row.dtype == kind and got.row.tolist() == [[0, 0], [0, objects]]
    assert got.prob[1, 1] == pytest.approx(0.9)


def test_the_last_place_counts_next_to_the_prior() -> None:
    """Where the map predicts the object elsewhere, and the image finds it where it just was."""
    here = rect(4, 30, 14, 40)
    s = segmentation(np.where(here, 0.98, 0.01))
    prior = projection_prior(projection(rect(40, 4, 60, 24)), 9.0, None, 0.05)
    before = fuse(s, {1: prior}, {}, 0.0)
    after = fuse(s, {1: prior}, {1: (4, 30, 14, 40)}, 0.0)
    assert best(before)[35, 9] == 1.0
    odds = LAST_PLACE_PRIOR * (0.98 / MIN_LIKELIHOOD) ** (81 / (81 + 16))
    assert best(after)[35, 9] == pytest.approx(1 / (1 + odds), abs=1e-3)
    assert np.array_equal(best(after)[:20, 40:], best(before)[:20, 40:]), "the prior stays"
    beyond = np.s_[22:, 22:30]  # half of its size farther on
    assert np.array_equal(best(after)[beyond], best(before)[beyond])
    certain = replace(prior, sigma_px=2.0)  # beta = 4 / 20
    assert best(fuse(s, {1: certain}, {1: (4, 30, 14, 40)}, 0.0))[35, 9] == 1.0


def test_an_object_that_the_map_puts_nowhere_stays_only_about_where_it_was() -> None:
    seen = rect(20, 10, 40, 30)
    s = segmentation(np.where(seen, 0.98, 0.01))
    gone = fuse(s, {1: None}, {}, 10.0)
    assert not (winner(gone) == 1).any()
    held = fuse(
        s, {1: None}, {1: (20, 10, 40, 30)}, 20.0
    )  # under an unsure pose the image is believed
    grown = rect(10, 0, 50, 40)
    odds = np.where(seen, 0.98 / MIN_LIKELIHOOD, MIN_LIKELIHOOD / 0.99) ** (400 / 416)
    assert np.allclose(
        1 - best(held),
        np.where(grown, LAST_PLACE_PRIOR * odds / (1 + LAST_PLACE_PRIOR * odds), 0),
        atol=1e-3,
    )
    sure = fuse(s, {1: None}, {1: (20, 10, 40, 30)}, 0.0)
    assert not (winner(sure) == 1).any()


def test_the_best_of_a_distribution_is_no_less_than_its_share_and_the_inputs_are_left() -> None:
    p = np.zeros((3, H, W))
    p[0, :, :30] = 1.0  # certain to the last digit, and impossible elsewhere
    p[1, :, 30:] = 1.0
    s = segmentation(*p, ids=(4, 9, 12))
    before = s.probs.clone()
    mask = rect(20, 10, 40, 30)
    priors = {
        i: projection_prior(projection(mask), sigma, None, 0.05)
        for i, sigma in ((4, 0.0), (9, 0.4), (12, 30.0))
    }
    probs = [q.prob.copy() for q in priors.values()]
    got = fuse(s, priors, {4: (0, 0, W, H), 12: (60, 40, 64, 48)}, 3.0)
    assert (
        np.isfinite(best(got)).all()
        and best(got).min() > 1 / 4 - 1e-4
        and best(got).max() <= 1.0 + 1e-6
    )
    assert torch.equal(s.probs, before) and all(
        np.array_equal(a, q.prob) for a, q in zip(probs, priors.values(), strict=True)
    )


@pytest.mark.parametrize("sigma", [0.0, 11.0])
def test_outlines_that_are_exact_and_a_prior_that_is_sure_or_worthless(sigma: float) -> None:
    """Both variances are 0 then (the ground-truth twin): the projection stands."""
    mask = rect(20, 10, 40, 30)
    exact = replace(segmentation(np.where(rect(30, 10, 50, 30), 1.0, 0.0)), boundary_px=0.0)
    for priors in ({1: projection_prior(projection(mask), sigma, None, 0.05)}, {1: None}):
        got = fuse(exact, priors, {1: (20, 10, 40, 30)}, 0.0)
        assert np.isfinite(best(got)).all() and best(got).min() >= 0.5 - 1e-6


# -- runaway masks


def test_a_mask_that_becomes_the_whole_image_keeps_what_is_about_its_last_place() -> None:
    s = segmentation(0.9 * np.ones((H, W)), ids=(3,))
    last = {3: (20, 16, 30, 26)}
    gate = limit_runaway_masks(s, last)
    assert gate[3].roi == (12, 8, 38, 34)
    won = winner(fuse(s, gate, last, 0.0)) == 1
    assert won[8:34, 12:38].all() and won.sum() == 26 * 26


def test_how_far_a_runaway_mask_may_have_moved_depends_on_its_box() -> None:
    s = segmentation(0.9 * np.ones((H, W)), ids=(3,))
    assert limit_runaway_masks(s, {3: (20, 12, 44, 16)})[3].roi == (8, 4, 56, 24)
    assert limit_runaway_masks(s, {3: (2, 40, 10, 48)})[3].roi == (0, 32, 18, H)
    assert limit_runaway_masks(s, {3: (58, 2, 64, 22)})[3].roi == (50, 0, W, 32)
    two = segmentation(np.full((H, W), 0.1), np.full((H, W), 0.8), ids=(3, 8))
    assert list(limit_runaway_masks(two, {3: (0, 0, 9, 9), 8: (0, 0, 9, 9)})) == [8]


def test_what_was_large_or_grows_by_little_or_is_new_may_be_large() -> None:
    s = segmentation(0.9 * np.ones((H, W)), ids=(3,))
    assert (
        limit_runaway_masks(s, {3: (0, 0, 40, 30)}) == {}
        and limit_runaway_masks(s, {}) == {}
        and limit_runaway_masks(s, {4: (20, 16, 30, 26)}) == {}
    )
    assert (
        limit_runaway_masks(segmentation(0.9 * rect(16, 12, 40, 40)), {1: (20, 16, 30, 26)}) == {}
    )


# -- objects that are boxes


def test_in_a_box_the_image_decides_and_the_odds_of_several_boxes_are_shared() -> None:
    """Odds against the background: 4 in the visible part, 1 where another object is."""
    one = projection(rect(4, 4, 24, 24), object_id=1)
    other = projection(rect(14, 4, 34, 24), object_id=2)
    seen = other.mask_roi.copy()
    seen[:, :10] = False
    other = replace(other, mask_roi=seen)  # the shared part is the first one's
    priors = box_priors([one, other], {1: 0.0, 2: 0.0}, None, {1: 0.05, 2: 0.05})
    a, b = whole(priors[1]), whole(priors[2])
    np.testing.assert_allclose(a[10, [8, 18, 30]], [4 / 5, 4 / 6, 0], rtol=1e-6)
    np.testing.assert_allclose(b[10, [8, 18, 30]], [0, 1 / 6, 4 / 5], rtol=1e-6)
    image = segmentation(0.9 * rect(4, 4, 14, 24), 0.9 * rect(24, 4, 34, 10), boundary_px=4.0)
    won = winner(fuse(image, priors, {}, 0.0))
    assert (won[4:24, 4:14] == 1).all() and (won[4:10, 24:34] == 2).all()
    assert not won[12:24, 24:34].any(), "the image says no"
    assert box_priors([], {}, None, {}) == {}


def test_depth_that_contradicts_a_box_leaves_it_next_to_nothing() -> None:
    p = projection(rect(4, 4, 24, 24), object_id=1)
    depth = np.full((H, W), 2.0, np.float32)
    depth[:, 14:] = 3.0
    near = p.mask_roi.copy()
    near[:, 10:] = False
    (prior,) = box_priors([replace(p, mask_roi=near)], {1: 0.0}, depth, {1: 0.05}).values()
    assert whole(prior)[10, 8] == pytest.approx(0.8) and whole(prior)[10, 20] < 0.06


def test_a_segmenter_that_finds_less_than_half_of_a_box_has_lost_the_object() -> None:
    p = projection(rect(4, 4, 24, 24))
    assert follows_box(segmentation(0.9 * rect(4, 4, 15, 24)), 1, p)
    assert not follows_box(segmentation(0.9 * rect(4, 4, 13, 24)), 1, p)
    assert not follows_box(segmentation(0.9 * rect(26, 4, 46, 24)), 1, p)
