"""Meta: a small model per object on a metric embedding, learned by a learned optimizer.

Paper 000: Clark et al., "Meta-Learning for Instance-Level Data Association", NeurIPS workshops
2018. Written from the paper; Apache-2.0.

Equations: the similarity of two embeddings is eq. (1) (``networks.embedding.similarity``), an
iteration of the optimizer eq. (3) (``networks.meta_optimizer.iterate``), the LSTM that computes it
eq. (4) (``networks.meta_optimizer.LstmOptimizer``), the start of a model fig. 1
(``networks.meta_optimizer.WeightGenerator``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.methods.meta.options import MetaOptions
from vos_ros.segmentation.registry import register

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make the meta segmenter. Raises ConfigError: weights that can't be used."""
    from vos_ros.segmentation.methods.meta.segmenter import Meta

    return Meta(config)


register("meta", create, MetaOptions)
