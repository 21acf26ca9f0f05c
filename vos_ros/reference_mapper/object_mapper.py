"""The reference mapper: associations and measured points in, an object map out. Knows nothing of ROS; not thread-safe."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from vos_ros.config import MappingConfig
from vos_ros.geometry.extents import Extent
from vos_ros.geometry.uncertainty import position_sigma
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.evidence import Candidate, Pair, Split, likeness, pair
from vos_ros.reference_mapper.frames import AssociatedFrame, SeenInstance, contradicted
from vos_ros.reference_mapper.model import ObjectModel, measurement_cov, new_model
from vos_ros.reference_mapper.overlap import largest_piece, share_near
from vos_ros.types import Association, AssociationStatus, MapUpdate

_JUMP_NS = 500_000_000
"""A stamp that lies further back than this is a jump back in time (a bag that loops)."""
_APART = 4.0
"""A view of the surface that a cube lies on has points nearer to the cube's mean than this times its radius: 3 cm with cubes of 1 cm."""
_MARGIN_M = 0.1
"""An object's box grows less than this between two publications of it."""


@dataclass(frozen=True, eq=False, slots=True)
class SavedMap:
    """All that a map is between two runs. ``merged``: former id -> the id it became part of. ``next_id`` was never used."""

    session_id: str
    revision: int
    stamp_ns: int
    frame_id: str
    next_id: int
    merged: Mapping[int, int]
    objects: tuple[ObjectModel, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Integration:
    """What became of a frame. ``refused``: why nothing of it was used, "" where it was. ``events``: changes of the map, for people.
    ``counts``: statements by what was done with them."""

    refused: str = ""
    events: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class _Published:
    """What the map's users last heard of an object."""

    points: int
    extent: Extent | None
    class_id: int
    observations: int
    stamp_ns: int


class ObjectMapper:
    """The map of one session. ``saved`` continues one: ids, revisions and session go on.

    ``objects`` by id, ``revision`` of the last update made, ``stamp_ns`` of the last frame used; ``lifting``: how it wants masks lifted.
    """

    def __init__(self, config: MapperConfig | None = None, saved: SavedMap | None = None) -> None:
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
        self._forget_evidence()
        self._published: dict[int, _Published] = {}
        self._touched: set[int] = set()
        self._deleted: list[int] = []
        self._news: list[Pair] = []
        self._whole = True  # the next update must be a snapshot
        self._since_snapshot = 0

    def _forget_evidence(self) -> None:
        self._candidates: dict[int, Candidate] = {}
        self._became: dict[int, int] = {}  # track -> the object that it became or was found to be
        self._beside: Counter[Pair] = (
            Counter()
        )  # in how many frames two objects were found in different places of the image
        self._merges: Counter[Pair] = Counter()
        self._splits: dict[int, Split] = {}

    # -- frames in -------------------------------------------------------------------------------------------------------------

    def integrate(self, frame: AssociatedFrame) -> Integration:
        """Takes in what one image showed and what was said of it."""
        if refused := self._wrong(frame):
            return Integration(refused)
        self._begin(frame)
        events: list[str] = []
        counts: Counter[str] = Counter()
        seen = {i.track_id: i for i in frame.instances}
        found = [
            a
            for a in frame.associations
            if a.status in (AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED)
        ]
        matched = {self.resolve(a.map_object_id) for a in found}
        self._beside.update(combinations(sorted(matched), 2))
        for a in found:
            counts[self._match(a, seen.get(a.track_id), frame, events)] += 1
        for a in frame.associations:
            if a.status == AssociationStatus.NEW:
                counts[self._new(a, seen.get(a.track_id), frame, matched, events)] += 1
            elif (
                a.status == AssociationStatus.ABSENT
                and a.map_object_id
                and self.resolve(a.map_object_id) not in matched
            ):
                counts[self._absent(self.resolve(a.map_object_id), frame.stamp_ns, events)] += 1
            elif a not in found and a.status not in (
                AssociationStatus.MERGE,
                AssociationStatus.SPLIT,
            ):
                counts[f"{a.status.name} noted"] += 1
        self._merge(frame, matched, events, counts)
        self._split(frame, matched, seen, events, counts)
        return Integration("", tuple(events), counts)

    def resolve(self, object_id: int) -> int:
        """The id that an object goes by now: what it was merged into, through any chain."""
        while object_id in self._merged:  # ends: an id is merged once, into one that is in the map
            object_id = self._merged[object_id]
        return object_id

    def _wrong(self, frame: AssociatedFrame) -> str:
        if frame.map_frame != self.frame_id:
            return f"associations are in frame {frame.map_frame!r}, this map is in {self.frame_id!r}: set node.map_frame of both alike"
        if frame.map_session_id not in ("", self.session_id):
            return (
                f"associations speak of the map of session {frame.map_session_id!r}, this one is {self.session_id!r}: either they are"
                " about to change, or another mapper publishes on the same topic"
            )
        if frame.map_session_id and frame.map_revision > self.revision:
            # The map was loaded from a file older than what was published: ids may mean other things there.
            mine, self.session_id = self.session_id, uuid.uuid4().hex[:12]
            gap = f"associations speak of revision {frame.map_revision} of session {mine!r}, this map is at {self.revision}"
            self.revision, self._whole = 0, True
            self._merged.clear()
            self._forget_evidence()
            return f"{gap}: it was not saved in between, so its ids begin a new session, {self.session_id!r}"
        return ""

    def _begin(self, frame: AssociatedFrame) -> None:
        """Forgets what a break in the stream makes meaningless."""
        if frame.session_id != self._track_session or frame.stamp_ns < self.stamp_ns - _JUMP_NS:
            self._forget_evidence()
            self.objects = {i: replace(o, absent_ns=None) for i, o in self.objects.items()}
        self._track_session, self.stamp_ns = frame.session_id, frame.stamp_ns
        limit = frame.stamp_ns - self.config.rules.forget_s * 1e9
        self._candidates = {t: c for t, c in self._candidates.items() if c.model.last_ns >= limit}

    def _measures(self, instance: SeenInstance | None, frame: AssociatedFrame) -> bool:
        """The instance has points, and the camera stood where it was said to have."""
        if instance is None or len(instance.points) == 0 or frame.T_map_camera is None:
            return False
        sigma_m = 0.0 if frame.pose_cov is None else position_sigma(frame.pose_cov)
        return sigma_m <= self.config.model.max_pose_sigma_m

    def _measured(
        self, model: ObjectModel, instance: SeenInstance, frame: AssociatedFrame
    ) -> ObjectModel:
        """With those of the points that can be its own, and without what the frame shows to be something else."""
        assert frame.T_map_camera is not None
        points = instance.points[model.own(instance.points, self.config.model)]
        cov = measurement_cov(points, frame.T_map_camera, frame.pose_cov, self.config.model)
        model = model.measured(points, cov, frame.stamp_ns, self.config.model)
        if frame.sight is None:
            return model
        missed = contradicted(
            model.grid.means(), instance.track_id, frame.sight, frame.T_map_camera, self.lifting
        )
        return model.missed_at(missed)

    # -- what each status does -------------------------------------------------------------------------------------------------

    def _match(
        self,
        a: Association,
        instance: SeenInstance | None,
        frame: AssociatedFrame,
        events: list[str],
    ) -> str:
        model = self.objects.get(self.resolve(a.map_object_id))
        if model is None:
            return "match of an object that is gone"
        if a.score < self.config.rules.min_score:
            return "match too unsure"
        self._candidates.pop(a.track_id, None)
        self._became[a.track_id] = model.id
        found_again = a.status == AssociationStatus.REIDENTIFIED
        model = model.seen(frame.stamp_ns, self.config.model)
        if instance is None or not self._measures(instance, frame):
            self._put(model)
            return "match without usable points"
        if not self._agrees(model, instance):
            if not found_again:
                return "match elsewhere"  # neither seen nor gone: one of mask, pose and association is wrong
            model = model.moved_away()
            events.append(
                f"object {model.id} was found again in another place: its surface starts over there"
            )
        self._put(self._measured(model, instance, frame))
        return "integrated"

    def _agrees(self, model: ObjectModel, instance: SeenInstance) -> bool:
        """Enough of the points lie where the object is, or enough of the object lies where the points are: it was known in part only."""
        wanted = self.config.model.min_agreement
        if float(model.own(instance.points, self.config.model).mean()) >= wanted:
            return True
        return (
            share_near(
                model.points(self.config.model), instance.points, _APART * model.grid.point_radius_m
            )
            >= wanted
        )

    def _new(
        self,
        a: Association,
        instance: SeenInstance | None,
        frame: AssociatedFrame,
        matched: set[int],
        events: list[str],
    ) -> str:
        if instance is None or not instance.confirmed or not self._measures(instance, frame):
            return "NEW not confirmed or without points"
        became = self.objects.get(self.resolve(self._became.get(a.track_id, 0)))
        if became is not None:
            # A track is one thing all its life. Where it isn't on its object any more it has slipped off: that makes no new object.
            if became.id in matched or not self._agrees(became, instance):
                return "NEW of a track that is not on its object"
            self._put(
                self._measured(
                    became.seen(frame.stamp_ns, self.config.model), instance, frame
                ).named(instance.class_id)
            )
            return "integrated"
        instance = replace(
            instance, points=largest_piece(instance.points, self.config.rules.piece_gap_m)
        )
        candidate = self._candidates.get(a.track_id)
        if candidate is None or not self._agrees(
            candidate.model, instance
        ):  # what wanders is not an object yet
            candidate = Candidate(new_model(instance.points, frame.stamp_ns, self.config.model))
            self._candidates[a.track_id] = candidate
        model = candidate.model.seen(frame.stamp_ns, self.config.model).named(instance.class_id)
        candidate.model = self._measured(model, instance, frame)
        candidate.beside.update(matched)
        if not candidate.is_ready(self.config.model, self.config.rules):
            return "NEW waiting to be seen more often"
        del self._candidates[a.track_id]
        twin = self._twin(candidate)
        if twin:
            self._put(self.objects[twin].joined(candidate.model, self.config.model))
            events.append(f"track {a.track_id} is object {twin}: they share their surface")
        else:
            twin = self._take_id()
            self._put(replace(candidate.model, id=twin))
            events.append(
                f"object {twin} begins from track {a.track_id}, with {len(candidate.model.grid)} points"
            )
        self._became[a.track_id] = twin
        return "NEW became an object"

    def _twin(self, candidate: Candidate) -> int:
        """The known object that a candidate is: the one that it shares most of its surface with, where that is enough; 0 = none."""
        rules, best = self.config.rules, (0.0, 0)
        for other in self.objects.values():
            alike = likeness(candidate.model, other, self.config.model, rules)
            if alike.same_as_new(
                2 * candidate.beside[other.id] > candidate.model.observations, rules
            ):
                best = max(best, (alike.shared, other.id))
        return best[1]

    def _absent(self, object_id: int, stamp_ns: int, events: list[str]) -> str:
        model = self.objects.get(object_id)
        if model is None:
            return "ABSENT of an object that is gone"
        model = model.missed(stamp_ns, self.config.model)
        rules = self.config.rules
        assert model.absent_ns is not None
        if (
            model.existence < rules.delete_below
            and stamp_ns - model.absent_ns >= rules.absent_s * 1e9
        ):
            self._delete(object_id)
            events.append(
                f"object {object_id} is deleted: it was absent for {(stamp_ns - model.absent_ns) / 1e9:.1f} s"
            )
            return "ABSENT deleted an object"
        self._put(model)
        return "ABSENT counted"

    def _merge(
        self, frame: AssociatedFrame, matched: set[int], events: list[str], counts: Counter[str]
    ) -> None:
        self._merges = Counter({p: n for p, n in self._merges.items() if not matched.issuperset(p)})
        pairs: set[Pair] = set()
        for a in frame.associations:
            if a.status == AssociationStatus.MERGE:
                ids = {
                    self.resolve(i) for i in (a.map_object_id, *a.related_ids)
                } & self.objects.keys()
                pairs |= {pair(min(ids), other) for other in ids if other != min(ids)}
                counts["MERGE counted"] += 1
        self._merges.update(pairs)
        for into, gone in sorted(pairs):
            if self._merges[into, gone] >= self.config.rules.merge_frames and gone in self.objects:
                # In this very frame, into may have become part of another one.
                self._join(self.resolve(into), gone)
                events.append(f"object {gone} became part of object {self.resolve(into)}")

    def _split(
        self,
        frame: AssociatedFrame,
        matched: set[int],
        seen: Mapping[int, SeenInstance],
        events: list[str],
        counts: Counter[str],
    ) -> None:
        covering: dict[int, set[int]] = {}
        for a in frame.associations:
            if a.status == AssociationStatus.SPLIT:
                covering.setdefault(self.resolve(a.map_object_id), set()).update(
                    {a.track_id, *a.related_ids} - {0}
                )
                counts["SPLIT counted"] += 1
        self._splits = {
            i: s for i, s in self._splits.items() if i not in matched and i in self.objects
        }
        for object_id, tracks in covering.items():
            if object_id in matched or object_id not in self.objects:
                continue
            self._put(self.objects[object_id].seen(frame.stamp_ns, self.config.model))
            split = self._splits.setdefault(object_id, Split())
            split.frames += 1
            for t in tracks:
                instance = seen.get(t)
                if instance is not None and self._measures(instance, frame):
                    part = split.parts.get(t)
                    if part is None or not self._agrees(part, instance):
                        part = new_model(instance.points, frame.stamp_ns, self.config.model)
                    part = part.seen(frame.stamp_ns, self.config.model).named(instance.class_id)
                    split.parts[t] = self._measured(part, instance, frame)
            if split.frames >= self.config.rules.split_frames:
                self._separate(object_id, self._splits.pop(object_id), events)

    def _separate(self, object_id: int, split: Split, events: list[str]) -> None:
        pieces = split.pieces(self.objects[object_id], self.config.model, self.config.rules)
        if not pieces:
            events.append(
                f"object {object_id} stays one: the tracks that cover it measured the same surface"
            )
            return
        (_, kept), *others = pieces
        self._put(kept)
        for track_id, piece in others:
            new = self._take_id()
            self._put(replace(piece, id=new))
            self._became[track_id] = new
            events.append(f"object {new} was separated from object {object_id}")

    # -- changes of the map ----------------------------------------------------------------------------------------------------

    def _put(self, model: ObjectModel) -> None:
        self.objects[model.id] = model
        self._touched.add(model.id)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _join(self, into: int, gone: int) -> None:
        self._put(self.objects[into].joined(self.objects[gone], self.config.model))
        self._remove(gone)
        self._merged[gone] = into
        self._news.append((gone, into))

    def tidy(self) -> tuple[str, ...]:
        """Deletes objects whose surface has been measured as something else, and joins those that have grown to be one and the same; what
        was done, for people. Looks at what changed since the last update: call it before ``update``, not with every frame."""
        events = []
        for i in sorted(self._touched):
            left = len(self.objects[i].points(self.config.model))
            if left < self.config.rules.new_points and left < self.objects[i].grid.refuted():
                self._delete(i)
                events.append(f"object {i} is deleted: its surface was measured as something else")
        for i in sorted(
            i
            for i in self._touched
            if len(self.objects[i].grid) and self._has_changed(self.objects[i])
        ):
            for other in self._near(i) if i in self.objects else ():
                if not {i, other} <= self.objects.keys():  # joined just now
                    continue
                into, gone = pair(i, other)
                both = self._beside[into, gone]
                beside = 2 * both > min(
                    self.objects[into].observations, self.objects[gone].observations
                )
                if likeness(
                    self.objects[i], self.objects[other], self.config.model, self.config.rules
                ).same_as_known(beside, self.config.rules):
                    self._join(into, gone)
                    events.append(
                        f"object {gone} became part of object {into}: they have grown to share surface and box"
                    )
        return tuple(events)

    def _near(self, object_id: int) -> list[int]:
        """Objects whose box, as last published, may touch that of this one."""
        box = self.objects[object_id].extent(self.config.model)
        others = (
            (i, p.extent)
            for i, p in self._published.items()
            if i != object_id and p.extent is not None
        )
        return sorted(
            i
            for i, b in others
            if (b[0] <= box[1] + _MARGIN_M).all() and (b[1] >= box[0] - _MARGIN_M).all()
        )

    def _delete(self, object_id: int) -> None:
        self._remove(object_id)
        self._deleted.append(object_id)

    def _remove(self, object_id: int) -> None:
        del self.objects[object_id]
        self._touched.discard(object_id)
        self._published.pop(object_id, None)
        self._splits.pop(object_id, None)
        self._merges = Counter({p: n for p, n in self._merges.items() if object_id not in p})
        self._beside = Counter({p: n for p, n in self._beside.items() if object_id not in p})

    # -- updates out -----------------------------------------------------------------------------------------------------------

    def update(self, *, full: bool = False) -> MapUpdate | None:
        """What changed since the last update, as the next revision: None where nothing that matters did. The first one is a snapshot, so
        is each after ``node.snapshot_every`` deltas, and what is asked for by ``full``."""
        changed = [i for i in sorted(self._touched) if self._has_changed(self.objects[i])]
        if not (full or self._whole or changed or self._deleted or self._news):
            return None
        full = full or self._whole or self._since_snapshot >= self.config.node.snapshot_every
        self.revision += 1
        objects = [self.objects[i] for i in (sorted(self.objects) if full else changed)]
        update = MapUpdate(
            self.stamp_ns,
            self.session_id,
            self.revision,
            full,
            tuple(o.map_object(self.revision, self.config.model) for o in objects),
            # A snapshot tells every merge: whoever missed the delta would take the former id for deleted.
            deleted_ids=() if full else tuple(self._deleted),
            merged=tuple(self._merged.items() if full else self._news),
            frame_id=self.frame_id,
        )
        self._note_published(objects)
        self._touched.clear()
        self._deleted, self._news, self._whole = [], [], False
        self._since_snapshot = 0 if full else self._since_snapshot + 1
        return update

    def _note_published(self, objects: Iterable[ObjectModel]) -> None:
        for o in objects:
            points = o.points(self.config.model)
            box = o.extent(self.config.model) if len(points) else None
            self._published[o.id] = _Published(
                len(points), box, o.class_id, o.observations, self.stamp_ns
            )

    def _has_changed(self, o: ObjectModel) -> bool:
        before, rules = self._published.get(o.id), self.config.rules
        points = o.points(self.config.model)
        if (
            before is None
            or before.class_id != o.class_id
            or (before.extent is None) != (len(points) == 0)
        ):
            return True
        if abs(len(points) - before.points) > rules.changed_share * before.points:
            return True
        if (
            before.extent is not None
            and float(np.abs(o.extent(self.config.model) - before.extent).max()) > o.grid.size_m / 2
        ):
            return True
        return (
            o.observations > before.observations
            and not 0 <= self.stamp_ns - before.stamp_ns < rules.refresh_s * 1e9
        )

    def saved(self) -> SavedMap:
        """All of it, for a file. Evidence that has not changed the map yet is not kept."""
        return SavedMap(
            self.session_id,
            self.revision,
            self.stamp_ns,
            self.frame_id,
            self._next_id,
            dict(self._merged),
            tuple(self.objects[i] for i in sorted(self.objects)),
        )
