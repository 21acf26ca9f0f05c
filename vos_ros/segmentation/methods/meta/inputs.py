"""Inputs of the segmentation model f of paper 000: a cell's embedding, and nine numbers more.

Four of the nine come from the metric, eq. (1): the similarity of the cell to the nearest of some
reference cells of the object and of the background, drawn where a mask was given; which of the two
is nearer; and the same averaged over its neighbours. Five come from the object's mask on the
previous frame (the prior): two blurs of it, and the cell's position relative to it.

Planes are (N, h, w) over N objects and the cells of one frame each. Random choices take a generator
of the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from vos_ros.segmentation.networks.embedding import similarity
from vos_ros.segmentation.networks.segmentation_head import Samples

EXTRA_INPUTS = 9
"""Number of inputs besides the embedding."""
REFERENCES = 32
"""Reference cells of an object, and as many of its background."""
PRIORS_PER_MASK = 3
"""Perturbed priors with which a given mask is learned."""
_SMALL_BLUR, _LARGE_BLUR = 5, 17
"""Sides of the blurs, cells."""
_MAX_OFFSET = 3.0
"""Radii of the object: cells that are farther off have this offset."""
_MIN_PRIOR_CELLS = 0.25
"""A prior of less area is taken as no prior."""
_EMBEDDING_SCALE = 4.0
"""The embedding's dimensions have a standard deviation of about a quarter; f gets them near 1."""
_NEIGHBOUR_SHARPNESS = 4.0
"""Factor on the distance of neighbours, which differ less than the pairs of training."""
_TINY = 1e-12


