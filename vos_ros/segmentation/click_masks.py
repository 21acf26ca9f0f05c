"""One method makes the masks of clicks, another one follows the objects (``seed_with``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float

from vos_ros.segmentation.fusion import followed_pixels, most_probable_rows
from vos_ros.segmentation.interface import VideoSegmenter, check_known, check_new, check_shapes
from vos_ros.segmentation.prompts import separate_clicks
from vos_ros.types import Frame, Mask, Points, Seed, Segmentation


class ClickMasks(VideoSegmenter):
    """Hand a method masks where it is given clicks.

    The other method sees only the frames on which clicks come, and follows nothing.
    """

    def __init__(self, follower: VideoSegmenter, seeder: VideoSegmenter) -> None:
        """``follower`` follows the objects, ``seeder`` makes masks of clicks."""
        self._follower, self._seeder = follower, seeder
        self.uses_image = follower.uses_image

    @property
    def object_ids(self) -> tuple[int, ...]:
        return self._follower.object_ids

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_new(self.object_ids, seeds, frame.shape)
        if any(isinstance(s.prompt, Points) for s in seeds):
            taken = followed_pixels(self._follower.seed(frame, []))
            seeds = [self._with_mask(frame, s) for s in separate_clicks(seeds, taken)]
        return self._follower.seed(frame, seeds)

    def step(self, frame: Frame) -> Segmentation:
        return self._follower.step(frame)

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self.object_ids, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        return self._follower.update(frame, [self._with_mask(frame, s) for s in corrections])

    def drop(self, object_ids: Collection[int]) -> None:
        self._follower.drop(object_ids)

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        return self._follower.features(frame)

    def learn_pending(self) -> None:
        self._follower.learn_pending()

    def _with_mask(self, frame: Frame, seed: Seed) -> Seed:
        """Return a seed with the mask that the other method makes of its clicks."""
        if not isinstance(seed.prompt, Points):
            return seed
        result = self._seeder.seed(frame, [seed])
        mask: Bool[torch.Tensor, "H W"] = most_probable_rows(result).row == 1
        self._seeder.drop([seed.object_id])
        return replace(seed, prompt=Mask(mask.cpu().numpy()))
