"""Pictures of textured squares that move right, and files of them in the layouts of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from vos_ros.datasets.interface import FrameFiles, VideoSequence
from vos_ros.training.interface import Batch

HEIGHT, WIDTH = 48, 64


def draw(t: int = 0, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return frame t of n squares: RGB u8 (48, 64, 3), and ids 1..n u8 (48, 64)."""
    rng = np.random.default_rng(7)
    rgb = np.clip(rng.normal(90, 20, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for i in range(1, n + 1):
        x, y = 6 + 2 * t, 4 + 15 * (i - 1)
        ids[y : y + 13, x : x + 20] = i
        rgb[y : y + 13, x : x + 20] = rng.integers(0, 256, (13, 20, 3)) // 3 + np.array(
            [80 * i % 170, 60, 170 - 50 * i]
        )
    return rgb, ids


def sequence(*, n: int, frames: int) -> VideoSequence:
    """Return n squares as a sequence of files that are not there, named by their number."""
    return VideoSequence(
        name="squares",
        dataset="made",
        frames=tuple(
            FrameFiles(name=str(t), number=t, image=Path(str(t)), mask=Path(str(t)))
            for t in range(frames)
        ),
        read_image=lambda path: draw(int(path.name), n)[0],
        read_ids=lambda path: draw(int(path.name), n)[1],
    )


def clips(n: int, frames: int, *, side: int, size: int = 65) -> Batch:
    """Make n clips of a red and a blue square, ``side`` px wide, that move over a dark ground."""
    rng = torch.Generator().manual_seed(n)
    images = torch.randint(0, 60, (n, frames, 3, size, size), generator=rng, dtype=torch.uint8)
    labels = torch.zeros((n, frames, size, size), dtype=torch.uint8)
    for b in range(n):
        for t in range(frames):
            for i, color in enumerate(([180, 60, 20], [20, 60, 180])):
                y, x = 6 + 4 * t + 5 * b, 4 + 30 * i + 3 * t
                labels[b, t, y : y + side, x : x + side] = i + 1
                images[b, t, :, y : y + side, x : x + side] += torch.tensor(
                    color, dtype=torch.uint8
                )[:, None, None]
    return Batch(images, labels)


def write_pair(image: Path, mask: Path, rgb: np.ndarray, ids: np.ndarray) -> None:
    """Write an image and its mask; ids of one byte become a palette PNG."""
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(image), rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    if ids.dtype == np.uint8 and ids.ndim == 2:
        coded = Image.fromarray(ids, mode="L").convert("P")
        coded.putdata(ids.ravel().tolist())
        coded.save(mask)
    else:
        Image.fromarray(ids).save(mask)


def write_folder(root: Path) -> Path:
    """Write images/ and masks/: sequences a and b of eight frames, three stills; two squares."""
    for name in ("a", "b"):
        for t in range(8):
            write_pair(
                root / f"images/{name}/{t:05d}.jpg",
                root / f"masks/{name}/{t:05d}.png",
                *draw(t if name == "a" else 7 - t, 2),
            )
    for i in range(3):
        write_pair(root / f"images/still{i}.jpg", root / f"masks/still{i}.png", *draw(2 * i, 2))
    return root
