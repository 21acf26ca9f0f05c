"""What a data set is: one file of this package that lists sequences of frames.

Replay takes sequences whose frames have a camera, evaluation and training take those with masks.
Listing reads names, poses and small tables; pixels are read when a frame is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.datasets.images import read_color, read_depth
from vos_ros.datasets.masks import VOID, Ids, read_ids
from vos_ros.types import Intrinsics, MapObject

Options = TypeVar("Options")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrameFiles:
    """Name the files of one frame, and hold what is known about it besides the pixels."""

    name: str
    """Unique within the sequence; predictions of the frame are written under this name."""
    number: int
    """Its number at the rate of the recording: a difference of 5 is 5 recorded frames."""
    image: Path | None
    """The colour image; None where the data set is ground truth alone."""
    mask: Path | None = None
    """The image of object ids; None where the frame isn't annotated."""
    depth: Path | None = None
    """The 16-bit depth image, registered to the colour image; None without depth."""
    stamp_ns: int | None = None
    """Time of the image in ns; None where the data set states none."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None = None
    """Pose of the camera in the map frame, in m; None where it isn't known."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ObjectInfo:
    """Describe one annotated object of a sequence."""

    id: int
    """Its value in the masks."""
    name: str = ""
    """Its own name, e.g. mug_2."""
    category: str = ""
    """Name of its class."""
    alike_group: str = ""
    """Name of the group of objects that look the same; empty = it is unique."""
    removed_ns: int | None = None
    """Stamp from which on the object is gone; None where it stays."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoSequence:
    """Give the frames of one recording, in order. A still image is a sequence of one frame.

    Every field can be pickled, so that processes which prepare training clips can read it.
    """

    name: str
    """Name within the data set."""
    dataset: str
    """Name of the data set or, in a collection, of the part that the sequence comes from."""
    frames: tuple[FrameFiles, ...]
    """All frames, also those without a mask."""
    licence: str = ""
    """Licence of the data, where the files state it."""
    intrinsics: Intrinsics | None = None
    """The camera of all frames; None where it isn't known: the sequence can't be replayed."""
    depth_scale: float = 1000.0
    """Units of the depth images per metre."""
    objects: tuple[ObjectInfo, ...] = ()
    """What is known about the objects; empty where the masks are all there is."""
    read_map: Callable[[], tuple[MapObject, ...]] | None = None
    """Reads the object map; None where the data set has none."""
    first_frames: Mapping[str, tuple[int, ...]] | None = None
    """Ids of the objects whose mask is given, by the name of the frame; None = see ``starts``."""
    single_object: bool = False
    """Whether all that is annotated is one object, and a prediction's ids mean nothing."""
    ignore: int = VOID
    """Value of mask pixels that the annotators left open."""
    read_image: Callable[[Path], UInt8[np.ndarray, "H W 3"]] = read_color
    """Reads ``FrameFiles.image`` as RGB."""
    read_ids: Callable[[Path], Ids] = read_ids
    """Reads ``FrameFiles.mask``: 0 background, the same id for the same object in all frames."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def times(self) -> tuple[int, ...]:
        """Numbers of the frames at the rate of the recording."""
        return tuple(f.number for f in self.frames)

    @cached_property
    def annotated(self) -> tuple[str, ...]:
        """Names of the frames that have a mask, in order."""
        return tuple(f.name for f in self.frames if f.mask is not None)

    @cached_property
    def starts(self) -> Mapping[str, tuple[int, ...]]:
        """Ids of the objects whose mask is given to a segmenter, by the name of the frame.

        Without ``first_frames`` these are all objects of the first frame.
        Raises ValueError: the first frame isn't annotated, or shows no object.
        """
        if self.first_frames is not None:
            return self.first_frames
        first = self.frames[0]
        if first.mask is None:
            raise ValueError(
                f"{self.name}: no annotation of the first frame {first.name}; the objects are"
                " taken from it"
            )
        ids = tuple(int(i) for i in np.unique(self.ids(0)) if i not in (0, self.ignore))
        if not ids:
            raise ValueError(f"{first.mask}: no object in the first frame")
        return {first.name: ids}

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of all objects that start somewhere, ascending."""
        return tuple(sorted(i for ids in self.starts.values() for i in ids))

    def index(self, name: str) -> int:
        """Return the position of a frame in ``frames``. Raises KeyError: no frame of this name."""
        return self._positions[name]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {f.name: i for i, f in enumerate(self.frames)}

    def with_masks(self) -> VideoSequence:
        """Return the sequence of the annotated frames alone."""
        return replace(self, frames=tuple(f for f in self.frames if f.mask is not None))

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read the colour image of a frame, RGB. ValueError: no image that can be read."""
        path = self.frames[index].image
        if path is None:
            raise ValueError(f"{self.name}: the frame {self.frames[index].name} has no image")
        return self.read_image(path)

    def ids(self, index: int) -> Ids:
        """Read the object ids of a frame. Raises ValueError: no mask, or one that can't be read."""
        path = self.frames[index].mask
        if path is None:
            raise ValueError(
                f"{self.name}: the frame {self.frames[index].name} has no mask; annotated are"
                f" {len(self.annotated)} of {len(self)} frames"
            )
        return self.read_ids(path)

    def mask(self, name: str) -> UInt8[np.ndarray, "H W"]:
        """Read the object ids of a frame, by its name, as 8 bits: predictions are stored so.

        Raises ValueError: no mask, or one of more bits.
        """
        index = self.index(name)
        ids = self.ids(index)
        if ids.dtype != np.uint8:
            raise ValueError(
                f"{self.frames[index].mask}: got ids of {ids.dtype}, wanted an 8-bit grey or"
                " palette image of object ids"
            )
        return ids

    def depth(self, index: int) -> Float32[np.ndarray, "H W"] | None:
        """Read the depth of a frame in m, 0 unknown; None where it has none."""
        path = self.frames[index].depth
        return None if path is None else read_depth(path, self.depth_scale)

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], Ids]:
        """Read image and ids of an annotated frame. Raises ValueError: they differ in size."""
        rgb, ids = self.image(index), self.ids(index)
        if ids.shape != rgb.shape[:2]:
            raise ValueError(
                f"{self.frames[index].mask}: got a mask of {ids.shape[1]}x{ids.shape[0]} px, its"
                f" image has {rgb.shape[1]}x{rgb.shape[0]}"
            )
        return rgb, ids


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Choose sequences of a data set."""

    split: str = ""
    """List or folder of the split, as the data set names it; empty = its training split."""
    names: tuple[str, ...] = ()
    """These sequences in this order, whatever the split; ValueError for one that isn't there."""
    only: tuple[str, ...] = ()
    """Keep these data sets, sequences, or data set/sequence; empty = all."""
    exclude: tuple[str, ...] = ()
    """Leave these out."""
    complete: bool = False
    """Refuse a missing list, image or first mask, as an evaluation needs them all; training
    takes what is there."""
    options: object = None
    """Values of the data set's own ``options`` class; None = its defaults."""

    def wants(self, dataset: str, name: str) -> bool:
        """Tell whether ``only`` and ``exclude`` leave this sequence in.

        A data set asks before it opens a sequence that costs time; the registry asks again.
        """
        words = {dataset, name, f"{dataset}/{name}"}
        return (not self.only or bool(words & set(self.only))) and not words & set(self.exclude)

    def options_as(self, cls: type[Options]) -> Options:
        """Return the data set's own options, its defaults where none are given."""
        return self.options if isinstance(self.options, cls) else cls()


@dataclass(frozen=True)
class NoOptions:
    """The options of a data set that has none of its own."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class DataSet:
    """Describe one data set to the registry."""

    name: str
    """Its name in configurations and on command lines."""
    title: str
    """Its name in messages for people."""
    layout: str
    """The files by which its root is recognised, for messages."""
    matches: Callable[[Path], bool]
    """Tells whether a folder is a root of this data set; looks at names of files alone."""
    sequences: Callable[[Path, Selection], Iterable[VideoSequence]]
    """Lists the chosen sequences below a root. Raises ValueError or OSError: what is missing."""
    has_camera: bool = False
    """Whether its frames have intrinsics and stamps: it can be replayed."""
    has_masks: bool = True
    """Whether frames are annotated: it can be trained on and evaluated."""
    options: type[Any] = NoOptions
    """Dataclass of the values of its own, made with ``vos_ros.config.option``."""
    priority: int = 0
    """Where several data sets match a root, the highest is taken."""
