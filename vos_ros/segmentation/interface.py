"""What a video segmenter is, and the checks at its door that every method shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import torch
from jaxtyping import Float

from vos_ros.types import Frame, Mask, Scribble, Seed, Segmentation


class VideoSegmenter(Protocol):
    """Follows objects through one stream.

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
        """Ids of the followed objects, in the order of the rows of ``Segmentation.probs``."""
        ...

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        """Starts new objects.

        ValueError: an id is followed already, occurs twice, or the prompt doesn't fit the frame.
        """
        ...

    def step(self, frame: Frame) -> Segmentation:
        """Segments the next frame; with no objects all is background.

        ValueError: the image size changed while objects are followed.
        """
        ...

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        """Re-anchors followed objects on a frame just stepped. KeyError: an unknown id."""
        ...

    def drop(self, object_ids: Collection[int]) -> None:
        """Stops following. KeyError: an unknown id; then nothing is dropped."""
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
    """ValueError where a seed's id is followed already, occurs twice or is no id, or its arrays
    don't fit the (H, W) frame.
    """
    known = set(followed)
    for s in seeds:
        if s.object_id < 1:
            raise ValueError(f"object id {s.object_id}: ids are >= 1, 0 means none")
        if s.object_id in known:
            raise ValueError(
                f"object {s.object_id} is followed already: correct it with update(), or drop() it first"
            )
        known.add(s.object_id)
    check_shapes(seeds, shape)


def check_known(followed: Iterable[int], object_ids: Iterable[int]) -> None:
    """KeyError naming the ids that aren't followed."""
    known = set(followed)
    unknown = sorted(set(object_ids) - known)
    if unknown:
        raise KeyError(f"objects {unknown} are not followed; followed are {sorted(known)}")


def check_shapes(seeds: Sequence[Seed], shape: tuple[int, int]) -> None:
    """ValueError where a mask, stroke image or weight differs from the (H, W) of the frame."""
    for s in seeds:
        arrays = {"weight": s.weight}
        if isinstance(s.prompt, Mask):
            arrays["mask"] = s.prompt.mask
        elif isinstance(s.prompt, Scribble):
            arrays["strokes"] = s.prompt.strokes
        for name, a in arrays.items():
            if a is not None and a.shape != shape:
                raise ValueError(
                    f"object {s.object_id}: {name} has shape {a.shape}, wanted that of the frame {shape}"
                )


def check_size(expected: tuple[int, int] | None, frame: Frame) -> None:
    """ValueError where the image size differs from the stream's."""
    if expected is not None and frame.shape != expected:
        raise ValueError(
            f"frame {frame.index} is {frame.shape[1]}x{frame.shape[0]} px, the stream so far {expected[1]}x{expected[0]}: "
            "start a new segmenter where the image size changes"
        )