def to_cells(
    masks: Float[torch.Tensor, "*n H W"], stride: int, aligned: bool
) -> Float[torch.Tensor, "*n h w"]:
    """Return the means over the cells of a map, of planes of a size that fits the network."""
    planes = masks.flatten(0, -3)[:, None]
    side, pad = (stride + 1, stride // 2) if aligned else (stride, 0)
    out = F.avg_pool2d(planes, side, stride, pad, count_include_pad=False)
    return out[:, 0].reshape(*masks.shape[:-2], *out.shape[-2:])


def draw_cells(
    weights: Float[torch.Tensor, "N P"], count: int, generator: torch.Generator | None
) -> Int[torch.Tensor, "N count"]:
    """Draw cells in proportion to their weights, with repetition; any where all weights are 0."""
    return torch.multinomial(weights + _TINY, count, replacement=True, generator=generator)


def draw_references(
    embedding: Float[torch.Tensor, "N d h w"],
    masks: Float[torch.Tensor, "N h w"],
    pixel_weights: Float[torch.Tensor, "N h w"],
    generator: torch.Generator | None = None,
    count: int = REFERENCES,
) -> Float[torch.Tensor, "N 2 R d"]:
    """Draw reference embeddings: cells of the object, and of the background.

    Half of the background's are from the object's surroundings.

    Args:
        embedding: of the frame of each object.
        masks: share of each cell that is the object.
        pixel_weights: >= 0, weight of each cell.
        generator: random generator, None: torch's own.
        count: R, cells of each kind.
    """
    inside, near, far = _regions(masks, pixel_weights)
    half = count // 2
    chosen = torch.cat(
        [
            draw_cells(inside, count, generator),
            draw_cells(near, half, generator),
            draw_cells(near + far, count - half, generator),
        ],
        1,
    )
    d = embedding.shape[1]
    cells = embedding.flatten(2).gather(2, chosen[:, None].expand(-1, d, -1)).transpose(1, 2)
    return cells.reshape(len(masks), 2, count, d)


def _regions(
    masks: Float[torch.Tensor, "N h w"], pixel_weights: Float[torch.Tensor, "N h w"]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the share of each cell (N, P) that is object, its surroundings, and farther off."""
    inside, outside = pixel_weights * masks, pixel_weights * (1 - masks)
    near = _blur(masks, _LARGE_BLUR) > 0
    return inside.flatten(1), (outside * near).flatten(1), (outside * ~near).flatten(1)


def sample_cells(
    inputs: Float[torch.Tensor, "N C h w"],
    masks: Float[torch.Tensor, "N h w"],
    pixel_weights: Float[torch.Tensor, "N h w"],
    count: int,
    generator: torch.Generator | None = None,
) -> Samples:
    """Draw cells to learn from: a third each of the object, of its surroundings and of the rest.

    The paper samples foreground and background evenly. Here the cells of a region weigh what the
    region measures, so that the loss is that of the whole image, as in an IoU; the rest weighs at
    most twice as much as the object.

    Args: inputs: inputs of f of every cell. masks: share of each cell that is the object.
    pixel_weights: >= 0, weight of each cell. Where the object's are 0, all cells are background.
    count: S, number of cells. generator: random generator, None: torch's own.
    """
    regions = _regions(masks, pixel_weights)
    third = count // 3
    counts = (third, third, count - 2 * third)
    chosen = torch.cat(
        [draw_cells(region, n, generator) for region, n in zip(regions, counts, strict=True)], 1
    )
    inside, near, far = (region.sum(1) for region in regions)
    far = torch.where(inside + near > 0, torch.minimum(far, 2 * inside), far)
    mass = torch.stack([inside, near, far], 1)
    mass = mass / mass.sum(1, keepdim=True).clamp_min(_TINY)
    weights = torch.cat([(mass[:, k : k + 1] / n).expand(-1, n) for k, n in enumerate(counts)], 1)
    labels = masks.flatten(1).gather(1, chosen)
    cells = inputs.flatten(2).gather(2, chosen[:, None].expand(-1, inputs.shape[1], -1))
    return Samples(cells, labels, weights)


def head_inputs(
    embedding: Float[torch.Tensor, "n d h w"],
    references: Sequence[torch.Tensor] | Float[torch.Tensor, "N 2 R d"],
    prior: Float[torch.Tensor, "N h w"],
) -> Float[torch.Tensor, "N C h w"]:
    """Compute all C inputs of f of every cell.

    Args:
        embedding: of one frame for all objects (n = 1), or of one for each.
        references: of each object, (2, R, d) with any R: the object's, then the background's.
        prior: mask of each object on the previous frame. An empty one gives planes of 0.
    """
    own = embedding.expand(len(prior), -1, -1, -1)
    distance = torch.stack(
        [_nearest_distance(own[k], references[k]) for k in range(len(prior))]
    )  # one object at a time: it fits the cache
    to_object, to_background = distance.unbind(1)
    ratio = (to_background - to_object) / (to_background + to_object + 0.01)
    metric = torch.stack(
        [
            similarity(to_object),
            similarity(to_background),
            ratio,
            _blur(ratio, _SMALL_BLUR),
        ],
        1,
    )
    return torch.cat([_EMBEDDING_SCALE * own, metric, _prior_planes(prior)], 1)


def _nearest_distance(
    embedding: Float[torch.Tensor, "d h w"], cells: Float[torch.Tensor, "2 R d"]
) -> Float[torch.Tensor, "2 h w"]:
    """Return the squared distance of every cell to the nearest reference of either kind.

    It is |a|^2 + min_b (|b|^2 - 2 a b), which passes over all pairs once.
    """
    count, flat, all_cells = cells.shape[1], embedding.flatten(1), cells.flatten(0, 1)
    rest = torch.addmm(all_cells.square().sum(1, keepdim=True), all_cells, flat, alpha=-2.0)
    nearest = torch.stack([rest[:count].amin(0), rest[count:].amin(0)]) + flat.square().sum(0)
    return nearest.clamp_min(0).reshape(2, *embedding.shape[1:])


def _prior_planes(prior: Float[torch.Tensor, "N h w"]) -> Float[torch.Tensor, "N 5 h w"]:
    """Return two blurs of the prior, a bell around it, and the cell's offset from it, -1..1."""
    h, w = prior.shape[1:]
    mass = prior.sum((1, 2))
    known = (mass >= _MIN_PRIOR_CELLS).to(prior)[:, None, None]
    offsets, variance = [], torch.zeros_like(mass)
    for sums, count in ((prior.sum(1), w), (prior.sum(2), h)):
        at = torch.arange(count, device=prior.device, dtype=prior.dtype)
        mean = (sums * at).sum(1) / mass.clamp_min(_MIN_PRIOR_CELLS)
        offset = at - mean[:, None]
        variance = variance + (sums * offset.square()).sum(1) / mass.clamp_min(_MIN_PRIOR_CELLS)
        offsets.append(offset)
    radius = (variance + 0.5).sqrt()[:, None]
    x, y = (o / radius for o in offsets)
    bell = torch.exp(-0.25 * y.square())[:, :, None] * torch.exp(-0.25 * x.square())[:, None, :]
    u = (x.clamp(-_MAX_OFFSET, _MAX_OFFSET) / _MAX_OFFSET)[:, None, :].expand(-1, h, -1)
    v = (y.clamp(-_MAX_OFFSET, _MAX_OFFSET) / _MAX_OFFSET)[:, :, None].expand(-1, -1, w)
    return (
        torch.stack([_blur(prior, _SMALL_BLUR), _blur(prior, _LARGE_BLUR), bell, u, v], 1)
        * known[:, None]
    )


def _blur(x: Float[torch.Tensor, "N h w"], side: int) -> Float[torch.Tensor, "N h w"]:
    """Return the means over squares, with zeros around the image: one axis after the other."""
    along = F.avg_pool2d(x[:, None], (1, side), 1, (0, side // 2))
    return F.avg_pool2d(along, (side, 1), 1, (side // 2, 0))[:, 0]


def perturb_masks(
    masks: Float[torch.Tensor, "N h w"],
    generator: torch.Generator | None = None,
    *,
    strength: float = 1.0,
    missing: float = 0.0,
) -> Float[torch.Tensor, "N h w"]:
    """Return masks as a segmenter with small errors would have had them on the previous frame.

    They are moved by a share of their size, grown or shrunk, with a part cut off or added.

    Args:
        masks: masks in 0..1.
        generator: random generator, None: torch's own.
        strength: factor on the changes.
        missing: probability that a mask is empty.
    """
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
    # an eighth of the object's size: the image spans 2 units
    move = 0.25 * strength * share[:, None] * normal(n, 2)
    theta[:, :, 2] = centre * (1 - grow[:, None]) + move
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=True)
    moved = F.grid_sample(masks[:, None], grid, align_corners=True)[:, 0]
    # a disk of up to half of the object's size, at a random place near it, is cut off or added
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
    """Return the (x, y) of the mean of masks; the image spans -1..1."""
    mass = masks.sum((1, 2)).clamp_min(_MIN_PRIOR_CELLS)
    sums = ((masks.sum(1), masks.shape[2]), (masks.sum(2), masks.shape[1]))
    return torch.stack(
        [
            (s * torch.linspace(-1, 1, k, device=s.device, dtype=s.dtype)).sum(1) / mass
            for s, k in sums
        ],
        1,
    )


def pseudo_labels(
    probs: Float[torch.Tensor, "N h w"],
) -> tuple[Float[torch.Tensor, "N h w"], Float[torch.Tensor, "N h w"]]:
    """Return masks and cell weights from the method's own probabilities.

    A cell is the object where that is more likely than not; it weighs |2 p - 1|.
    """
    return (probs > 0.5).to(probs), (2 * probs - 1).abs()


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Join samples of the same objects into one set; each part weighs the same."""
    inputs, labels, weights = zip(*parts, strict=True)
    return Samples(torch.cat(inputs, 2), torch.cat(labels, 1), torch.cat(weights, 1) / len(parts))


def samples_of_given_masks(
    embedding: Float[torch.Tensor, "n d h w"],
    references: Sequence[torch.Tensor] | Float[torch.Tensor, "N 2 R d"],
    masks: Float[torch.Tensor, "N h w"],
    pixel_weights: Float[torch.Tensor, "N h w"],
    count: int,
    generator: torch.Generator | None = None,
) -> Samples:
    """Draw about ``count`` cells of frames with given masks.

    Where the objects were before is unknown: they are learned with priors made by perturbation of
    the masks.

    Args:
        embedding: of one frame for all objects (n = 1), or of one for each.
        references: as for ``head_inputs``.
        masks: share of each cell that is the object.
        pixel_weights: >= 0, weight of each cell.
        count: number of cells, rounded up to a multiple of ``PRIORS_PER_MASK``.
        generator: random generator, None: torch's own.
    """
    return join_samples(
        [
            sample_cells(
                head_inputs(embedding, references, perturb_masks(masks, generator)),
                masks,
                pixel_weights,
                -(-count // PRIORS_PER_MASK),
                generator,
            )
            for _ in range(PRIORS_PER_MASK)
        ]
    )


def smooth_logits(
    logits: Float[torch.Tensor, "N h w"], embedding: Float[torch.Tensor, "1 d h w"]
) -> Float[torch.Tensor, "N h w"]:
    """Average logits with those of sixteen neighbours, weighted by similarity, eq. (1).

    f segments every cell alone, and neighbours of similar appearance are mostly of one object. The
    neighbours lie on rings at 1 and 2 cells; the weights are the same for all objects.
    """
    h, w = logits.shape[1:]
    total, weight = logits.clone(), torch.ones_like(logits[0])
    for step in (1, 2):
        # the other four are the same pairs from the other side
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            here = (slice(0, h - dy), slice(max(0, -dx), w - max(0, dx)))
            there = (slice(dy, h), slice(max(0, dx), w - max(0, -dx)))
            distance = (embedding[0, :, *here] - embedding[0, :, *there]).square().sum(0)
            similar = similarity(_NEIGHBOUR_SHARPNESS * distance)
            total[:, *here] += similar * logits[:, *there]
            total[:, *there] += similar * logits[:, *here]
            weight[here] += similar
            weight[there] += similar
    return total / weight
