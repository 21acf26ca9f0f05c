"""A pixel embedding alone, of paper 000 or 002: read from a weights file, applied to images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vos_ros.segmentation.checkpoints import (
    EMBEDDING_FORMAT,
    META_FORMAT,
    ONE_POINT_FORMAT,
    CheckpointError,
    load,
)
from vos_ros.segmentation.networks.embedding import EmbeddingNet, EmbeddingSpec
from vos_ros.segmentation.networks.meta import MetaSpec
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec

_META_PREFIX = "embedding."
"""Prefix of the embedding's tensors in the weights of the whole method."""


def read_embedding(path: Path | str) -> EmbeddingNet | OnePointNet:
    """Read the embedding of a weights file of ``vos-ros train`` embedding, meta or one_point.

    It is in eval mode. Raises CheckpointError: no such file, a damaged one, or no embedding in it.
    """
    weights = load(path)
    kind, text = weights.header.get("format"), weights.header.get("spec", "")
    prefix = ""
    try:
        if kind == META_FORMAT:
            prefix = _META_PREFIX
            net: EmbeddingNet | OnePointNet = EmbeddingNet(MetaSpec.from_json(text).embedding)
        elif kind == EMBEDDING_FORMAT:
            net = EmbeddingNet(EmbeddingSpec.from_json(text))
        elif kind == ONE_POINT_FORMAT:
            net = OnePointNet(OnePointSpec.from_json(text))
        else:
            raise ValueError(
                f"its header names no network with an embedding (format {kind!r}, wanted"
                f" {EMBEDDING_FORMAT!r}, {META_FORMAT!r} or {ONE_POINT_FORMAT!r})"
            )
        net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in weights.tensors.items() if k.startswith(prefix)}
        )
    except (ValueError, RuntimeError) as e:
        raise CheckpointError(f"{path}: {e}") from e
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def embed_images(
    net: EmbeddingNet | OnePointNet, images: Sequence[UInt8[np.ndarray, "H W 3"]], long_side: int
) -> Float32[np.ndarray, "Q h w d"]:
    """Return the embeddings of RGB images, scaled to a longer side of about ``long_side`` px.

    Raises ValueError: no images, or images of different sizes.
    """
    if len({i.shape for i in images}) != 1:
        raise ValueError(
            f"images of {len({i.shape for i in images})} different sizes: wanted one or more, all"
            " of one size"
        )
    shape = images[0].shape
    h, w = net.fits(*(round(n * long_side / max(shape[:2])) for n in shape[:2]))
    out = []
    for image in images:
        scaled = cv2.resize(
            image, (w, h), interpolation=cv2.INTER_AREA if w < shape[1] else cv2.INTER_LINEAR
        )
        out.append(net(torch.from_numpy(scaled).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy())
    return np.stack(out)
