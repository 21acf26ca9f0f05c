"""Process a frame from image, depth, pose and map to masks and associations."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Unpack

from vos_ros.config import Config
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.pipeline.lifting import lift_instances
from vos_ros.pipeline.map_view import predict_view
from vos_ros.pipeline.plan import Prompts, Restart, SegmenterPlan
from vos_ros.pipeline.result import OnResult, frame_result
from vos_ros.pipeline.stages import Replacements, Stages
from vos_ros.pipeline.timing import StageTimer
from vos_ros.pipeline.track_update import advance_tracks
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, FrameResult, MapUpdate, Segmentation


class Pipeline:
    """Process one stream: frames and map updates in, results out. Not thread-safe."""

    def __init__(
        self, config: Config, *, session_id: str = "", **replacements: Unpack[Replacements]
    ) -> None:
        """Begin a session; ``replacements`` take the place of the configured stages."""
        self.config = config
        self.map = ObjectMap()
        self.tracks = TrackManager(config.tracking)
        self.stages = Stages.from_config(config, **replacements)
        self.background = ThreadPoolExecutor(1, "vos_ros-map-view")
        self.session_id = session_id or uuid.uuid4().hex[:12]

    def step(self, frame: Frame, on_result: OnResult | None = None) -> FrameResult:
        """Process the next frame; ``on_result`` gets the result as soon as it exists.

        The returned one differs only by its times, which include what is learned for later frames.
        """
        timer = StageTimer()
        # Check the input. A break of the stream starts over what it breaks.
        with timer("check"):
            frame, checks = self.stages.input_checker.check(frame, self.tracks)
            self._apply(checks, frame)
        stages, tracks, config, stamp_ns = self.stages, self.tracks, self.config, frame.stamp_ns
        # Predict the view from map, pose and depth, while the segmenter follows its objects.
        objects, completed = tuple(self.map), stages.discovery.completed_objects(self.map)
        absent = stages.map_checker.absent(stamp_ns)
        prediction = self.background.submit(predict_view, objects, completed, absent, frame, config)
        with timer("segmentation"):
            segmentation = stages.segmenter.step(frame)
        with timer("wait"):
            view, times_ms = prediction.result()
        timer.add(times_ms)
        # Refine the pose by the followed objects; see whether map, pose and depth belong together.
        with timer("pose"):
            view = stages.pose_refiner.refine(frame, view, segmentation, tracks, objects, completed)
            view = stages.self_check.check(frame, view, self.map, jumped=checks.jumped)
        # Seed objects that are predicted visible and not yet followed, and prompts.
        with timer("seeds"):
            seeds = stages.seeder.plan(view, segmentation, tracks, self.map)
        with timer("segmentation"):
            segmentation = self._apply(seeds, frame) or segmentation
        # Fuse image and map: which track owns each pixel.
        with timer("fusion"):
            masks = stages.mask_fusion.fuse(view, segmentation, tracks)
        # Associate tracks with map objects, advance the tracks, and check the map.
        with timer("association"):
            features, collector = stages.segmenter.features(frame), stages.evidence_collector
            evidence = collector.collect(frame, view, masks, tracks, completed, features)
            matches, pairs = stages.associator(evidence)
            advance_tracks(tracks, stamp_ns, view, masks, matches, config)
            conflicts = stages.map_checker.check(stamp_ns, view, matches, pairs, tracks)
        # Lift the tracks' pixels to the map frame.
        with timer("lift"):
            lifted = lift_instances(frame, view, masks, config.mapping)
        # Build the result and hand it out before anything is learned.
        result = frame_result(
            frame, view, segmentation, masks, lifted, tracks, self.map, matches, conflicts, config
        )
        warnings = checks.warnings + result.warnings + seeds.warnings
        result = replace(result, warnings=warnings, timings_ms=timer.done())
        if on_result is not None:
            with timer("publish"):
                on_result(result)
        # Learn from the frame: appearance, masks, and what the map does not have.
        with timer("association"):
            collector.learn(matches, tracks, view)
        with timer("segmentation"):
            self._apply(stages.teacher.plan(view, masks, tracks), frame)
        with timer("proposals"):
            discoveries = stages.discovery.plan(frame, view, masks, tracks)
        with timer("segmentation"):
            self._apply(discoveries, frame)
            stages.segmenter.learn_pending()
        return replace(result, timings_ms=timer.done())

    def update_map(self, update: MapUpdate) -> str:
        """Apply a snapshot or a delta; return the reason why it was not applied, else ""."""
        change = self.map.apply(update)
        self.stages.follow_map(change)
        self._apply(SegmenterPlan(end=self.tracks.follow_map(change)))
        return change.reason

    def add_objects(self, prompts: Prompts, frame: Frame | None = None) -> tuple[int, ...]:
        """Start tracks from prompts with class ids, on ``frame`` or the next one; return their ids.

        Raises ValueError: a prompt is wrong; then nothing is added.
        """
        size = self.stages.input_checker.image_size if frame is None else frame.shape
        starts = self.stages.seeder.prompted_starts(prompts, size, self.tracks)
        if frame is None:
            self.stages.seeder.add_prompts(starts)
        else:
            self._apply(SegmenterPlan(starts=starts), frame)
            self.stages.input_checker.image_size = size
        return tuple(s.track_id for s in starts)

    def remove(self, track_ids: Sequence[int]) -> None:
        """End tracks. Raises KeyError: unknown ids; then nothing is removed."""
        live = {r.track_id for r in self.tracks}
        known = live | self.stages.seeder.waiting_ids
        if unknown := sorted(set(track_ids) - known):
            raise KeyError(f"tracks {unknown} are unknown; live are {sorted(known)}")
        self.stages.seeder.discard_prompts(track_ids)
        self._apply(SegmenterPlan(end=tuple(live.intersection(track_ids))))

    def reset(self) -> None:
        """Forget tracks and map, and begin a new session."""
        self.map = ObjectMap()
        self._apply(SegmenterPlan(restart=Restart.SESSION))
        self.stages.input_checker.forget_stream()

    def start_over(self, method: str = "") -> None:
        """Take the masks from the map anew, by another method where one is named.

        For a stream whose frame failed: what the segmenter then holds is not known. Tracks of map
        objects stay, the others end.
        """
        self.stages = self.stages.with_method(method or self.stages.config.segmentation.method)
        self._apply(
            SegmenterPlan(end=tuple(r.track_id for r in self.tracks if not r.map_object_id))
        )

    def close(self) -> None:
        """End the background thread; the pipeline is not used any more."""
        self.background.shutdown(wait=False, cancel_futures=True)

    def _apply(self, plan: SegmenterPlan, frame: Frame | None = None) -> Segmentation | None:
        """Do what a plan asks for; return the segmentation of ``frame`` where it changes that."""
        self.stages = self.stages.restarted(plan.restart)
        if plan.restart == Restart.SESSION:
            self.tracks, self.session_id = TrackManager(self.config.tracking), uuid.uuid4().hex[:12]
        segmenter, segmentation = self.stages.segmenter, None
        if dropped := set(segmenter.object_ids).intersection((*plan.end, *plan.pause)):
            segmenter.drop(dropped)
        self.tracks.remove(plan.end)
        if frame is None:
            return None
        self.tracks.mark_lost(plan.lost, frame.stamp_ns)
        if plan.corrections:
            segmentation = segmenter.update(frame, plan.corrections)
        if plan.starts:
            segmentation = segmenter.seed(frame, [s.seed for s in plan.starts])
        start = self.tracks.start
        for s in (s for s in plan.starts if s.track_id not in self.tracks):
            start(s.track_id, map_object_id=s.map_object_id, class_id=s.class_id, source=s.source)
        return segmentation
