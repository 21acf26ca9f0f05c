"""The interface of a video segmenter, and the checks of its input that every method shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import torch
from jaxtyping import Float

from vos_ros.types import Frame, Mask, Points, Scribble, Seed, Segmentation


class VideoSegmenter(Protocol):
    """Follow objects through one stream.

    One per stream, not thread-safe; chosen by name from the registry.

    A frame is first stepped or seeded, then possibly updated. ``seed`` and ``update`` return the
    segmentation of the given frame with the new or corrected objects in it.

    A method derives from this class: ``uses_image``, ``features`` and ``learn_pending`` then have
    the values of a method that segments images, has no features to share and learns at once.
    """

    uses_image: bool = True
    """False where masks are repeated as given and say nothing of the image (the null method)."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Return the ids of the followed objects, in the order of ``Segmentation.probs``."""
        ...

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        """Start new objects.

        Raises ValueError: an id is followed already, occurs twice, or the prompt doesn't fit the
        frame.
        """
        ...

    def step(self, frame: Frame) -> Segmentation:
        """Segment the next frame; with no objects all is background.

        Raises ValueError: the image size changed while objects are followed.
        """
        ...

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        """Correct the masks of followed objects on a frame just stepped.

        Raises KeyError: an unknown id.
        """
        ...

    def drop(self, object_ids: Collection[int]) -> None:
        """Stop following objects. Raises KeyError: an unknown id; then none is dropped."""
        ...

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        """Return deep features of the whole image, by which appearance is compared.

        ``frame`` was just stepped, seeded or updated. None where the method has no features, or did
        not process the image as a whole.
        """
        return None

    def learn_pending(self) -> None:
        """Learn now what would else be learned at the beginning of the next frame.

        The results are the same either way. Does nothing where nothing is pending.
        """
        return None


def check_new(followed: Iterable[int], seeds: Sequence[Seed], shape: tuple[int, int]) -> None:
    """Check seeds of new objects against the ids that are followed and the (H, W) of the frame.

    Raises ValueError: an id is followed already, occurs twice or is no id; another array size.
    """
    known = set(followed)
    for s in seeds:
        if s.object_id < 1:
            raise ValueError(f"object id {s.object_id}: ids are >= 1, 0 means none")
        if s.object_id in known:
            raise ValueError(
                f"object {s.object_id} is followed already: correct it with update(), or drop() it"
                " first"
            )
        known.add(s.object_id)
    check_shapes(seeds, shape)


def check_known(followed: Iterable[int], object_ids: Iterable[int]) -> None:
    """Raise KeyError, naming the ids that aren't followed, where there are any."""
    known = set(followed)
    unknown = sorted(set(object_ids) - known)
    if unknown:
        raise KeyError(f"objects {unknown} are not followed; followed are {sorted(known)}")


def check_shapes(seeds: Sequence[Seed], shape: tuple[int, int]) -> None:
    """Raise ValueError where a mask, stroke image, limit or weight has not the frame's (H, W)."""
    for s in seeds:
        arrays = {"weight": s.weight}
        if isinstance(s.prompt, Mask):
            arrays["mask"] = s.prompt.mask
        elif isinstance(s.prompt, Points):
            arrays |= {"within": s.prompt.within, "extent": s.prompt.extent}
        elif isinstance(s.prompt, Scribble):
            arrays["strokes"] = s.prompt.strokes
        for name, a in arrays.items():
            if a is not None and a.shape != shape:
                raise ValueError(
                    f"object {s.object_id}: {name} has shape {a.shape}, wanted that of the frame"
                    f" {shape}"
                )


def check_size(expected: tuple[int, int] | None, frame: Frame) -> None:
    """Raise ValueError where a frame's size is not the stream's (H, W)."""
    if expected is not None and frame.shape != expected:
        raise ValueError(
            f"frame {frame.index} is {frame.shape[1]}x{frame.shape[0]} px, the stream so far"
            f" {expected[1]}x{expected[0]}: start a new segmenter where the image size changes"
        )
