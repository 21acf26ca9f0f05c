from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_ros.association.appearance import (
    AppearanceGallery,
    cell_shares,
    pool_on_device,
    pool_on_host,
)

H, W = 48, 64
RED, GREEN, BLUE = (torch.tensor(c, dtype=torch.float32) for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def scene(*colours: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Grey features at stride 8 with one square per colour, and its instance index."""
    features, index = torch.full((3, 6, 8), 0.3), np.zeros((H, W), np.int32)
    for k, colour in enumerate(colours):
        features[:, 2:4, 2 * k : 2 * k + 2] = colour[:, None, None]
        index[16:32, 16 * k : 16 * k + 16] = k + 1
    return features, index


def centred(channels: int, max_views: int = 8) -> AppearanceGallery:
    """A gallery whose mean of all features is 0."""
    gallery = AppearanceGallery(max_views)
    gallery.describe(torch.zeros((channels, 6, 8)), np.zeros((H, W), np.int32), (1,))
    return gallery


def unit(*degrees: float) -> dict[int, np.ndarray]:
    """Descriptors of tracks 1, 2, ... in two dimensions."""
    angles = np.radians(degrees)
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    return dict(enumerate(rows, start=1))


def test_a_descriptor_is_the_mean_of_the_features_in_the_mask() -> None:
    features, index = scene(RED, GREEN)
    got = AppearanceGallery(8).describe(features, index, (7, 9))
    assert np.allclose(got[7], RED, atol=1e-6) and np.allclose(got[9], GREEN, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mask_across_cells_is_weighted_by_its_share_of_each(axis: int) -> None:
    """Track 1 lies on red cells alone; a quarter of track 2 is green."""
    features, index = torch.zeros((3, 8, 8)), np.zeros((64, 64), np.int32)
    features[0, :4], features[1, 4:] = 1.0, 1.0
    index[4:12, 16:32] = 1
    index[20:36, 16:32] = 2
    if axis:
        features, index = features.transpose(1, 2), index.T.copy()
    got = AppearanceGallery(8).describe(features, index, (1, 2))
    assert np.allclose(got[1], RED, atol=1e-6)
    assert np.allclose(got[2], 0.75 * RED + 0.25 * GREEN, atol=1e-6)


def test_without_features_tracks_or_pixels_there_is_no_descriptor() -> None:
    features, index = scene(RED)
    gallery = AppearanceGallery(8)
    assert gallery.describe(None, index, (1,)) == {} and gallery.describe(features, index, ()) == {}
    assert set(gallery.describe(features, index, (1, 2))) == {1}
    gallery.learn(50, RED.numpy())
    assert gallery.similarities({}) == {}


def test_the_similarity_is_that_to_the_most_similar_view() -> None:
    gallery = AppearanceGallery(8)
    tracks = gallery.describe(*scene(RED, GREEN, BLUE), (1, 2, 3))
    assert gallery.similarities(tracks) == {}, "nothing was learned"
    gallery.learn(50, tracks[1])
    gallery.learn(50, tracks[2])
    gallery.learn(60, tracks[3])
    got = gallery.similarities(tracks)
    for pair in ((1, 50), (2, 50), (3, 60)):
        assert got[pair] == pytest.approx(1)
    assert got[3, 50] < 0.5 and got[1, 60] < 0.5
    assert set(got) == {(t, o) for t in (1, 2, 3) for o in (50, 60)}
    assert got.get((4, 50)) is None and got.get((1, 70)) is None
    assert len(got) == len(list(got.values())) == 6


def test_the_similarity_is_the_cosine_of_differences_from_the_mean() -> None:
    gallery = centred(2)
    gallery.learn(50, 3 * unit(0)[1])
    got = gallery.similarities(unit(60, 180))
    assert got[1, 50] == pytest.approx(0.5, abs=1e-6)
    assert got[2, 50] == pytest.approx(-1, abs=1e-6)


def test_the_mean_follows_the_frames_slowly() -> None:
    """After a frame of ones the mean is 0.05, after two 0.0975: a view at (1, 0) is seen from
    there.
    """
    gallery = centred(2)
    gallery.learn(50, np.array([1, 0], np.float32))
    for mean in (0.05, 0.0975):
        gallery.describe(torch.ones((2, 6, 8)), np.zeros((H, W), np.int32), (1,))
        got = gallery.similarities({1: np.array([0, 1], np.float32)})
        a, b = np.array([1, 0]) - mean, np.array([0, 1]) - mean
        assert got[1, 50] == pytest.approx(a @ b / (a @ a), abs=1e-6)


def test_a_learned_descriptor_does_not_change_with_its_array() -> None:
    gallery, rows = centred(2), np.stack(list(unit(0, 90).values()))
    gallery.learn(50, rows[0])
    rows[0] = rows[1]
    assert gallery.similarities(unit(0))[1, 50] == pytest.approx(1)


@pytest.mark.parametrize(("degrees", "kept"), [(17.0, 1), (19.0, 2)])
def test_a_view_like_a_kept_one_is_not_added(degrees: float, kept: int) -> None:
    """cos(18.2 deg) = 0.95."""
    gallery, views = centred(2), unit(0, degrees)
    gallery.learn(50, views[1])
    gallery.learn(50, views[2])
    assert gallery.view_count(50) == kept and gallery.view_count(60) == 0


def test_of_too_many_views_one_of_the_two_most_alike_is_dropped() -> None:
    gallery = centred(2, max_views=3)
    for view in unit(0, 90, 180, 200).values():
        gallery.learn(50, view)
    assert gallery.view_count(50) == 3
    similar = gallery.similarities(unit(0, 90, 190))
    assert similar[1, 50] == pytest.approx(1) == similar[2, 50]
    assert similar[3, 50] == pytest.approx(np.cos(np.radians(10)), abs=1e-5)


def test_what_is_learned_between_two_comparisons_counts() -> None:
    """A first view, one more view, and another object's view."""
    gallery, tracks = centred(2), unit(0, 90, 180)
    gallery.learn(50, tracks[1])
    assert gallery.similarities(tracks)[2, 50] == pytest.approx(0, abs=1e-6)
    gallery.learn(50, tracks[2])
    assert gallery.similarities(tracks)[2, 50] == pytest.approx(1)
    gallery.learn(60, tracks[3])
    got = gallery.similarities(tracks)
    assert got[3, 60] == pytest.approx(1) and got[3, 50] == pytest.approx(0, abs=1e-6)


def test_a_deleted_object_is_forgotten_and_the_others_keep_their_views() -> None:
    """Views are compared from one array for all objects: it must not keep those of the deleted."""
    gallery, tracks = centred(2), unit(0, 90)
    gallery.learn(50, tracks[1])
    gallery.learn(60, tracks[2])
    assert gallery.similarities(tracks)[2, 60] == pytest.approx(1)
    gallery.keep_only({60, 70})
    got = gallery.similarities(tracks)
    assert set(got) == {(1, 60), (2, 60)}
    assert got[2, 60] == pytest.approx(1) and got[1, 60] == pytest.approx(0, abs=1e-6)
    gallery.keep_only(())
    assert gallery.similarities(tracks) == {}


def test_features_of_another_size_start_over() -> None:
    gallery = AppearanceGallery(8)
    gallery.learn(1, gallery.describe(*scene(RED), (1,))[1])
    others = gallery.describe(torch.ones((5, 6, 8)), scene(RED)[1], (1,))
    assert gallery.similarities(others) == {} and gallery.view_count(1) == 0


def test_host_and_device_give_the_same_means() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(16, 6, 8)).astype(np.float32))
    index = rng.integers(0, 4, (H, W)).astype(np.int32)
    index[index == 2] = 0  # a track without pixels
    shares = cell_shares(index, 3, (6, 8))
    on_host, on_device = pool_on_host(features, *shares), pool_on_device(features, *shares)
    for a, b in zip(on_host, on_device, strict=True):
        assert a.shape == b.shape and np.allclose(a, b, atol=1e-5)
    assert np.allclose(on_host[1], features.mean((1, 2)), atol=1e-6)


def test_the_shares_of_an_instance_sum_to_one() -> None:
    index = np.zeros((H, W), np.int32)
    index[0:24, 0:64] = 2
    index[40:48, 0:8] = 3
    row, cell, share = cell_shares(index, 3, (6, 8))
    assert row.tolist() == [2] * 24 + [3] and cell.tolist() == [*range(24), 40]
    assert share == pytest.approx([1 / 24] * 24 + [1.0])


@pytest.mark.parametrize(("y", "x", "sampled"), [(1, 1, True), (3, 1, False), (1, 3, False)])
def test_the_sampled_pixels_are_the_middles_of_squares_of_4_px(
    y: int, x: int, sampled: bool
) -> None:
    """They are 2, 6, 10, ... px from the border; the mask is 3 px by 3 px."""
    index = np.zeros((H, W), np.int32)
    index[y : y + 3, x : x + 3] = 1
    row, _, share = cell_shares(index, 1, (6, 8))
    assert (row.tolist(), share.tolist()) == (([1], [1.0]) if sampled else ([], []))
