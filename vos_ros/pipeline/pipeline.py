"""The algorithm of a frame: where the map meets the image."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64

from vos_ros.association.absence import AbsenceDetector
from vos_ros.association.assignment import HungarianAssociator
from vos_ros.association.interface import Associator, Match, PairEvidence
from vos_ros.association.merge_split import MergeSplitDetector
from vos_ros.association.status import MapConflicts, assign_status
from vos_ros.config import Config
from vos_ros.discovery.proposals import ProposerInput, SeedProposer, proposer_of
from vos_ros.discovery.shape_completion import CompletedRegion, ShapeCompletion
from vos_ros.mapping.lift import lift_labels
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.mapping.register import register
from vos_ros.mapping.seeds import seed_of
from vos_ros.pipeline.evidence_collector import EvidenceCollector
from vos_ros.pipeline.input_checks import pose_jump_warning, sanitize_frame
from vos_ros.pipeline.map_view import (
    InstanceMasks,
    MapView,
    StageTimer,
    from_segmentation,
    predict_view,
    render_view,
    track_summary,
)
from vos_ros.segmentation.fusion import Prior, fuse, limit_runaway_masks, projection_is_reliable
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.prompts import check_prompt
from vos_ros.segmentation.registry import create
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import (
    Frame,
    FrameResult,
    MapObject,
    MapUpdate,
    Mask,
    Observation,
    Projection,
    Prompt,
    Seed,
    Segmentation,
    TrackSource,
)

_FREE = 0.5  # share of a silhouette seen through, from which nothing but the object's absence explains that it isn't found
_CELL = 8  # px, side of the cells in which projections and segmenter are laid over one another
_STEP = 0.125  # error of one registration, as a share of the segmenter's error of one outline: many outlines take part
_CLEAR = 0.75  # probability from which a pixel's owner is clear enough to learn from


class Pipeline:
    """One stream: frames and map updates in, results out. Not thread-safe.

    ``segmenter``, ``associator`` and ``proposer`` replace the configured ones, for the null and ground-truth twins.
    """

    def __init__(
        self,
        config: Config,
        *,
        session_id: str = "",
        segmenter: VideoSegmenter | None = None,
        associator: Associator | None = None,
        proposer: SeedProposer | None = None,
    ) -> None:
        self.config = config
        self.object_map = ObjectMap()
        self._given_segmenter = segmenter
        self._given_proposer = proposer
        self._shape: tuple[int, int] | None = None
        self._associate: Associator = associator or HungarianAssociator(config.association)
        self._beside = ThreadPoolExecutor(1, "vos_ros-survey")
        self._start_session(session_id)

    def step(self, frame: Frame, tell: Callable[[FrameResult], None] | None = None) -> FrameResult:
        """Everything that one frame tells. ``tell`` gets it as soon as it stands, with the times so far; what the frame teaches for those
        that follow is learned after that."""
        watch = StageTimer()
        frame, warnings = self._check(frame)
        surveyed = self._beside.submit(
            predict_view, list(self.object_map), self._whole(), frame, self.config
        )
        watch.lap("intake")
        segmentation = self._segmenter.step(frame)
        watch.lap("segmentation")
        scene = self._register(frame, surveyed.result(), segmentation, watch)
        segmentation = self._seed(frame, scene, segmentation, warnings, watch)
        watch.lap("segmentation")
        segmentation = self._fuse(frame, scene, segmentation)
        segmentation, found = from_segmentation(segmentation)
        watch.lap("fusion")
        matches, pairs = self._associate(
            self._witness.view(frame, scene, found, self._tracks, self._whole(), self._segmenter)
        )
        self._advance(frame, scene, found, matches)
        doubts = self._doubt(frame, scene, matches, pairs)
        watch.lap("association")
        observations = self._lift(frame, scene, found)
        watch.lap("lift")
        result = self._result(
            frame, scene, segmentation, found, observations, matches, doubts, warnings, watch
        )
        if tell is not None:
            tell(result)
            watch.lap("telling")
        self._learn(frame, scene, segmentation, found, matches, watch)
        return replace(result, timings_ms=watch.done())

    # -- what the outside says ---------------------------------------------------------------------------------------------------

    def update_map(self, update: MapUpdate) -> str:
        """Applies a snapshot or a delta; "" or the reason why it was not applied."""
        before = self.object_map.session_id
        objects = {o.id: o for o in self.object_map}
        reason = self.object_map.apply(update).reason
        if reason:
            return reason
        self._absence.forget(
            [
                i
                for i, old in objects.items()
                if (o := self.object_map.get(i)) is None
                or np.linalg.norm((o.T_map_object - old.T_map_object)[:3, 3])
                > self.config.mapping.depth_tolerance_m
            ]
        )
        self._growth.prune_known(
            objects if before == self.object_map.session_id else {},
            {o.id: o for o in self.object_map},
        )
        if (
            before != self.object_map.session_id
        ):  # the mapper started over: its ids mean other objects now
            self._end([r.track_id for r in self._tracks if r.map_object_id])
            self._witness.forget_objects()
        survivors: dict[int, int] = {}
        gone = []
        for record in self._tracks:
            if not record.map_object_id:
                continue
            record.map_object_id = self.object_map.resolve(record.map_object_id)
            if record.map_object_id not in self.object_map or record.map_object_id in survivors:
                gone.append(
                    record.track_id
                )  # its object was deleted, or became one with that of an older track
            else:
                survivors[record.map_object_id] = record.track_id
        self._end(gone)
        return ""

    def add_objects(
        self, prompts: Sequence[tuple[Prompt, int]], frame: Frame | None = None
    ) -> tuple[int, ...]:
        """Starts tracks from prompts with class ids, on ``frame`` where given, else on the next one. ValueError: a bad prompt; then
        nothing is added."""
        size = frame.shape if frame is not None else self._shape
        for prompt, _ in prompts:
            check_prompt(prompt, size)
        ids = tuple(self._tracks.reserve() for _ in prompts)
        asked = [(i, prompt, class_id) for i, (prompt, class_id) in zip(ids, prompts, strict=True)]
        if frame is None:
            self._asked.extend(asked)
        else:
            self._segmenter.seed(frame, [Seed(i, prompt) for i, prompt, _ in asked])
            self._shape = frame.shape
            for i, _, class_id in asked:
                self._tracks.start(
                    i, frame.stamp_ns, map_object_id=0, class_id=class_id, source=TrackSource.PROMPT
                )
        return ids

    def remove(self, track_ids: Sequence[int]) -> None:
        """Ends tracks. KeyError: unknown ids; then nothing is removed."""
        waiting = {i for i, _, _ in self._asked}
        unknown = sorted(t for t in set(track_ids) if t not in self._tracks and t not in waiting)
        if unknown:
            raise KeyError(
                f"tracks {unknown} are unknown; live are {sorted({r.track_id for r in self._tracks} | waiting)}"
            )
        self._asked[:] = [a for a in self._asked if a[0] not in track_ids]
        self._end([t for t in dict.fromkeys(track_ids) if t in self._tracks])

    def reset(self) -> None:
        """Forgets tracks and map; a new session begins."""
        self.object_map = ObjectMap()
        self._start_session("")

    def _start_session(self, session_id: str) -> None:
        self.session_id = session_id or uuid.uuid4().hex[:12]
        self._tracks = TrackManager(self.config.tracking)
        self._witness, self._growth = EvidenceCollector(self.config), ShapeCompletion()
        self._absence, self._identity = (
            AbsenceDetector(self.config.association),
            MergeSplitDetector(self.config.association),
        )
        self._proposer = self._given_proposer or proposer_of(self.config.proposals)
        self._asked: list[tuple[int, Prompt, int]] = []
        self._last: Frame | None = None
        self._start_segmenter()

    def _start_segmenter(self) -> None:
        self._segmenter = self._given_segmenter or create(self.config.segmentation)
        if self._given_segmenter is not None and self._given_segmenter.object_ids:
            self._given_segmenter.drop(self._given_segmenter.object_ids)
        self._shape = None
        self._boxes: dict[int, tuple[int, int, int, int]] = {}
        self._since_taught = 0
        self._poses = 0  # how many independent poses the segmenter's places rest on

    def _end(self, track_ids: Sequence[int]) -> None:
        self._segmenter.drop([t for t in track_ids if t in self._segmenter.object_ids])
        self._tracks.remove(track_ids)

    # -- the stages of a frame ---------------------------------------------------------------------------------------------------

    def _check(self, frame: Frame) -> tuple[Frame, list[str]]:
        """The frame without what can't be used, and what was wrong with it; a break in the stream starts over what it breaks."""
        warnings = []
        h, w = frame.shape
        if self._last is not None and frame.stamp_ns < self._last.stamp_ns:
            warnings.append(
                f"time went backwards by {(self._last.stamp_ns - frame.stamp_ns) / 1e9:.3f} s (a bag that loops?): all tracks "
                "start over in a new session"
            )
            self._start_session("")
        if self._shape is not None and self._shape != frame.shape:
            warnings.append(
                f"image size changed from {self._shape[1]}x{self._shape[0]} to {w}x{h}: masks start over from the map, track"
                " ids stay"
            )
            self._start_segmenter()
            self._tracks.remove([r.track_id for r in self._tracks if not r.map_object_id])
        frame, wrong = sanitize_frame(frame)
        warnings.extend(wrong)
        if self._last is not None and (jump := pose_jump_warning(self._last, frame)):
            self._boxes = {}  # where things were then says nothing of where they are now
            warnings.append(jump)
        self._last, self._shape = frame, frame.shape
        self._end(self._tracks.given_up(frame.stamp_ns, self.config.proposals.give_up_s))
        return frame, warnings

    def _register(
        self,
        frame: Frame,
        surveyed: tuple[MapView, dict[str, float]],
        segmentation: Segmentation,
        watch: StageTimer,
    ) -> MapView:
        """The map as seen; where depth did not settle the pose, from the pose that the followed objects speak for."""
        scene, times_ms = surveyed
        watch.lap("wait")  # for what ran beside the segmenter
        watch.book({name: ms for name, ms in times_ms.items() if name != "total"})
        correction = self.config.pose.correction
        if correction == "image" or (correction == "auto" and not scene.aligned):
            registered = self._registered_pose(frame, scene, segmentation)
            watch.lap("pose")
            if registered is not None:
                seen = render_view(self._whole(), frame, *registered, self.config.mapping)
                scene = replace(
                    seen, measured=scene.measured, liftable=scene.liftable, lattice=scene.lattice
                )
                watch.lap("render")
        return scene

    def _registered_pose(
        self, frame: Frame, scene: MapView, segmentation: Segmentation
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"]] | None:
        """The pose that the followed objects speak for; None where it is sure already, or nobody is followed who could speak."""
        if (
            not self._segmenter.uses_image
            or max(scene.sigma_px.values(), default=0.0)
            <= self.config.pose.image_correction_min_sigma_px
        ):
            return None
        rows = {
            self._tracks[t].map_object_id: row
            for row, t in enumerate(segmentation.object_ids, start=1)
        }
        rows = {i: row for i, row in rows.items() if i in scene.projections}
        surely = {
            i: row
            for i, row in rows.items()
            if projection_is_reliable(scene.projections[i], scene.sigma_px[i])
        }
        # where most objects were seeded beside themselves, the few large ones alone drag the view along with their own errors
        if (
            not surely
            or 2 * len(surely) < len(rows)
            or scene.T_map_camera is None
            or scene.pose_cov is None
        ):
            return None
        # A chain of registrations, each off by e px, drifts: averaging over more than sigma / e poses makes places worse (the steady state
        # of a Kalman filter that measures a random walk of step e with noise sigma).
        useful = float(np.median(list(scene.sigma_px.values()))) / (
            _STEP * max(segmentation.boundary_px, 1.0)
        )
        self._poses = min(self._poses + 1, max(1, round(useful)))
        planes = segmentation.probs[list(surely.values())][None]
        probs = torch.nn.functional.avg_pool2d(
            planes, _CELL, ceil_mode=True, count_include_pad=False
        )[0]
        odds = torch.logit(probs.clamp(1 - _CLEAR, _CLEAR).float()).cpu().numpy()
        return register(
            list(self.object_map),
            scene.projections,
            dict(zip(surely, odds, strict=True)),
            _CELL,
            scene.T_map_camera,
            scene.pose_cov,
            frame.intrinsics,
            self._poses,
        )

    def _seed(
        self,
        frame: Frame,
        scene: MapView,
        segmentation: Segmentation,
        warnings: list[str],
        watch: StageTimer,
    ) -> Segmentation:
        """Starts what the map shows and nobody follows, the largest first, and what people asked for."""
        followed = set(self._segmenter.object_ids)
        track_of = self._tracks.followed_objects()
        wanted = sorted(
            (
                p
                for p in scene.projections.values()
                if self._should_see(p) and track_of.get(p.object_id) not in followed
            ),
            key=lambda p: -p.area_px,
        )
        wanted = self._without_claimed(wanted, segmentation) if wanted else []
        room = self.config.tracking.max_objects - len(followed)
        room += self._retire(scene, len(wanted) - room)
        seeds = []
        for p in wanted[: max(0, room)]:
            track_id = track_of.get(p.object_id) or self._tracks.reserve()
            if track_id not in self._tracks:
                self._tracks.start(
                    track_id,
                    frame.stamp_ns,
                    map_object_id=p.object_id,
                    class_id=self.object_map[p.object_id].class_id,
                    source=TrackSource.MAP,
                )
            seeds.append(seed_of(track_id, p, scene.sigma_px[p.object_id]))
        for track_id, prompt, class_id in self._asked:
            try:
                check_prompt(prompt, frame.shape)
            except (
                ValueError
            ) as e:  # asked for before the image's size was known, or the size has changed since
                warnings.append(f"track {track_id} is not started: {e}")
                continue
            self._tracks.start(
                track_id,
                frame.stamp_ns,
                map_object_id=0,
                class_id=class_id,
                source=TrackSource.PROMPT,
            )
            seeds.append(Seed(track_id, prompt))
        self._asked = []
        watch.lap("seeds")
        return self._segmenter.seed(frame, seeds) if seeds else segmentation

    def _without_claimed(
        self, wanted: list[Projection], segmentation: Segmentation
    ) -> list[Projection]:
        """Without those that are just what a track of no object (from a prompt) covers: it will be known as the object, and a second track
        would take its pixels."""
        free = [
            row
            for row, t in enumerate(segmentation.object_ids, start=1)
            if not self._tracks[t].map_object_id
        ]
        if not free:
            return wanted
        owner = segmentation.probs.max(0).indices.cpu().numpy()
        masks = [owner == row for row in free]
        return [
            p
            for p in wanted
            if all(np.count_nonzero(m & p.mask) < 0.5 * np.count_nonzero(m | p.mask) for m in masks)
        ]

    def _retire(self, scene: MapView, count: int) -> int:
        """Makes room for up to ``count`` objects: those of the map that have left the view, the longest gone first, are no longer
        segmented. Their tracks stay, and go on where they come back. Returns how many there were."""
        gone = [
            r
            for r in self._tracks
            if r.misses
            and r.map_object_id
            and r.map_object_id not in scene.projections
            and r.track_id in self._segmenter.object_ids
        ]
        leaving = [r.track_id for r in sorted(gone, key=lambda r: -r.misses)[: max(0, count)]]
        self._segmenter.drop(leaving)
        return len(leaving)

    def _whole(self) -> list[MapObject]:
        """The map's objects with those parts that it does not have yet."""
        return list(self._growth.objects(self.object_map))

    def _missing(self) -> frozenset[int]:
        """Objects that were last seen to be absent from where the map has them still."""
        return self._absence.absent(self._last.stamp_ns) if self._last is not None else frozenset()

    def _should_see(self, p: Projection) -> bool:
        """The projection promises enough pixels of the object, and enough of the part that is inside the image."""
        if p.object_id in self._missing():
            return False
        inside = max(1.0 - p.truncated, 1e-6)
        return (
            p.area_px >= self.config.tracking.seed_min_px
            and p.visible / inside >= self.config.tracking.seed_min_visible
        )

    def _is_expected(self, p: Projection) -> bool:
        """The object should be found in this frame: its pixels are promised, or free space was measured where they should be."""
        free_px = p.free * np.count_nonzero(p.silhouette_roi)
        return self._should_see(p) or bool(
            free_px >= self.config.tracking.seed_min_px and p.free >= _FREE
        )

    def _fuse(self, frame: Frame, scene: MapView, segmentation: Segmentation) -> Segmentation:
        """Image and map together. The null method has no image evidence: with it the projection stands alone."""
        if self._segmenter.uses_image:
            sigma_px = max(scene.sigma_px.values(), default=0.0)
            free = {
                t: box
                for t, box in self._boxes.items()
                if t in self._tracks and not self._tracks[t].map_object_id
            }
            return fuse(
                segmentation,
                {**self._priors(scene), **limit_runaway_masks(segmentation, free)},
                self._boxes,
                sigma_px,
            )
        if scene.T_map_camera is None:
            return segmentation
        nothing = np.zeros(frame.shape, bool)
        masks = {
            r.track_id: scene.projections[r.map_object_id].mask
            if r.map_object_id in scene.projections
            else nothing
            for r in self._tracks
            if r.map_object_id and r.track_id in segmentation.object_ids
        }
        return self._segmenter.update(frame, [Seed(t, Mask(m)) for t, m in masks.items()])

    def _priors(self, scene: MapView) -> dict[int, Prior | None]:
        """What the map says of each followed track's pixels; nothing where there is no pose or the track has no object."""
        if scene.T_map_camera is None:
            return {}
        # what is left of the projection of an object that isn't there belongs to whatever stands behind it
        missing = self._missing()
        return {
            r.track_id: None if r.map_object_id in missing else scene.priors.get(r.map_object_id)
            for r in self._tracks
            if r.map_object_id
        }

    def _learn(
        self,
        frame: Frame,
        scene: MapView,
        segmentation: Segmentation,
        found: InstanceMasks,
        matches: Sequence[Match],
        watch: StageTimer,
    ) -> None:
        """What the frame teaches for those that follow."""
        self._witness.learn(matches, self._tracks, scene)
        watch.lap("association")
        self._teach(frame, scene, segmentation, found)
        watch.lap("segmentation")
        self._propose(frame, scene, found, watch)
        self._segmenter.learn_pending()
        watch.lap("segmentation")

    def _teach(
        self, frame: Frame, scene: MapView, segmentation: Segmentation, found: InstanceMasks
    ) -> None:
        """Corrects the segmenter with the fused masks, so that it learns from them and not from its own guess. An empty mask tells it
        that the object isn't in view."""
        self._since_taught += 1
        if (
            scene.T_map_camera is None
            or not segmentation.object_ids
            or not self._segmenter.uses_image
        ):
            return
        if self._since_taught < self.config.tracking.segmenter_update_interval:
            return
        self._since_taught = 0
        weight = (found.prob > _CLEAR).astype(np.float32)
        self._segmenter.update(
            frame,
            [
                Seed(t, Mask(found.owner == row), weight)
                for row, t in enumerate(segmentation.object_ids, start=1)
                if self._tracks[t].map_object_id
            ],
        )

    def _lift(self, frame: Frame, scene: MapView, found: InstanceMasks) -> tuple[Observation, ...]:
        """Each track's pixels in the map frame."""
        if frame.depth is None or scene.T_map_camera is None:
            return ()
        lifted = lift_labels(
            found.owner,
            found.boxes,
            frame.depth,
            scene.T_map_camera,
            frame.intrinsics,
            self.config.mapping,
            liftable=scene.liftable,
        )
        return tuple(
            Observation.of(found.track_ids[row - 1], points, float(found.scores[row]))
            for row, points in lifted.items()
            if len(points) >= 3
        )

    def _advance(
        self, frame: Frame, scene: MapView, found: InstanceMasks, matches: Sequence[Match]
    ) -> None:
        """One frame of every track's life."""
        area = dict(zip(found.track_ids, found.areas[1:], strict=True))
        for m in matches:
            record = self._tracks[m.track_id]
            agreed = (
                m.evidence.map_object_id
                if m.evidence and m.evidence.score >= self.config.association.match_score
                else 0
            )
            p = scene.projections.get(record.map_object_id)
            expected = (
                self._is_expected(p)
                if p is not None
                else not record.map_object_id or scene.T_map_camera is None
            )
            self._tracks.advance(
                m.track_id,
                frame.stamp_ns,
                area_px=int(area[m.track_id]),
                agreed_object=agreed,
                expected=expected,
            )
        self._boxes = {found.track_ids[row - 1]: box for row, box in found.boxes.items()}

    def _doubt(
        self, frame: Frame, scene: MapView, matches: Sequence[Match], pairs: PairEvidence
    ) -> MapConflicts:
        """What depth and masks say against the map: places seen to be empty, objects counted twice, objects counted as one."""
        found = {
            m.evidence.map_object_id
            for m in matches
            if m.evidence is not None
            and not self._tracks[m.track_id].misses
            and m.evidence.score >= self.config.association.match_score
        }
        self._absence.observe(
            scene.projections.values(),
            scene.predicted_pixels,
            scene.sigma_px,
            frame.stamp_ns,
            found,
        )
        bound = {r.track_id: r.map_object_id for r in self._tracks}
        return MapConflicts(
            self._absence.absent(frame.stamp_ns),
            *self._identity.observe(pairs, bound, frame.stamp_ns),
        )

    def _propose(
        self, frame: Frame, scene: MapView, found: InstanceMasks, watch: StageTimer
    ) -> None:
        """Starts what stands in view and nobody knows; it is in the results from the next frame on. A proposed track that has lost its
        object before the map has it is no longer segmented, lest it take what looks alike: it goes on where something stands at its place
        again. The null method could not follow any of it."""
        if not self._segmenter.uses_image:
            return
        sight = ProposerInput(
            frame,
            scene.T_map_camera,
            found.owner,
            found.track_ids,
            {r.track_id: r.map_object_id for r in self._tracks},
            scene.projections.values(),
            scene.sigma_px,
        )
        lost = self._tracks.lost_proposals()
        room = self.config.tracking.max_objects - len(set(self._segmenter.object_ids) - set(lost))
        proposals = self._proposer(sight, self._tracks.reserve, room)
        watch.lap("proposals")
        self._tracks.lose(proposals.drifted_tracks, frame.stamp_ns)
        self._segmenter.drop(
            [t for t in self._segmenter.object_ids if t in {*lost, *proposals.drifted_tracks}]
        )
        grown = self._grow(frame, scene, found, proposals.parts)
        watch.lap("proposals")
        followed = set(self._segmenter.object_ids)
        if again := [s for s in (*grown, *proposals.seeds) if s.object_id in followed]:
            self._segmenter.update(frame, again)
        if new := [s for s in proposals.seeds if s.object_id not in followed]:
            self._segmenter.seed(frame, new)
        for s in new:
            if s.object_id not in self._tracks:
                self._tracks.start(
                    s.object_id,
                    frame.stamp_ns,
                    map_object_id=0,
                    class_id=0,
                    source=TrackSource.PROPOSAL,
                )

    def _grow(
        self, frame: Frame, scene: MapView, found: InstanceMasks, parts: Sequence[CompletedRegion]
    ) -> list[Seed]:
        """Adds parts to what is known of their objects, and says what the tracks look like with them."""
        if frame.depth is None or scene.T_map_camera is None:
            return []
        self._growth.check(frame, scene.T_map_camera, self.config.mapping)
        self._growth.add(
            parts, frame, scene.T_map_camera, self.config.mapping, liftable=scene.liftable
        )
        tracks = [(self._tracks.followed_objects().get(p.object_id), p) for p in parts]
        return [
            Seed(t, Mask(p.mask | (found.owner == found.track_ids.index(t) + 1)), p.weight)
            for t, p in tracks
            if t is not None and t in found.track_ids
        ]

    def _result(
        self,
        frame: Frame,
        scene: MapView,
        segmentation: Segmentation,
        found: InstanceMasks,
        observations: tuple[Observation, ...],
        matches: Sequence[Match],
        doubts: MapConflicts,
        warnings: list[str],
        watch: StageTimer,
    ) -> FrameResult:
        tracks = tuple(
            track_summary(self._tracks[t], row, found, scene)
            for row, t in enumerate(found.track_ids, start=1)
        )
        return FrameResult(
            stamp_ns=frame.stamp_ns,
            segmentation=segmentation,
            tracks=tracks,
            projections=tuple(scene.projections.values()),
            observations=observations,
            # without a pose nothing can be said of where an object should be
            associations=assign_status(
                self._tracks,
                self.object_map if scene.T_map_camera is not None else (),
                scene.projections,
                matches,
                self.config,
                doubts,
            ),
            map_session_id=self.object_map.session_id,
            map_revision=self.object_map.revision,
            map_stamp_ns=self.object_map.stamp_ns,
            map_frame=self.object_map.frame_id,
            T_map_camera=scene.T_map_camera,
            pose_cov=scene.pose_cov,
            warnings=tuple(warnings),
            timings_ms=watch.done(),
        )
