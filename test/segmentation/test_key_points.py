"""Key-point segmentation against eq. (3.5) and (3.6) written out."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.key_points import (
    NEGATIVE,
    Cells,
    KeyPoints,
    distances,
    embeddings_at,
    inner_key_points,
    labels,
    nearest,
    nearest_in_previous,
    object_logits,
    segment,
)
from vos_ros.segmentation.networks.one_point import SPECS, OnePointNet

SPEC = replace(SPECS["mobilenet_v2"], dims=6, width=8)


@functools.cache
def fresh(aligned: bool, normalize: bool) -> OnePointNet:
    return OnePointNet(replace(SPEC, aligned=aligned, normalize=normalize))


def net(gamma: float = 0.5, *, aligned: bool = True, normalize: bool = False) -> OnePointNet:
    made = fresh(aligned, normalize).requires_grad_(False)
    made.gamma.fill_(gamma)
    return made


def keys_of(vectors: np.ndarray, owners: list[int]) -> KeyPoints:
    return KeyPoints(torch.from_numpy(vectors).float(), torch.tensor(owners, dtype=torch.long))


def equation_3_6(x: np.ndarray, keys: np.ndarray, owners: list[int], gamma: float) -> np.ndarray:
    """The paper's labels, cell by cell; a nearer negative point makes a cell background."""
    out = np.zeros(x.shape[1:], int)
    for i, j in np.ndindex(*out.shape):
        d = np.sqrt(np.square(x[:, i, j] - keys).sum(1))
        nearest = int(np.argmin(d))  # eq. (3.5) over all key points
        if d[nearest] <= gamma and owners[nearest] != NEGATIVE:
            out[i, j] = owners[nearest] + 1
    return out


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 2), st.floats(0.5, 4.0))
def test_labels_are_those_of_the_equations(
    seed: int, objects: int, negatives: int, gamma: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 4, 5)).astype(np.float32)
    owners = [*range(objects), *rng.integers(0, objects, 2), *[NEGATIVE] * negatives]
    keys = rng.normal(size=(len(owners), 6)).astype(np.float32)
    found = distances(torch.from_numpy(x), keys_of(keys, owners), objects)
    got = labels(object_logits(net(gamma), *found)).numpy()
    assert np.array_equal(got, equation_3_6(x, keys, owners, gamma))


def test_distances_are_to_the_closest_key_point_of_each_object() -> None:
    rng = np.random.default_rng(0)
    x, keys = rng.normal(size=(6, 3, 4)), rng.normal(size=(5, 6))
    to_objects, to_background = distances(
        torch.from_numpy(x).float(), keys_of(keys, [1, 0, NEGATIVE, 1, NEGATIVE]), 3
    )
    each = np.sqrt(np.square(x[None] - keys[:, :, None, None]).sum(1))
    assert np.allclose(to_objects[0], each[1], atol=1e-5)
    assert np.allclose(to_objects[1], np.minimum(each[0], each[3]), atol=1e-5)
    assert bool(torch.isinf(to_objects[2]).all())  # an object without a key point is nowhere
    assert np.allclose(to_background, np.minimum(each[2], each[4]), atol=1e-5)
    no_negative = distances(torch.from_numpy(x).float(), keys_of(keys[:2], [0, 1]), 2)[1]
    assert bool(torch.isinf(no_negative).all())


def test_a_cell_at_gamma_is_as_likely_the_object_as_not() -> None:
    made = net(0.8)
    distance = torch.tensor([[[0.0, 0.8, 1.2]]])
    logits = object_logits(made, distance, torch.full((1, 3), torch.inf))
    probs = soft_aggregate(torch.sigmoid(logits))
    assert float(probs[1, 0, 1]) == pytest.approx(0.5, abs=1e-5)
    assert float(probs[1, 0, 0]) > 0.9 and float(probs[0, 0, 2]) > 0.9
    # a negative point at .3 takes what is farther than that from the object
    logits = object_logits(made, distance, torch.full((1, 3), 0.3))
    assert [bool(v > 0) for v in logits[0, 0]] == [True, False, False]


def test_the_gradient_reaches_threshold_and_embedding() -> None:
    made = net().requires_grad_(True)
    x = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    keys = KeyPoints(x[:, 1, 1][None], torch.tensor([0]))  # at distance 0: no infinite slope
    object_logits(made, *distances(x, keys, 1)).sum().backward()
    for p in (x, made.gamma, made.log_softness):
        assert p.grad is not None and bool(torch.isfinite(p.grad).all()) and bool(p.grad.any())


