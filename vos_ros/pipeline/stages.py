"""Name the stages of a frame, and make them for a session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

from vos_ros.association.assignment import HungarianAssociator
from vos_ros.association.interface import Associator
from vos_ros.config import Config
from vos_ros.discovery.depth_proposer import proposer_of
from vos_ros.discovery.proposals import SeedProposer
from vos_ros.pipeline.evidence_collector import EvidenceCollector
from vos_ros.pipeline.feedback import ObjectDiscovery, SegmenterTeacher
from vos_ros.pipeline.input_checks import InputChecker
from vos_ros.pipeline.map_checker import MapChecker
from vos_ros.pipeline.mask_fusion import MaskFusion
from vos_ros.pipeline.plan import Restart
from vos_ros.pipeline.pose_refiner import PoseRefiner
from vos_ros.pipeline.seeding import Seeder
from vos_ros.pipeline.self_check import SelfCheck
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.registry import create
from vos_ros.types import MapChange


class Replacements(TypedDict, total=False):
    """Name the stages that others may replace, such as by their null and ground-truth twins.

    None is the same as none given: the configured stage.
    """

    segmenter: VideoSegmenter | None
    """Used instead of ``segmentation.method``; what it follows is dropped."""
    associator: Associator | None
    """Used instead of the assignment by evidence."""
    proposer: SeedProposer | None
    """Used instead of ``proposals.mode``. It is not started over with a session."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Stages:
    """Hold the stages of one session, in the order in which a frame meets them."""

    config: Config
    """What the stages were made by."""
    replacements: Replacements
    """What replaces the configured stages, in this session and those after it."""
    input_checker: InputChecker
    """Finds unusable data and breaks of the stream."""
    segmenter: VideoSegmenter
    """Follows objects in the image."""
    self_check: SelfCheck
    """Finds out whether map, poses and depth belong together."""
    pose_refiner: PoseRefiner
    """Corrects the camera pose by the followed objects."""
    seeder: Seeder
    """Decides which objects the segmenter is given."""
    mask_fusion: MaskFusion
    """Decides which track owns each pixel."""
    evidence_collector: EvidenceCollector
    """Collects evidence for pairs of tracks and map objects."""
    associator: Associator
    """Matches tracks and map objects."""
    map_checker: MapChecker
    """Finds what contradicts the map."""
    teacher: SegmenterTeacher
    """Decides what the segmenter learns about map objects."""
    discovery: ObjectDiscovery
    """Finds new objects and missing parts."""

    @classmethod
    def from_config(cls, config: Config, **replacements: Unpack[Replacements]) -> Stages:
        """Make the stages of a new session. Raises ConfigError: weights that can't be used."""
        segmenter = _fresh_segmenter(config, replacements)
        uses_image = segmenter.uses_image
        return cls(
            config=config,
            replacements=replacements,
            input_checker=InputChecker(config.proposals.give_up_s),
            segmenter=segmenter,
            self_check=SelfCheck(),
            pose_refiner=PoseRefiner(config.pose, config.mapping, uses_image=uses_image),
            seeder=Seeder(config.tracking, uses_image=uses_image),
            mask_fusion=MaskFusion(uses_image=uses_image),
            evidence_collector=EvidenceCollector(config.association, config.mapping),
            associator=replacements.get("associator") or HungarianAssociator(config.association),
            map_checker=MapChecker(config.association, config.mapping.depth_tolerance_m),
            teacher=SegmenterTeacher(
                config.tracking.segmenter_update_interval, uses_image=uses_image
            ),
            discovery=ObjectDiscovery(
                replacements.get("proposer") or proposer_of(config.proposals),
                config.mapping,
                config.tracking.max_objects,
                uses_image=uses_image,
            ),
        )

    def restarted(self, restart: Restart) -> Stages:
        """Return the stages with those new that start over; the input checker stays."""
        if restart == Restart.NOTHING:
            return self
        if restart == Restart.PLACES:
            fusion = MaskFusion(uses_image=self.segmenter.uses_image)
            return replace(self, mask_fusion=fusion)
        new = Stages.from_config(self.config, **self.replacements)
        if restart == Restart.SESSION:
            return replace(new, input_checker=self.input_checker)
        return replace(
            self,
            segmenter=new.segmenter,
            pose_refiner=new.pose_refiner,
            mask_fusion=new.mask_fusion,
            teacher=new.teacher,
        )

    def with_method(self, method: str) -> Stages:
        """Return the stages with a new segmenter of a method, and all that depends on it new."""
        segmentation = replace(self.config.segmentation, method=method)
        config = replace(self.config, segmentation=segmentation)
        other = method != self.config.segmentation.method
        replacements = {**self.replacements, "segmenter": None} if other else self.replacements
        new = Stages.from_config(config, **replacements)
        return replace(
            self,
            config=config,
            segmenter=new.segmenter,
            pose_refiner=new.pose_refiner,
            seeder=self.seeder.for_segmenter(uses_image=new.segmenter.uses_image),
            mask_fusion=new.mask_fusion,
            teacher=new.teacher,
            discovery=new.discovery,
        )

    def follow_map(self, change: MapChange) -> None:
        """Let every stage that remembers map objects follow a change of the map."""
        self.evidence_collector.follow_map(change)
        self.map_checker.follow_map(change)
        self.discovery.follow_map(change)


def _fresh_segmenter(config: Config, replacements: Replacements) -> VideoSegmenter:
    """Return a segmenter that follows nothing."""
    segmenter = replacements.get("segmenter")
    if segmenter is None:
        return create(config.segmentation)
    if segmenter.object_ids:
        segmenter.drop(segmenter.object_ids)
    return segmenter
