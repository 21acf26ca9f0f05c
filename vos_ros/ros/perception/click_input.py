"""Answer clicked points: each becomes a track, or is told what is wrong with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from vos_ros.config import MappingConfig
from vos_ros.geometry.se3 import transform
from vos_ros.messages.checks import Limits
from vos_ros.messages.prompts import ClickedPoint, clicked_point_from_message
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.pipeline import Pipeline
from vos_ros.pipeline.clicks import SeenFrame, check_clicks, click_on
from vos_ros.ros.common.logging import EventLog, Level
from vos_ros.ros.common.poses import PoseInput

_QUIET_S = 0.5
"""Answers of one kind are logged at most this often, s: a person clicks more slowly."""
_MAX_WAITING = 10
"""Clicks that wait for the worker, or for the next image."""


class ClickInput:
    """Take clicked points to the pipeline: they wait here, and the worker's thread takes them.

    A click is held against the newest image that the pipeline has processed; one in the camera's
    own frame against the image of its time. Two clicks on one image are answered one after the
    other, so that the second one is told where the first one's object is.

    Args:
        pipeline: starts the tracks.
        mapping: near plane and tolerance of depth.
        map_frame: frame of the map.
        limits: bounds of what messages may carry.
        answer: reports a text with its level on the log.
        warn: keeps a text for /diagnostics.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        mapping: MappingConfig,
        map_frame: str,
        limits: Limits,
        answer: Callable[[Level, str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._pipeline, self._mapping, self._map_frame = pipeline, mapping, map_frame.lstrip("/")
        self._limits, self._warn = limits, warn
        self._answers = EventLog(answer, _QUIET_S)
        self._waiting: deque[ClickedPoint] = deque()
        self._clicked: SeenFrame | None = None  # the last image on which a click began a track
        self.started = self.refused = 0
        self.last = ""

    def put(self, msg: Any) -> bool:
        """Keep a click, on the executor's thread; return whether there was room.

        Raises MessageError: what is wrong with it.
        """
        click = clicked_point_from_message(msg, self._limits)
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(click)
            return True
        self.refuse(
            f"a click in frame {click.frame_id!r} is dropped: {_MAX_WAITING} others wait for an"
            " image. Click again when masks are published"
        )
        return False

    def take(
        self,
        seen: Sequence[SeenFrame],
        poses: PoseInput,
        wait_s: float,
        give_up: Callable[[], bool],
    ) -> tuple[int, ...]:
        """Start a track of the oldest click, or say what is wrong with it.

        Args:
            seen: images that the pipeline has processed, the newest last.
            poses: give TF.
            wait_s: longest wait for a transform, s.
            give_up: asked while waiting; True ends the wait.

        Returns:
            The new track; none where the click is refused or waits on, or where there is none.
        """
        if not self._waiting or (seen and seen[-1] is self._clicked):
            return ()
        click = self._waiting.popleft()
        x, y, z = click.point.tolist()
        what = f"the click at ({x:.2f}, {y:.2f}, {z:.2f}) m in frame {click.frame_id!r}"
        try:
            image, point, in_map = self._place(click, seen, poses, wait_s, give_up)
            points = click_on(point, image, in_map=in_map, config=self._mapping)
            followed = {t.track_id for t in self._pipeline.tracks}
            check_clicks(points, image.owners(points, followed), image.projections)
            ids = self._pipeline.add_objects([(points, 0)], image.frame)
        except ValueError as e:
            self.refuse(f"{what} is refused: {e}")
            return ()
        self._clicked = seen[-1]
        self.started += 1
        column, row = np.rint(points.xy[0]).astype(int).tolist()
        self.last = (
            f"{what} is track {ids[0]}: followed from pixel ({column}, {row}) of the image with"
            f" stamp {image.frame.stamp_ns / NS_PER_S:.3f} s on"
        )
        self._answers.report(self.last, Level.OK)
        return ids

    def refuse(self, text: str) -> None:
        """Say what is wrong with a click, on the log and on /diagnostics."""
        self.refused += 1
        self.last = text
        self._warn(text)
        self._answers.report(text, Level.ERROR)

    def forget(self) -> None:
        """Forget the clicks that wait: time has jumped back, or a session begins."""
        while self._waiting:
            self.refuse(
                f"a click in frame {self._waiting.popleft().frame_id!r} is dropped: the stream has"
                " started over; click again"
            )
        self._clicked = None

    def _place(
        self,
        click: ClickedPoint,
        seen: Sequence[SeenFrame],
        poses: PoseInput,
        wait_s: float,
        give_up: Callable[[], bool],
    ) -> tuple[SeenFrame, Float64[np.ndarray, "3"], bool]:
        """Return the image of a click, the point, and whether that is in the map frame.

        Raises ValueError: there is no such image, or TF doesn't know the frame.
        """
        if not seen:
            raise ValueError(
                "no image has been processed yet: click again when masks are published"
            )
        newest = seen[-1]
        if click.frame_id == self._map_frame:
            return newest, click.point, True
        if click.frame_id == newest.frame.frame_id.lstrip("/"):
            return _image_at(click.stamp_ns, seen), click.point, False
        stamp_ns = click.stamp_ns or newest.frame.stamp_ns
        T, reason = poses.lookup(
            self._map_frame, click.frame_id, stamp_ns, time.monotonic() + wait_s, give_up
        )
        if T is None:
            raise ValueError(
                f"TF has no {self._map_frame} <- {click.frame_id} at {stamp_ns / NS_PER_S:.3f} s"
                f" ({reason}): click in the map frame {self._map_frame!r} (RViz: Fixed Frame) or in"
                f" the camera's frame {newest.frame.frame_id!r}"
            )
        return newest, transform(T, click.point[None])[0], True


def _image_at(stamp_ns: int, seen: Sequence[SeenFrame]) -> SeenFrame:
    """Return the newest image that is no newer than a stamp; with stamp 0 the newest one.

    Raises ValueError: all are newer.
    """
    older = [s for s in seen if not stamp_ns or s.frame.stamp_ns <= stamp_ns]
    if not older:
        raise ValueError(
            f"its stamp is {stamp_ns / NS_PER_S:.3f} s and the oldest image that is still kept has"
            f" {seen[0].frame.stamp_ns / NS_PER_S:.3f} s: click on a newer one"
        )
    return older[-1]
