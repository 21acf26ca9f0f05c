"""LWL: Bhat et al., "Learning What to Learn for Video Object Segmentation", ECCV 2020 (paper 003). Written from the paper; Apache-2.0."""

from __future__ import annotations

from vos_ros.segmentation.lwl.plain import PlainLwl
from vos_ros.segmentation.registry import register

register("lwl", PlainLwl)
