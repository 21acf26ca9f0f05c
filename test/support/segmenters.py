"""Configurations of segmenters."""

from __future__ import annotations

from typing import Any

from vos_ros.config import SegmentationConfig, from_flat


def segmentation_config(
    method: str = "lwl", device: str = "cpu", **options: dict[str, Any]
) -> SegmentationConfig:
    """A configuration on the CPU; ``lwl={"long_side": 96}`` is ``segmentation.lwl.long_side``."""
    values: dict[str, Any] = {"segmentation.method": method, "segmentation.device": device}
    for section, fields in options.items():
        values |= {f"segmentation.{section}.{name}": value for name, value in fields.items()}
    return from_flat(values).segmentation
