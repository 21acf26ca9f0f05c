"""What the segmentation model f of paper 000 sees of a cell, besides its embedding: nine numbers that cost no parameters.

Four come from the metric, eq. (1): how alike the cell is to the nearest of some reference cells of the object and of the background,
picked where a mask was given; which of the two is nearer; and the same averaged over its surroundings. Five come from where the object was
on the frame before (the prior): two blurs of that mask, and the cell's place relative to it.

Planes are (N, h, w) over N objects and the cells of one frame each. Random choices take a generator of the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from vos_ros.segmentation.networks.embedding import similarity
from vos_ros.segmentation.networks.segmentation_head import Samples

EXTRA = 9
REFERENCES = 32  # cells of the object, and as many of the background, that others are compared with
VIEWS = 3  # disturbed priors under which a given frame is learned
_NEAR, _WIDE = 5, 17  # cells: sides of the blurs
_REACH = 3.0  # radii of the object: farther cells count as this far
_LEAST_MASS = 0.25  # cells: a prior with less says nothing
_UNIT = 4.0  # the embedding's dimensions spread by about a quarter; f gets them near 1
_SHARP = 4.0  # neighbours differ less than the pairs that the metric is learned on
_APART = 1.0  # of the object's size: how far off a part of it may come out from behind something
_TINY = 1e-12


def to_cells(
    masks: Float[torch.Tensor, "*n H W"], stride: int, aligned: bool
) -> Float[torch.Tensor, "*n h w"]:
    """Means over the cells of a map, of planes of a size that fits the network."""
    planes = masks.flatten(0, -3)[:, None]
    side, pad = (stride + 1, stride // 2) if aligned else (stride, 0)
    out = F.avg_pool2d(planes, side, stride, pad, count_include_pad=False)
    return out[:, 0].reshape(*masks.shape[:-2], *out.shape[-2:])


def draw(
    weights: Float[torch.Tensor, "N P"], count: int, generator: torch.Generator | None
) -> Int[torch.Tensor, "N count"]:
    """Cells drawn with probabilities proportional to weights, with repetition; any cells where all weights are 0."""
    return torch.multinomial(weights + _TINY, count, replacement=True, generator=generator)


def choose_references(
    embedding: Float[torch.Tensor, "N d h w"],
    masks: Float[torch.Tensor, "N h w"],
    care: Float[torch.Tensor, "N h w"],
    generator: torch.Generator | None = None,
    count: int = REFERENCES,
) -> Float[torch.Tensor, "N 2 R d"]:
    """Embeddings that objects are known by: random cells of the object, and of the background, half of these from its surroundings."""
    inside, near, far = _regions(masks, care)
    half = count // 2
    chosen = torch.cat(
        [
            draw(inside, count, generator),
            draw(near, half, generator),
            draw(near + far, count - half, generator),
        ],
        1,
    )
    d = embedding.shape[1]
    cells = embedding.flatten(2).gather(2, chosen[:, None].expand(-1, d, -1)).transpose(1, 2)
    return cells.reshape(len(masks), 2, count, d)


def _regions(
    masks: Float[torch.Tensor, "N h w"], care: Float[torch.Tensor, "N h w"]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How much of each cell (N, P) is the object, is in its surroundings, is farther off."""
    inside, outside = care * masks, care * (1 - masks)
    near = _blur(masks, _WIDE) > 0
    return inside.flatten(1), (outside * near).flatten(1), (outside * ~near).flatten(1)


def sample(
    inputs: Float[torch.Tensor, "N C h w"],
    masks: Float[torch.Tensor, "N h w"],
    care: Float[torch.Tensor, "N h w"],
    count: int,
    generator: torch.Generator | None = None,
) -> Samples:
    """Cells to learn from: a third each of the object, of its surroundings and of the rest (the paper samples foreground and background
    evenly). They weigh what their regions measure, so that the loss is that of the whole image, as an IoU sees it, but for the rest:
    that weighs at most twice as much as the object. ``care`` >= 0 says how much a cell counts; where nothing of the object does, all
    are of the background."""
    regions = _regions(masks, care)
    third = count // 3
    counts = (third, third, count - 2 * third)
    chosen = torch.cat(
        [draw(region, n, generator) for region, n in zip(regions, counts, strict=True)], 1
    )
    inside, near, far = (region.sum(1) for region in regions)
    far = torch.where(inside + near > 0, torch.minimum(far, 2 * inside), far)
    mass = torch.stack([inside, near, far], 1)
    mass = mass / mass.sum(1, keepdim=True).clamp_min(_TINY)
    weights = torch.cat([(mass[:, k : k + 1] / n).expand(-1, n) for k, n in enumerate(counts)], 1)
    labels = masks.flatten(1).gather(1, chosen)
    cells = inputs.flatten(2).gather(2, chosen[:, None].expand(-1, inputs.shape[1], -1))
    return Samples(cells, labels, weights)


