from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_ros.association import appearance
from vos_ros.association.appearance import AppearanceGallery

H, W = 48, 64
RED, GREEN, BLUE = (torch.tensor(c, dtype=torch.float32) for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def scene(*colours: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Grey features at stride 8 with one square per colour, and who owns them."""
    features, owner = torch.full((3, 6, 8), 0.3), np.zeros((H, W), np.int32)
    for k, colour in enumerate(colours):
        features[:, 2:4, 2 * k : 2 * k + 2] = colour[:, None, None]
        owner[16:32, 16 * k : 16 * k + 16] = k + 1
    return features, owner


def test_a_descriptor_is_the_mean_of_the_features_in_the_mask() -> None:
    features, owner = scene(RED, GREEN)
    got = AppearanceGallery(8).describe(features, owner, (7, 9))
    assert np.allclose(got[7], RED, atol=1e-6) and np.allclose(got[9], GREEN, atol=1e-6)


def test_a_mask_off_the_cells_is_weighed_by_its_share_of_each() -> None:
    features, owner = scene(RED, GREEN)
    owner[:] = 0
    owner[16:32, 4:12] = 1  # one half on red's first column of cells, the other on its second
    owner[16:32, 12:20] = 2  # one half red, one half green
    got = AppearanceGallery(8).describe(features, owner, (1, 2))
    assert np.allclose(got[1], RED, atol=1e-6) and np.allclose(
        got[2], 0.5 * RED + 0.5 * GREEN, atol=1e-6
    )


def test_without_features_tracks_or_pixels_there_is_no_descriptor() -> None:
    features, owner = scene(RED)
    book = AppearanceGallery(8)
    assert book.describe(None, owner, (1,)) == {} and book.describe(features, owner, ()) == {}
    assert set(book.describe(features, owner, (1, 2))) == {1}
    assert book.similarities({}) == {}


def test_an_object_is_as_similar_as_its_most_similar_view() -> None:
    book = AppearanceGallery(8)
    seen = book.describe(*scene(RED, GREEN, BLUE), (1, 2, 3))
    assert book.similarities(seen) == {}, "nothing was learned"
    book.learn(50, seen[1])
    book.learn(50, seen[2])
    book.learn(60, seen[3])
    got = book.similarities(seen)
    assert (
        got[1, 50] == pytest.approx(1)
        and got[2, 50] == pytest.approx(1)
        and got[3, 60] == pytest.approx(1)
    )
    assert got[3, 50] < 0.5 and got[1, 60] < 0.5
    assert (
        set(got) == {(t, o) for t in (1, 2, 3) for o in (50, 60)}
        and got.get((4, 50)) is None
        and len(got) == len(list(got.values()))
    )
    book.keep_only({60})
    assert {o for _, o in book.similarities(seen)} == {60}


def test_views_are_few_and_differ() -> None:
    rng = np.random.default_rng(0)
    book = AppearanceGallery(3)
    book.describe(torch.zeros((16, 6, 8)), np.zeros((H, W), np.int32), (1,))  # the mean
    first = rng.normal(size=16).astype(np.float32)
    for _ in range(5):
        book.learn(1, first + 1e-3 * rng.normal(size=16).astype(np.float32))
    assert book.view_count(1) == 1
    others = [v.astype(np.float32) for v in rng.normal(size=(6, 16))]
    for v in others:
        book.learn(1, v)
    assert book.view_count(1) == 3


def test_features_of_another_size_start_over() -> None:
    book = AppearanceGallery(8)
    book.learn(1, book.describe(*scene(RED), (1,))[1])
    assert book.similarities(book.describe(torch.ones((5, 6, 8)), scene(RED)[1], (1,))) == {}


def test_on_a_device_the_means_are_the_same() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(16, 6, 8)).astype(np.float32))
    owner = rng.integers(0, 4, (H, W)).astype(np.int32)
    owner[owner == 2] = 0  # a track without pixels
    shares = appearance.cell_shares(owner, 3, (6, 8))
    for here, there in zip(
        appearance.pool_on_host(features, *shares),
        appearance.pool_on_device(features, *shares),
        strict=True,
    ):
        assert here.shape == there.shape and np.allclose(here, there, atol=1e-5)
