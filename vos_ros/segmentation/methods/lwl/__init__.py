"""LWL: a target model per object, learned from its seed and from the method's own masks.

Paper 003: Bhat et al., "Learning What to Learn for Video Object Segmentation", ECCV 2020.
Written from the paper; Apache-2.0.

Equations: the loss of a target model is eq. (3) (``networks.learner.loss``), its learner eq. (4)
(``networks.learner.steepest_descent``). The weights of the samples, the search window and the
merging of the objects are those of sec. 3.5 (``memory``, ``search_window``, ``aggregation``).

Three segmenters share the name: ``segmenter.Lwl`` with trained networks, ``plain.PlainLwl`` without
(Table 1, "baseline"), and ``reference.ReferenceLwl`` with the published program's own rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig, register_options
from vos_ros.segmentation.methods.lwl.options import FeaturesOptions, LwlOptions
from vos_ros.segmentation.registry import METHODS_PACKAGE, register

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make the LWL segmenter that is configured. Raises ConfigError: weights that can't be used."""
    options = config.methods.of(LwlOptions)
    if options.model == "plain":
        from vos_ros.segmentation.methods.lwl.plain import PlainLwl

        return PlainLwl(config)
    if options.compat == "reference":
        from vos_ros.segmentation.methods.lwl.reference import ReferenceLwl

        return ReferenceLwl(config)
    from vos_ros.segmentation.methods.lwl.segmenter import Lwl

    return Lwl(config)


register_options(METHODS_PACKAGE, "features", FeaturesOptions)
register("lwl", create, LwlOptions)
