"""The sections of the configuration: each value has its default, bounds, unit and help here, once.

A segmentation method and a term of evidence bring their own options (``option_group``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vos_ros.config.node_sections import BridgesConfig, LimitsConfig, NodeConfig
from vos_ros.config.plugins import OptionGroup, option_group
from vos_ros.config.tree import option


@dataclass(frozen=True)
class SegmentationConfig:
    """Which segmenter follows the objects, and with what."""

    method: str = option("lwl", "segmenter, by its name in the registry", basic=True)
    seed_with: str = option(
        "",
        "method that makes the first mask of an object from clicks and from map objects without"
        " points, such as one_point; empty = segmentation.method in its own way",
    )
    device: str = option(
        "auto",
        "torch device: auto (cuda where there is one), cpu, cuda, cuda:1, ...",
        basic=True,
    )
    threads: int = option(0, "CPU threads of torch, 0 = leave as it is", low=0, high=256)
    methods: OptionGroup = option_group("vos_ros.segmentation.methods", inline=True)


@dataclass(frozen=True)
class MappingConfig:
    """How map objects are rendered, and pixels lifted to the map."""

    depth_tolerance_m: float = option(
        0.03,
        "measured and predicted depth agree within this plus depth_tolerance_per_m2 z^2",
        unit="m",
        low=0.0,
        high=1.0,
    )
    depth_tolerance_per_m2: float = option(
        0.01,
        "growth of the tolerance with the squared depth: the noise of stereo and structured light",
        unit="1/m",
        low=0.0,
        high=1.0,
    )
    near_m: float = option(0.05, "depth of the near plane", unit="m", low=0.001, high=10.0)
    far_m: float = option(20.0, "depth of the far plane", unit="m", low=0.1, high=1000.0)
    max_splat_px: int = option(
        12, "largest radius of a rendered map point", unit="px", low=1, high=64
    )
    edge_px: int = option(
        2,
        "pixels within this distance of a mask's border are not lifted to 3-D",
        unit="px",
        low=0,
        high=16,
    )
    lift_max_points: int = option(500, "most points lifted per mask", low=10, high=100000)


@dataclass(frozen=True)
class PoseConfig:
    """How uncertain the camera pose is, and whether it is corrected by the map."""

    sigma_m: float = option(
        0.01,
        "standard deviation of the position per axis where the source states no covariance",
        unit="m",
        low=0.0,
        high=5.0,
    )
    sigma_deg: float = option(
        0.3,
        "standard deviation of the rotation per axis where the source states no covariance",
        unit="deg",
        low=0.0,
        high=90.0,
    )
    correction: str = option(
        "auto",
        "correct the pose within its covariance: depth aligns the map with the measured depth,"
        " image aligns projections with the segmented objects; auto takes depth where it can be"
        " used, else the image",
        choices=("auto", "depth", "image", "off"),
        basic=True,
    )
    image_correction_min_sigma_px: float = option(
        6.0,
        "the image corrects the pose where projections are more uncertain than this",
        unit="px",
        low=0.0,
        high=100.0,
    )


@dataclass(frozen=True)
class TrackingConfig:
    """When tracks start, are confirmed and are lost."""

    seed_min_px: int = option(
        40,
        "smallest number of predicted visible pixels at which an object is seeded",
        unit="px",
        low=1,
        high=100000,
    )
    seed_min_visible: float = option(
        0.2,
        "smallest predicted visible share of the object's part in the image at which it is seeded",
        low=0.0,
        high=1.0,
    )
    min_px: int = option(
        12, "a track with fewer pixels is missed in the frame", unit="px", low=1, high=100000
    )
    confirm_s: float = option(
        0.3,
        "a tentative track is confirmed when it has matched its object for this long",
        unit="s",
        low=0.0,
        high=60.0,
    )
    lost_s: float = option(
        1.0,
        "a track that should be visible and was missed for this long is lost",
        unit="s",
        low=0.0,
        high=600.0,
    )
    segmenter_update_interval: int = option(
        4,
        "frames between corrections of the segmenter by the fused masks of image and map",
        unit="frames",
        low=1,
        high=1000,
    )
    max_objects: int = option(
        64,
        "largest number of objects followed at once; the largest in view come first",
        low=1,
        high=1000,
        basic=True,
    )


@dataclass(frozen=True)
class ProposalsConfig:
    """How objects that are not in the map are found in the depth and become tracks."""

    mode: str = option(
        "off",
        "depth: surfaces that stand off table tops, floor and walls become NEW tracks, so that an"
        " empty map can start (needs depth and poses); off: tracks come from the map and from"
        " prompts alone",
        choices=("off", "depth"),
        basic=True,
    )
    period_s: float = option(
        0.25, "time between two searches for new objects", unit="s", low=0.0, high=60.0
    )
    confirm_detections: int = option(
        4,
        "a candidate becomes a track after this many detections at the same place, and after"
        " confirm_s",
        low=1,
        high=1000,
    )
    confirm_s: float = option(
        1.0,
        "least time between the first and the last detection of a candidate that becomes a track",
        unit="s",
        low=0.0,
        high=60.0,
    )
    forget_s: float = option(
        2.0,
        "a candidate that was not detected for this long is dropped",
        unit="s",
        low=0.0,
        high=600.0,
    )
    give_up_s: float = option(
        30.0,
        "a proposed track that was not segmented for this long and has no map object ends",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    min_px: int = option(300, "least visible area of a new object", unit="px", low=1, high=1000000)
    min_size_m: float = option(
        0.06, "least length of a new object's visible part", unit="m", low=0.0, high=100.0
    )
    max_size_m: float = option(
        1.2, "largest length of a new object's visible part", unit="m", low=0.01, high=100.0
    )
    far_m: float = option(
        3.5, "largest depth at which objects are proposed", unit="m", low=0.1, high=1000.0
    )
    plane_min_m2: float = option(
        0.2,
        "least visible area of a plane that is background",
        unit="m^2",
        low=0.001,
        high=1000.0,
    )
    plane_tolerance_m: float = option(
        0.012,
        "a measurement lies on a plane within this plus plane_tolerance_per_m2 z^2",
        unit="m",
        low=0.0,
        high=1.0,
    )
    plane_tolerance_per_m2: float = option(
        0.004,
        "growth of the planes' tolerance with the squared depth",
        unit="1/m",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class AssociationConfig:
    """How tracks are assigned to map objects, and when the map is reported to be wrong."""

    min_iou: float = option(
        0.2,
        "gate: smallest IoU of mask and projection, pose uncertainty allowed for, at which a pair"
        " is considered",
        low=0.0,
        high=1.0,
    )
    min_depth_inliers: float = option(
        0.3,
        "gate: smallest share of the track's pixels whose depth agrees with the object",
        low=0.0,
        high=1.0,
    )
    min_overlap_3d: float = option(
        0.5,
        "gate: share of the track's points on the object's surface from which a pair is considered"
        " whatever the masks are",
        low=0.0,
        high=1.0,
    )
    terms: OptionGroup = option_group("vos_ros.association.terms")
    appearance_views: int = option(
        8,
        "largest number of descriptors of appearance kept per object; 0 = appearance is not used",
        low=0,
        high=1000,
    )
    appearance_min_score: float = option(
        0.9,
        "smallest score (probability) of a match from which an object's appearance is learned",
        low=0.0,
        high=1.0,
    )
    current_match_bonus: float = option(
        2.0,
        "log-odds added to the current match of a track, in the assignment only; less where the"
        " track has jumped",
        low=0.0,
        high=100.0,
    )
    match_score: float = option(
        0.5,
        "smallest score (probability) of a matched pair",
        low=0.0,
        high=1.0,
        basic=True,
    )
    absent_free: float = option(
        0.6,
        "ABSENT: smallest share of an object's predicted pixels, of those that nothing nearer"
        " hides, where depth was measured behind it",
        low=0.0,
        high=1.0,
    )
    absent_px: int = option(
        50, "ABSENT: smallest number of these pixels", unit="px", low=1, high=10**6
    )
    absent_s: float = option(
        0.5, "ABSENT: time over which this was measured", unit="s", low=0.0, high=60.0
    )
    absent_frames: int = option(
        3, "ABSENT: number of frames that measured it", unit="frames", low=1, high=1000
    )
    identity_share: float = option(
        0.7,
        "MERGE: smallest share of two objects' measured surfaces that one track covers; SPLIT:"
        " smallest share of an unmatched track that lies on an object with another track",
        low=0.5,
        high=1.0,
    )
    identity_s: float = option(
        1.0, "MERGE and SPLIT: time over which this was measured", unit="s", low=0.0, high=60.0
    )
    identity_frames: int = option(
        5, "MERGE and SPLIT: number of frames that measured it", unit="frames", low=1, high=1000
    )


@dataclass(frozen=True)
class Config:
    """The whole tree."""

    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    proposals: ProposalsConfig = field(default_factory=ProposalsConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    bridges: BridgesConfig = field(default_factory=BridgesConfig)
    node: NodeConfig = field(default_factory=NodeConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
