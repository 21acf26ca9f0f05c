"""Stage: decide which tracks without an object become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, MeasuredInstance
from vos_ros.reference_mapper.integration import Change, SurfaceIntegrator
from vos_ros.reference_mapper.joining import similarity
from vos_ros.reference_mapper.model import ObjectModel, new_model
from vos_ros.reference_mapper.overlap import largest_piece


@dataclass(eq=False, slots=True)
class Candidate:
    """A track that may become an object."""

    model: ObjectModel
    """What was measured of it."""
    co_observed: Counter[int] = field(default_factory=Counter)
    """Object id -> number of its frames that matched the object in another place of the image."""

    def is_ready(self, config: ModelConfig, rules: RulesConfig) -> bool:
        """Return whether it was measured often and long enough, with enough points."""
        span_s = (self.model.last_ns - self.model.first_ns) / 1e9
        return (
            self.model.observations >= rules.new_frames
            and span_s >= rules.new_s
            and len(self.model.points(config)) >= rules.new_points
        )


class NewObjectStage:
    """Collect the points of NEW tracks until they are enough for an object.

    It also knows which object each track has shown. The perception node may report a track as NEW
    until it has received the object that was made of it.
    """

    def __init__(
        self, config: ModelConfig, rules: RulesConfig, integrator: SurfaceIntegrator
    ) -> None:
        self._config, self._rules, self._integrator = config, rules, integrator
        self._candidates: dict[int, Candidate] = {}
        self._object_of: dict[int, int] = {}

    def reset(self) -> None:
        """Forget all tracks."""
        self._candidates.clear()
        self._object_of.clear()

    def expire(self, stamp_ns: int) -> None:
        """Forget candidates that were not measured for ``rules.candidate_timeout_s``."""
        oldest_ns = stamp_ns - self._rules.candidate_timeout_s * 1e9
        for track_id in [t for t, c in self._candidates.items() if c.model.last_ns < oldest_ns]:
            del self._candidates[track_id]

    def object_of(self, track_id: int) -> int:
        """Return the object that a track has shown, perhaps merged since; 0 = none."""
        return self._object_of.get(track_id, 0)

    def assign(self, track_id: int, object_id: int) -> None:
        """Note which object a track shows."""
        self._object_of[track_id] = object_id

    def discard(self, track_id: int) -> None:
        """Forget that a track may become an object."""
        self._candidates.pop(track_id, None)

    def decide(
        self,
        track_id: int,
        instance: MeasuredInstance | None,
        frame: AssociatedFrame,
        objects: Mapping[int, ObjectModel],
        *,
        own: ObjectModel | None,
        matched: Collection[int],
    ) -> Change:
        """Decide what a NEW track does to the map.

        Args:
            track_id: the track.
            instance: the track in this frame; None where it isn't in the image.
            frame: the frame.
            objects: the map.
            own: object that the track has shown before; None where there is none.
            matched: objects that this frame matched with other tracks.
        """
        can_measure = self._integrator.can_measure(instance, frame)
        if instance is None or not instance.confirmed or not can_measure:
            return Change(outcome="NEW not confirmed or without points")
        if own is not None:
            return self._integrate_own(own, instance, frame, matched)
        # A mask that covers two look-alikes must not make one object of both.
        piece = largest_piece(instance.points, self._rules.piece_gap_m)
        candidate = self._measure_candidate(track_id, replace(instance, points=piece), frame)
        candidate.co_observed.update(matched)
        if not candidate.is_ready(self._config, self._rules):
            return Change(outcome="NEW waiting to be seen more often")
        self.discard(track_id)
        made, model = "NEW became an object", candidate.model
        if known := self._known_object(candidate, objects):
            joined = known.merged_with(model, self._config)
            event = f"is what track {track_id} shows: they share their surface"
            return Change(outcome=made, model=joined, track_id=track_id, event=event)
        event = f"begins from track {track_id}, with {len(model.grid)} points"
        return Change(outcome=made, model=model, track_id=track_id, event=event)

    def _integrate_own(
        self,
        own: ObjectModel,
        instance: MeasuredInstance,
        frame: AssociatedFrame,
        matched: Collection[int],
    ) -> Change:
        """Decide what a NEW track does to the object that it has shown before.

        A track shows one thing all its life. Where that isn't its object any more it has drifted
        onto something else, which makes no new object.
        """
        if own.id in matched or not self._integrator.agrees(own, instance):
            return Change(outcome="NEW of a track that is not on its object")
        model = own.with_match(frame.stamp_ns, self._config)
        model = self._integrator.integrate(model, instance, frame).with_vote(instance.class_id)
        return Change(outcome="integrated", model=model)

    def _measure_candidate(
        self, track_id: int, instance: MeasuredInstance, frame: AssociatedFrame
    ) -> Candidate:
        """Add a frame to a track's candidate; one that has moved away starts anew."""
        candidate = self._candidates.get(track_id)
        if candidate is None or not self._integrator.agrees(candidate.model, instance):
            candidate = Candidate(new_model(instance.points, frame.stamp_ns, self._config))
            self._candidates[track_id] = candidate
        model = candidate.model.with_match(frame.stamp_ns, self._config)
        model = model.with_vote(instance.class_id)
        candidate.model = self._integrator.integrate(model, instance, frame)
        return candidate

    def _known_object(
        self, candidate: Candidate, objects: Mapping[int, ObjectModel]
    ) -> ObjectModel | None:
        """Find the known object that a candidate is: of several the one that shares most."""
        best: tuple[float, int] = (0.0, 0)
        for other in objects.values():
            together = candidate.co_observed[other.id]
            co_observed = 2 * together > candidate.model.observations
            similar = similarity(candidate.model, other, self._config, self._rules)
            if similar.new_is_known(co_observed, self._rules):
                best = max(best, (similar.shared, other.id))
        return objects.get(best[1])
