"""Stage: integrate the points that a frame measured into the surface of an object."""

from __future__ import annotations

from dataclasses import dataclass

from vos_ros.config import MappingConfig
from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, MeasuredInstance, contradicted_points
from vos_ros.reference_mapper.model import ObjectModel, measurement_cov
from vos_ros.reference_mapper.overlap import share_near
from vos_ros.types import Association, AssociationStatus

_SAME_SURFACE_RADII = 4.0
"""Largest distance of a cube's mean to the points of a frame that show the surface through it, in
radii of its disk: 3 cm with cubes of 1 cm."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Change:
    """What a stage decides about one object. Only the mapper applies it."""

    outcome: str
    """What became of the association, as counted on /diagnostics."""
    model: ObjectModel | None = None
    """The object as it is from now on; with id 0 a new one, which gets an id; None = unchanged."""
    track_id: int = 0
    """The track that shows the object from now on; 0 = as before."""
    deleted_id: int = 0
    """The object that is deleted; 0 = none."""
    event: str = ""
    """What happened to the object, for people, without its id: "is deleted: ..."."""


class SurfaceIntegrator:
    """Decide whether points belong to an object, and integrate them.

    ``lifting`` are the settings by which its masks were lifted.
    """

    def __init__(self, config: ModelConfig, lifting: MappingConfig) -> None:
        self._config, self._lifting = config, lifting

    def can_measure(self, instance: MeasuredInstance | None, frame: AssociatedFrame) -> bool:
        """Return whether an instance has points, placed by a pose that is certain enough."""
        return frame.can_measure(instance, self._config.max_pose_sigma_m)

    def agrees(self, model: ObjectModel, instance: MeasuredInstance) -> bool:
        """Return whether an instance shows an object.

        Either enough of its points lie near the object, or enough of the object's surface lies near
        the points: then the object was known only in part.
        """
        required = self._config.min_agreement
        if float(model.in_reach(instance.points, self._config).mean()) >= required:
            return True
        distance_m = _SAME_SURFACE_RADII * model.grid.point_radius_m
        return share_near(model.points(self._config), instance.points, distance_m) >= required

    def integrate(
        self, model: ObjectModel, instance: MeasuredInstance, frame: AssociatedFrame
    ) -> ObjectModel:
        """Add the points that can be the object's own; count the cubes that the frame contradicts.

        ``can_measure`` must hold.
        """
        T, config = frame.T_map_camera, self._config
        assert T is not None
        points = instance.points[model.in_reach(instance.points, config)]
        cov = measurement_cov(points, T, frame.pose_cov, config)
        model = model.with_measurement(points, cov, frame.stamp_ns, config)
        image = frame.labelled_depth
        if image is None:
            return model
        means, track_id = model.grid.means(), instance.track_id
        return model.with_contradictions(
            contradicted_points(means, track_id, image, T, self._lifting)
        )

    def integrate_match(
        self,
        association: Association,
        model: ObjectModel,
        instance: MeasuredInstance | None,
        frame: AssociatedFrame,
    ) -> Change:
        """Decide what a match does to its object.

        A match in another place changes nothing, not even the existence: mask, pose or association
        is wrong. Where the object was REIDENTIFIED it has moved, and its surface starts anew there.

        Args:
            association: the match.
            model: the object that it names.
            instance: the track in this frame; None where it isn't in the image.
            frame: the frame.
        """
        matched = model.with_match(frame.stamp_ns, self._config)
        if instance is None or not self.can_measure(instance, frame):
            return Change(outcome="match without usable points", model=matched)
        if self.agrees(matched, instance):
            return Change(outcome="integrated", model=self.integrate(matched, instance, frame))
        if association.status != AssociationStatus.REIDENTIFIED:
            return Change(outcome="match elsewhere")
        moved = self.integrate(matched.without_place(), instance, frame)
        event = "was found again in another place: its surface starts anew there"
        return Change(outcome="integrated", model=moved, event=event)


def count_absence(
    model: ObjectModel, stamp_ns: int, config: ModelConfig, rules: RulesConfig
) -> Change:
    """Decide what a frame does that shows free space in the place of an object.

    The object is deleted when it was absent for ``rules.absent_s`` and is unlikely to exist.

    Args:
        model: the object.
        stamp_ns: stamp of the frame.
        config: how much an absence counts.
        rules: when the object is deleted.
    """
    absent = model.with_absence(stamp_ns, config)
    assert absent.absent_ns is not None
    absent_s = (stamp_ns - absent.absent_ns) / 1e9
    due = stamp_ns - absent.absent_ns >= rules.absent_s * 1e9
    if absent.existence < rules.delete_below and due:
        event = f"is deleted: it was absent for {absent_s:.1f} s"
        return Change(outcome="ABSENT deleted an object", deleted_id=model.id, event=event)
    return Change(outcome="ABSENT counted", model=absent)