def planes(
    embedding: Float[torch.Tensor, "n d h w"],
    references: Sequence[torch.Tensor] | Float[torch.Tensor, "N 2 R d"],
    prior: Float[torch.Tensor, "N h w"],
) -> Float[torch.Tensor, "N C h w"]:
    """All inputs of f: the embedding (of one frame for all objects, n = 1, or of one for each) and the nine planes. An object's references
    are (2, R, d), with any R. A prior without mass says nothing: its planes are 0."""
    own = embedding.expand(len(prior), -1, -1, -1)
    distance = torch.stack(
        [_nearest(own[k], references[k]) for k in range(len(prior))]
    )  # one at a time: it fits the cache
    mine, others = distance.unbind(1)
    ratio = (others - mine) / (others + mine + 0.01)
    metric = torch.stack([similarity(mine), similarity(others), ratio, _blur(ratio, _NEAR)], 1)
    return torch.cat([_UNIT * own, metric, _place(prior)], 1)


def _nearest(
    embedding: Float[torch.Tensor, "d h w"], cells: Float[torch.Tensor, "2 R d"]
) -> Float[torch.Tensor, "2 h w"]:
    """Squared distance of every cell to the nearest reference of either kind: |a|^2 + min (|b|^2 - 2 a b), which passes over all pairs
    once."""
    count, flat, all_cells = cells.shape[1], embedding.flatten(1), cells.flatten(0, 1)
    rest = torch.addmm(all_cells.square().sum(1, keepdim=True), all_cells, flat, alpha=-2.0)
    least = torch.stack([rest[:count].amin(0), rest[count:].amin(0)]) + flat.square().sum(0)
    return least.clamp_min(0).reshape(2, *embedding.shape[1:])


def _place(prior: Float[torch.Tensor, "N h w"]) -> Float[torch.Tensor, "N 5 h w"]:
    """Two blurs of the prior, a bell around it, and the cell's offset from it in radii, -1..1."""
    h, w = prior.shape[1:]
    mass = prior.sum((1, 2))
    known = (mass >= _LEAST_MASS).to(prior)[:, None, None]
    offsets, variance = [], torch.zeros_like(mass)
    for sums, count in ((prior.sum(1), w), (prior.sum(2), h)):
        at = torch.arange(count, device=prior.device, dtype=prior.dtype)
        mean = (sums * at).sum(1) / mass.clamp_min(_LEAST_MASS)
        offset = at - mean[:, None]
        variance = variance + (sums * offset.square()).sum(1) / mass.clamp_min(_LEAST_MASS)
        offsets.append(offset)
    radius = (variance + 0.5).sqrt()[:, None]
    x, y = (o / radius for o in offsets)
    bell = torch.exp(-0.25 * y.square())[:, :, None] * torch.exp(-0.25 * x.square())[:, None, :]
    u = (x.clamp(-_REACH, _REACH) / _REACH)[:, None, :].expand(-1, h, -1)
    v = (y.clamp(-_REACH, _REACH) / _REACH)[:, :, None].expand(-1, -1, w)
    return torch.stack([_blur(prior, _NEAR), _blur(prior, _WIDE), bell, u, v], 1) * known[:, None]


