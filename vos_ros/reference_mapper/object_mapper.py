"""The reference mapper: make an object map of associations and measured points.

It knows nothing of ROS and is not thread-safe.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vos_ros.config import MappingConfig
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, MeasuredInstance
from vos_ros.reference_mapper.integration import Change, SurfaceIntegrator, count_absence
from vos_ros.reference_mapper.joining import JoiningStage, Pair, ordered_pair
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.new_objects import NewObjectStage
from vos_ros.reference_mapper.publication import MapHeader, MapPublication
from vos_ros.reference_mapper.splitting import SplitEvidence, SplittingStage
from vos_ros.types import Association, AssociationStatus, MapUpdate, Verdict

_JUMP_NS = 500_000_000
"""A stamp that is earlier than the last one by more than this is a jump (a bag that loops)."""
_MATCHES = (AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SavedMap:
    """A map as it is kept between two runs."""

    session_id: str
    """Session in which its ids are unique."""
    revision: int
    """Revision of the last update."""
    stamp_ns: int
    """Stamp of the last frame that was integrated."""
    frame_id: str
    """Frame of the map."""
    next_id: int
    """Lowest id that was never used."""
    merged: Mapping[int, int]
    """Former id -> the id that it became part of."""
    objects: tuple[ObjectModel, ...]
    """The objects, by increasing id."""


@dataclass(frozen=True, eq=False, slots=True)
class Integration:
    """What became of a frame."""

    refused: str = ""
    """Why nothing of it was used; "" where it was."""
    events: tuple[str, ...] = ()
    """Changes of the map, for people."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of associations by what was done with them."""


