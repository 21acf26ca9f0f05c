"""Mask files in all their forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_ros.datasets.masks import (
    read_foreground,
    read_mask,
    write_mask,
)


def test_masks_in_all_their_forms(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "p.png", ids)
    assert np.array_equal(read_mask(tmp_path / "p.png"), ids)
    with Image.open(tmp_path / "p.png") as image:
        palette = image.getpalette()
        assert image.mode == "P" and palette is not None
    assert palette[:15] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128] and palette[
        -3:
    ] == [224, 224, 192]
    half = ids > 127
    Image.fromarray(half).save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), half)
    Image.fromarray(np.repeat(half[:, :, None] * np.uint8(255), 3, 2)).save(tmp_path / "rgb.png")
    assert np.array_equal(read_foreground(tmp_path / "rgb.png"), half)
    with pytest.raises(ValueError, match=r"uint8 of shape \(16, 16, 3\)"):
        read_mask(tmp_path / "rgb.png")
    opaque = np.zeros((16, 16, 4), np.uint8)
    opaque[:, :, 3] = 255
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    assert not read_foreground(tmp_path / "rgba.png").any()