@pytest.mark.parametrize("aligned", [True, False])
def test_embeddings_between_cells_are_bilinear(aligned: bool) -> None:
    made = net(aligned=aligned)
    h, w = 4, 5
    y, x = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    embedding = torch.stack([x, y, x, y, x, y])  # a bilinear function of the cell
    first = 0.0 if aligned else 3.5
    points = torch.tensor([[first, first], [first + 8, first + 16], [first + 12, first + 2]])
    got = embeddings_at(made, embedding, points)
    expected = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.5, 0.25]])
    assert torch.allclose(got[:, :2], expected, atol=1e-5)
    outside = embeddings_at(made, embedding, torch.tensor([[-50.0, 500.0]]))
    assert torch.allclose(outside[0, :2], torch.tensor([0.0, h - 1.0]), atol=1e-5)


def test_embeddings_between_cells_keep_unit_length() -> None:
    embedding = torch.nn.functional.normalize(
        torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(0)), dim=0
    )
    got = embeddings_at(net(normalize=True), embedding, torch.tensor([[4.0, 5.0]]))
    assert float(got.norm()) == pytest.approx(1.0, abs=1e-5)


def test_a_mask_gives_the_key_point_that_finds_it() -> None:
    """Two squares of their own colours, as embedding: each is found from its inner point alone."""
    made = net(0.3)
    image = torch.zeros(6, 65, 97)
    masks = [np.zeros((65, 97), bool) for _ in range(2)]
    for i, (y, x) in enumerate(((8, 8), (24, 56))):
        masks[i][y : y + 33, x : x + 33] = True
        image[i, y : y + 33, x : x + 33] = 1.0
    embedding = image[:, ::8, ::8]
    keys = inner_key_points(made, embedding, masks)
    assert keys.owners.tolist() == [0, 1] and keys.embeddings[:, :2].tolist() == [[1, 0], [0, 1]]
    found = segment(made, embedding, keys, 2, (65, 97)).numpy()
    for i, mask in enumerate(masks, 1):
        assert ((found == i) & mask).sum() / ((found == i) | mask).sum() > 0.8
    none = inner_key_points(made, embedding, [])
    assert none.embeddings.shape == (0, 6) and none.owners.shape == (0,)


@pytest.mark.parametrize("radius", [0, 1, 3, 50])
def test_the_previous_frame_is_searched_around_each_cell(radius: int) -> None:
    rng = np.random.default_rng(radius)
    now, then = rng.normal(size=(2, 3, 4, 5))
    owned = rng.random((2, 4, 5)) < 0.4
    found = nearest_in_previous(
        torch.tensor(now), torch.tensor(then), torch.tensor(owned), radius
    ).numpy()
    for n, y, x in np.ndindex(2, 4, 5):
        near = [
            np.linalg.norm(now[:, y, x] - then[:, v, u])
            for v, u in np.argwhere(owned[n])
            if abs(v - y) <= radius and abs(u - x) <= radius
        ]
        assert found[n, y, x] == pytest.approx(min(near, default=np.inf), abs=1e-6)


def test_a_cell_is_as_far_as_its_nearest_key() -> None:
    rng = np.random.default_rng(1)
    x, keys = rng.normal(size=(3, 4, 5)), rng.normal(size=(6, 3))

    def wanted(x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[None] - keys[:, :, None, None], axis=1).min(0)

    found = nearest(torch.tensor(x), torch.tensor(keys)).numpy()
    assert np.allclose(found, wanted(x, keys), atol=1e-6)
    cells = Cells.of(torch.tensor(x), torch.float64).part(slice(1, 3), slice(2, 5))
    first, none, second = cells.nearest([torch.tensor(k) for k in (keys[:2], keys[:0], keys[2:])])
    assert np.allclose(first.numpy(), wanted(x, keys[:2])[1:3, 2:5], atol=1e-6)
    assert np.allclose(second.numpy(), wanted(x, keys[2:])[1:3, 2:5], atol=1e-6)
    assert none.shape == (2, 3) and none.isinf().all()


def test_few_bits_are_enough_for_unit_vectors() -> None:
    rng = np.random.default_rng(2)
    x, keys = rng.normal(size=(8, 20, 20)), rng.normal(size=(50, 8))
    x, keys = x / np.linalg.norm(x, axis=0), keys / np.linalg.norm(keys, axis=1)[:, None]
    x[:, 0, 0] = keys[0]
    exact = np.linalg.norm(x[None] - keys[:, :, None, None], axis=1).min(0)
    cells = Cells.of(torch.tensor(x).float(), torch.bfloat16)
    (found,) = cells.nearest([torch.tensor(keys).float()])
    error = np.abs(found.numpy() - exact)
    assert error.max() < 0.1 and error[exact > 0.4].max() < 0.01
