"""A data set in DAVIS' folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FRAMES, HEIGHT, WIDTH = 8, 64, 96


def write_davis(root: Path) -> None:
    """Write two sequences of eight 96x64 frames, both in the list ``val`` of 2017.

    ``pair`` has the objects 1 and 2, which move towards each other; ``solo`` has object 1 alone.
    """
    rng = np.random.default_rng(8)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("pair\nsolo\n")
    for name, count in (("pair", 2), ("solo", 1)):
        images, masks = root / "JPEGImages/480p" / name, root / "Annotations/480p" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        ground = rng.integers(90, 130, (HEIGHT, WIDTH, 3), np.uint8)
        for t in range(FRAMES):
            image, mask = ground.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
            objects = ((20 + 2 * t, 12, (40, 60, 220)), (60 - 2 * t, 40, (60, 220, 40)))
            for i, (x, y, color) in enumerate(objects[:count], start=1):
                mask[y : y + 18, x : x + 22] = i
                image[mask == i] = np.array(color) - rng.integers(0, 30, (18 * 22, 3))
            cv2.imwrite(str(images / f"{t:05d}.jpg"), image)
            cv2.imwrite(str(masks / f"{t:05d}.png"), mask)