class ObjectMapper:
    """Build the object map of one session.

    The stages decide what an association does to the map; this class alone changes it.

    Attributes:
        objects: the map, by id. Read only.
        session_id: session of the map.
        revision: revision of the last update.
        stamp_ns: stamp of the last frame that was integrated.
        lifting: settings by which masks are to be lifted for it.
    """

    def __init__(self, config: MapperConfig | None = None, saved: SavedMap | None = None) -> None:
        """Start an empty map, or continue a saved one with its ids, revisions and session."""
        self.config = config if config is not None else MapperConfig()
        self.frame_id = self.config.node.map_frame
        self.lifting = MappingConfig(
            edge_px=self.config.node.edge_px, lift_max_points=self.config.node.lift_max_points
        )
        self.session_id = saved.session_id if saved else uuid.uuid4().hex[:12]
        self.revision = saved.revision if saved else 0
        self.stamp_ns = saved.stamp_ns if saved else 0
        self.objects: dict[int, ObjectModel] = {o.id: o for o in saved.objects} if saved else {}
        self._next_id = saved.next_id if saved else 1
        self._merged = dict(saved.merged) if saved else {}
        self._track_session = ""
        model, rules = self.config.model, self.config.rules
        self._integrator = SurfaceIntegrator(model, self.lifting)
        self._new_objects = NewObjectStage(model, rules, self._integrator)
        self._joining = JoiningStage(model, rules)
        self._splitting = SplittingStage(model, rules, self._integrator)
        self._publication = MapPublication(self.config)

    # --- one frame -------------------------------------------------------------------------------

    def integrate(self, frame: AssociatedFrame) -> Integration:
        """Integrate what one image shows and how it was associated."""
        # 1. Is the frame about this map? Does it continue the stream?
        if refused := self._refuse(frame):
            return Integration(refused)
        self._begin(frame)
        events: list[str] = []
        counts: Counter[str] = Counter()
        instances = {i.track_id: i for i in frame.instances}
        matches = [a for a in frame.associations if a.status in _MATCHES]
        matched = {self.resolve(a.map_object_id) for a in matches}
        self._joining.count_matches(matched)
        absent = self._absent_objects(frame, matched)
        # 2. Matched tracks measure the surface of their objects.
        for a in matches:
            change = self._decide_match(a, instances.get(a.track_id), frame)
            counts[self._apply(change, events)] += 1
        # 3. New tracks become objects, absent objects are deleted.
        for a in frame.associations:
            if a.status == AssociationStatus.NEW:
                change = self._decide_new(a, instances.get(a.track_id), frame, matched)
                counts[self._apply(change, events)] += 1
            elif a.status == AssociationStatus.ABSENT and self.resolve(a.map_object_id) in absent:
                change = self._decide_absent(self.resolve(a.map_object_id), frame.stamp_ns)
                counts[self._apply(change, events)] += 1
            elif a.status in (AssociationStatus.MERGE, AssociationStatus.SPLIT):
                counts[f"{a.status.name} counted"] += 1
            elif a.status not in _MATCHES:
                counts[f"{a.status.name} noted"] += 1
        # 4. Objects that are reported to be one are joined.
        if frame.self_check == Verdict.PASSED:
            self._join_reported(frame, matched, events)
        # 5. Objects that several tracks cover are divided.
        self._split_reported(frame, matched, instances, events)
        return Integration("", tuple(events), counts)

    def resolve(self, object_id: int) -> int:
        """Return the id that an object has by now, through all merges."""
        while object_id in self._merged:  # ends: an id is merged once, into one that is in the map
            object_id = self._merged[object_id]
        return object_id

    def _refuse(self, frame: AssociatedFrame) -> str:
        """Return why a frame can't be used, or ""."""
        if frame.self_check == Verdict.CONTRADICTED:
            return (
                "the perception node finds that map, poses and depth contradict each other (see its"
                " /diagnostics): its frames are not integrated meanwhile"
            )
        if frame.map_frame != self.frame_id:
            return (
                f"associations are in frame {frame.map_frame!r}, this map is in {self.frame_id!r}:"
                " set node.map_frame of both alike"
            )
        if frame.map_session_id not in ("", self.session_id):
            return (
                f"associations refer to the map of session {frame.map_session_id!r}, this one is"
                f" {self.session_id!r}: either they are about to change, or another mapper"
                " publishes on the same topic"
            )
        if frame.map_session_id and frame.map_revision > self.revision:
            return self._begin_session(frame.map_revision)
        return ""

    def _absent_objects(self, frame: AssociatedFrame, matched: set[int]) -> set[int]:
        """Return the objects whose absence counts in a frame.

        None in a run in which map, poses and depth were not seen to belong together. Never more
        than ``rules.max_absent_share`` of the objects in view at once, those first that have been
        absent the longest; the others have their turn when these are gone.
        """
        if frame.self_check != Verdict.PASSED:
            return set()
        absent = {
            self.resolve(a.map_object_id)
            for a in frame.associations
            if a.status == AssociationStatus.ABSENT and a.map_object_id
        } - matched
        known = absent & self.objects.keys()
        most = max(1, int(self.config.rules.max_absent_share * len(known | matched)))

        def order(object_id: int) -> tuple[float, int]:
            since = self.objects[object_id].absent_ns
            return (float("inf") if since is None else since, object_id)

        return set(sorted(known, key=order)[:most]) | (absent - known)

    def _begin_session(self, known_revision: int) -> str:
        """Begin a new session, and return why.

        A reader knows a later revision than ours: the map was loaded from a file that is older than
        what was published, so that ids may mean other objects to the reader.
        """
        former = self.session_id
        reason = (
            f"associations refer to revision {known_revision} of session {former!r}, this map is at"
            f" {self.revision}: it was not saved in between"
        )
        self.session_id, self.revision = uuid.uuid4().hex[:12], 0
        self._merged.clear()
        self._publication.request_snapshot()
        self._forget_evidence()
        return f"{reason}, so its ids begin a new session, {self.session_id!r}"

    def _begin(self, frame: AssociatedFrame) -> None:
        """Forget what a break of the stream makes meaningless."""
        jumped = frame.stamp_ns < self.stamp_ns - _JUMP_NS
        if frame.session_id != self._track_session or jumped:
            self._forget_evidence()
            self.objects = {i: replace(o, absent_ns=None) for i, o in self.objects.items()}
        self._track_session, self.stamp_ns = frame.session_id, frame.stamp_ns
        self._new_objects.expire(frame.stamp_ns)

    def _forget_evidence(self) -> None:
        self._new_objects.reset()
        self._joining.reset()
        self._splitting.reset()

    # --- decisions about one object --------------------------------------------------------------

    def _decide_match(
        self, a: Association, instance: MeasuredInstance | None, frame: AssociatedFrame
    ) -> Change:
        model = self.objects.get(self.resolve(a.map_object_id))
        if model is None:
            return Change(outcome="match of an object that is gone")
        if a.score < self.config.rules.min_score:
            return Change(outcome="match too unsure")
        self._new_objects.discard(a.track_id)
        self._new_objects.assign(a.track_id, model.id)
        return self._integrator.integrate_match(a, model, instance, frame)

    def _decide_new(
        self,
        a: Association,
        instance: MeasuredInstance | None,
        frame: AssociatedFrame,
        matched: set[int],
    ) -> Change:
        own = self.objects.get(self.resolve(self._new_objects.object_of(a.track_id)))
        return self._new_objects.decide(
            a.track_id, instance, frame, self.objects, own=own, matched=matched
        )

    def _decide_absent(self, object_id: int, stamp_ns: int) -> Change:
        model = self.objects.get(object_id)
        if model is None:
            return Change(outcome="ABSENT of an object that is gone")
        return count_absence(model, stamp_ns, self.config.model, self.config.rules)

    # --- joining and splitting -------------------------------------------------------------------

    def _join_reported(self, frame: AssociatedFrame, matched: set[int], events: list[str]) -> None:
        pairs: set[Pair] = set()
        for a in frame.associations:
            if a.status != AssociationStatus.MERGE:
                continue
            ids = {self.resolve(i) for i in (a.map_object_id, *a.related_ids)}
            known = sorted(ids & self.objects.keys())
            pairs |= {(known[0], other) for other in known[1:]}
        self._joining.count_merges(pairs, matched)
        for into, gone in sorted(pairs):
            if self._joining.is_due((into, gone)) and gone in self.objects:
                self._join(self.resolve(into), gone)
                events.append(f"object {gone} became part of object {self.resolve(into)}")

    def _split_reported(
        self,
        frame: AssociatedFrame,
        matched: set[int],
        instances: Mapping[int, MeasuredInstance],
        events: list[str],
    ) -> None:
        covering: dict[int, set[int]] = {}
        for a in frame.associations:
            if a.status == AssociationStatus.SPLIT:
                tracks = covering.setdefault(self.resolve(a.map_object_id), set())
                tracks.update({a.track_id, *a.related_ids} - {0})
        for object_id in matched:
            self._splitting.remove(object_id)
        for object_id, tracks in covering.items():
            if object_id in matched or object_id not in self.objects:
                continue
            self._put(self.objects[object_id].with_match(frame.stamp_ns, self.config.model))
            evidence = self._splitting.count(object_id, tracks, instances, frame)
            if evidence is not None:
                self._split(object_id, evidence, events)

    def _split(self, object_id: int, evidence: SplitEvidence, events: list[str]) -> None:
        config = self.config
        pieces = evidence.pieces(self.objects[object_id], config.model, config.rules)
        if not pieces:
            events.append(
                f"object {object_id} stays one: the tracks that cover it measured the same surface"
            )
            return
        (_, kept), *others = pieces
        self._put(kept)
        for track_id, model in others:
            event = f"was separated from object {object_id}"
            change = Change(outcome="", model=model, track_id=track_id, event=event)
            self._apply(change, events)

    def tidy(self) -> tuple[str, ...]:
        """Delete objects whose surface was contradicted, and join those that have become one.

        It checks what has changed since the last update: call it before ``update``, not with every
        frame. Returns what was done, for people.
        """
        events = []
        for i in sorted(self._publication.touched):
            model = self.objects[i]
            points = len(model.points(self.config.model))
            few = points < self.config.rules.new_points
            if few and points < model.grid.contradicted_count():
                self._delete(i)
                events.append(f"object {i} is deleted: its surface was measured as something else")
        changed = [
            i
            for i in sorted(self._publication.touched)
            if len(self.objects[i].grid)
            and self._publication.has_changed(self.objects[i], self.stamp_ns)
        ]
        for i in changed:
            if i in self.objects:  # not joined just now
                events += self._join_grown(i)
        return tuple(events)

    def _join_grown(self, object_id: int) -> list[str]:
        """Join an object with the neighbours that share its surface by now."""
        events = []
        for other in self._publication.neighbours(self.objects[object_id]):
            if not {object_id, other} <= self.objects.keys():  # joined just now
                continue
            if self._joining.have_grown_together(self.objects[object_id], self.objects[other]):
                into, gone = ordered_pair(object_id, other)
                self._join(into, gone)
                events.append(
                    f"object {gone} became part of object {into}: they have grown to share surface"
                    " and box"
                )
        return events

    # --- changes of the map ----------------------------------------------------------------------

    def _apply(self, change: Change, events: list[str]) -> str:
        """Make a change, add its event, and return its outcome."""
        object_id = change.deleted_id
        if change.deleted_id:
            self._delete(change.deleted_id)
        if change.model is not None:
            object_id = change.model.id or self._take_id()
            self._put(replace(change.model, id=object_id))
        if change.track_id:
            self._new_objects.assign(change.track_id, object_id)
        if change.event:
            events.append(f"object {object_id} {change.event}")
        return change.outcome

    def _put(self, model: ObjectModel) -> None:
        self.objects[model.id] = model
        self._publication.touch(model.id)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _join(self, into: int, gone: int) -> None:
        self._put(self.objects[into].merged_with(self.objects[gone], self.config.model))
        self._merged[gone] = into
        self._remove(gone)
        self._publication.merge(gone, into)

    def _delete(self, object_id: int) -> None:
        self._remove(object_id)
        self._publication.delete(object_id)

    def _remove(self, object_id: int) -> None:
        del self.objects[object_id]
        self._splitting.remove(object_id)
        self._joining.remove(object_id)

    # --- the map, for others ---------------------------------------------------------------------

    def update(self, *, full: bool = False) -> MapUpdate | None:
        """Build the next revision of the map from what changed since the last one.

        Returns None where nothing has changed that matters. The first update is a snapshot; so is
        one after ``node.snapshot_every`` deltas, and one that ``full`` asks for.
        """
        header = MapHeader(
            stamp_ns=self.stamp_ns,
            session_id=self.session_id,
            revision=self.revision,
            frame_id=self.frame_id,
        )
        update = self._publication.build(header, self.objects, self._merged, full=full)
        if update is not None:
            self.revision = update.revision
        return update

    def saved(self) -> SavedMap:
        """Return the map as a file keeps it, without evidence that hasn't changed it yet."""
        return SavedMap(
            session_id=self.session_id,
            revision=self.revision,
            stamp_ns=self.stamp_ns,
            frame_id=self.frame_id,
            next_id=self._next_id,
            merged=dict(self._merged),
            objects=tuple(self.objects[i] for i in sorted(self.objects)),
        )
