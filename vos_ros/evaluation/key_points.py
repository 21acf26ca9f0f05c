"""Instances from one point each, on single images (paper 002, sec. 4.3.2, table 4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vos_ros.datasets.interface import VideoSequence
from vos_ros.segmentation.key_points import inner_key_points, segment
from vos_ros.segmentation.networks.one_point import OnePointNet


@dataclass(frozen=True, slots=True)
class InstanceScore:
    """How one instance of an image was segmented from its inner point."""

    dataset: str
    """Data set of the image."""
    image: str
    """Name of the image's sequence and of the frame."""
    object_id: int
    """The instance's value in the mask."""
    share: float
    """Its share of the image's pixels."""
    iou: float
    """Intersection over union with its mask, eq. (4.1), on the pixels that are annotated."""


@torch.inference_mode()
def score_instances(
    net: OnePointNet, sequences: Iterable[VideoSequence], long_side: int
) -> list[InstanceScore]:
    """Segment all instances of images, each from the point farthest from its outline.

    The instances of an image compete, eq. (3.6). Those that vanish at the network's size are
    scored as not found.

    Args:
        net: the embedding, in eval mode.
        sequences: their annotated frames are the images.
        long_side: longer side of the network's input, px.
    """
    scores = []
    for sequence in sequences:
        for index in range(len(sequence)):
            rgb, ids = sequence.read(index)
            shape = (int(rgb.shape[0]), int(rgb.shape[1]))
            h, w = net.fits(*(round(n * long_side / max(shape)) for n in shape))
            way = cv2.INTER_AREA if w < shape[1] else cv2.INTER_LINEAR
            image = torch.from_numpy(cv2.resize(rgb, (w, h), interpolation=way))
            embedding = net(image.permute(2, 0, 1)[None])[0]
            small = cv2.resize(ids, (w, h), interpolation=cv2.INTER_NEAREST)
            valid = ids != sequence.ignore
            present = [int(i) for i in np.unique(ids) if i not in (0, sequence.ignore)]
            shown = [i for i in present if (small == i).any()]
            keys = inner_key_points(net, embedding, [small == i for i in shown])
            found = segment(net, embedding, keys, len(shown), shape).numpy() if shown else ids * 0
            for i in present:
                mask = (found == shown.index(i) + 1) & valid if i in shown else ids < 0
                scores.append(
                    InstanceScore(
                        dataset=sequence.dataset,
                        image=f"{sequence.name}/{sequence.frames[index].name}",
                        object_id=i,
                        share=float((ids == i).mean()),
                        iou=float((mask & (ids == i)).sum() / (mask | (ids == i)).sum()),
                    )
                )
    return scores


def instance_figures(
    scores: Sequence[InstanceScore], shares: Sequence[float]
) -> dict[str, int | float]:
    """Return the mean IoU of the instances, and their number, from some shares of the image on.

    Raises ValueError: no instance at all.
    """
    if not scores:
        raise ValueError("no instance in any image: wanted masks with ids above 0")
    figures: dict[str, int | float] = {"images": len({(s.dataset, s.image) for s in scores})}
    for share in shares:
        values = [s.iou for s in scores if s.share >= share]
        name = f"from_{share * 100:g}_percent" if share else "all"
        figures[f"instances_{name}"] = len(values)
        figures[f"miou_{name}"] = float(np.mean(values)) if values else float("nan")
    return figures