def _blur(x: Float[torch.Tensor, "N h w"], side: int) -> Float[torch.Tensor, "N h w"]:
    """Means over squares, with zeros around the image; along one axis after the other."""
    along = F.avg_pool2d(x[:, None], (1, side), 1, (0, side // 2))
    return F.avg_pool2d(along, (side, 1), 1, (side // 2, 0))[:, 0]


def disturb(
    masks: Float[torch.Tensor, "N h w"],
    generator: torch.Generator | None = None,
    *,
    strength: float = 1.0,
    missing: float = 0.0,
) -> Float[torch.Tensor, "N h w"]:
    """Masks as a segmenter that is a little wrong would have had them on the frame before: moved by a share of their size, grown, bitten
    into or smeared. ``missing``: probability that there is none."""
    n, h, w = masks.shape
    if not n:
        return masks

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=masks.device, dtype=masks.dtype)

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator, device=masks.device, dtype=masks.dtype)

    share = masks.mean((1, 2)).clamp(0, 1).sqrt()  # of the image's sides
    grow = torch.exp(0.15 * strength * normal(n))
    theta = masks.new_zeros((n, 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = grow
    centre = _centre(masks)
    move = (
        0.25 * strength * share[:, None] * normal(n, 2)
    )  # the image spans 2 units: an eighth of the object's size
    theta[:, :, 2] = centre * (1 - grow[:, None]) + move
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=True)
    moved = F.grid_sample(masks[:, None], grid, align_corners=True)[:, 0]
    # a disk of up to half of the object's size is cut out of it or added to it, somewhere about it
    at = centre + share[:, None] * normal(n, 2)
    ys, xs = (torch.linspace(-1, 1, k, device=masks.device, dtype=masks.dtype) for k in (h, w))
    distance = (
        (ys - at[:, 1:]).square()[:, :, None] + (xs - at[:, :1]).square()[:, None, :]
    ).sqrt()
    disk = distance < (0.5 * share * uniform(n))[:, None, None]
    kind = uniform(n)[:, None, None]
    moved = torch.where(
        disk & (kind < 0.3 * strength),
        0.0,
        torch.where(disk & (kind > 1 - 0.3 * strength), 1.0, moved),
    )
    return moved * (uniform(n) >= missing)[:, None, None]


def _centre(masks: Float[torch.Tensor, "N h w"]) -> Float[torch.Tensor, "N 2"]:
    """(x, y) of the mean of masks in coordinates in which the image spans -1..1."""
    mass = masks.sum((1, 2)).clamp_min(_LEAST_MASS)
    sums = ((masks.sum(1), masks.shape[2]), (masks.sum(2), masks.shape[1]))
    return torch.stack(
        [
            (s * torch.linspace(-1, 1, k, device=s.device, dtype=s.dtype)).sum(1) / mass
            for s, k in sums
        ],
        1,
    )


def confident(
    probs: Float[torch.Tensor, "N h w"],
) -> tuple[Float[torch.Tensor, "N h w"], Float[torch.Tensor, "N h w"]]:
    """Masks and care of the method's own probabilities: what is more likely than not, weighed by how sure that is."""
    return (probs > 0.5).to(probs), (2 * probs - 1).abs()


def joined(parts: Sequence[Samples]) -> Samples:
    """Samples of the same objects as one set; each part weighs the same."""
    inputs, labels, weights = zip(*parts, strict=True)
    return Samples(torch.cat(inputs, 2), torch.cat(labels, 1), torch.cat(weights, 1) / len(parts))


def seeded(
    embedding: Float[torch.Tensor, "n d h w"],
    references: Sequence[torch.Tensor] | Float[torch.Tensor, "N 2 R d"],
    masks: Float[torch.Tensor, "N h w"],
    care: Float[torch.Tensor, "N h w"],
    count: int,
    generator: torch.Generator | None = None,
) -> Samples:
    """About ``count`` cells of frames on which masks were given. Nobody knows where the objects were before: they are learned under some
    priors made up from the masks."""
    return joined(
        [
            sample(
                planes(embedding, references, disturb(masks, generator)),
                masks,
                care,
                -(-count // VIEWS),
                generator,
            )
            for _ in range(VIEWS)
        ]
    )


def smoothed(
    logits: Float[torch.Tensor, "N h w"], embedding: Float[torch.Tensor, "1 d h w"]
) -> Float[torch.Tensor, "N h w"]:
    """Logits averaged with those of sixteen cells around (in rings at 1 and 2 cells), weighed by how alike the metric says they are: f
    judges every cell by itself, and neighbours that look the same are the same. The weights are one for all objects."""
    h, w = logits.shape[1:]
    total, weight = logits.clone(), torch.ones_like(logits[0])
    for step in (1, 2):
        for dy, dx in (
            (0, step),
            (step, 0),
            (step, step),
            (step, -step),
        ):  # the other four are the same pairs from the other side
            here = (slice(0, h - dy), slice(max(0, -dx), w - max(0, dx)))
            there = (slice(dy, h), slice(max(0, dx), w - max(0, -dx)))
            distance = (embedding[0, :, *here] - embedding[0, :, *there]).square().sum(0)
            alike = similarity(_SHARP * distance)
            total[:, *here] += alike * logits[:, *there]
            total[:, *there] += alike * logits[:, *here]
            weight[here] += alike
            weight[there] += alike
    return total / weight


def hold_together(
    logits: Float[torch.Tensor, "N h w"], prior: Float[torch.Tensor, "N h w"]
) -> Float[torch.Tensor, "N h w"]:
    """1 in and around what is connected to where the object was on the frame before, or to what lies no farther from there than the object
    is large; 0 elsewhere: a look-alike far off is not the object. Everywhere 1 where nothing is known of the frame before, or nothing is
    left. Waits for the device."""
    found, before = (t.cpu().numpy().astype(np.uint8) for t in (logits > 0, prior > 0.5))
    gates = np.ones(found.shape, np.float32)
    for gate, now, then in zip(gates, found, before, strict=True):
        side = 2 * round(_APART * float(then.sum()) ** 0.5) + 3
        labels = cv2.connectedComponents(now, connectivity=8)[1]
        touched = np.unique(labels[(cv2.dilate(then, np.ones((side, side), np.uint8)) & now) > 0])
        if len(touched):
            kept = np.isin(labels, touched).astype(np.uint8)
            gate[:] = cv2.dilate(kept, np.ones((3, 3), np.uint8))
    return torch.from_numpy(gates).to(logits.device)
