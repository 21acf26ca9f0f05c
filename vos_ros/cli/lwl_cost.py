"""Measure time, FLOP and memory of a frame of LWL by stage, from outside, in the steady state."""

from __future__ import annotations

import contextlib
import math
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from vos_ros.cli.report import Figure
from vos_ros.config import Config
from vos_ros.segmentation.checkpoints import LWL_FORMAT
from vos_ros.segmentation.methods.lwl import create
from vos_ros.segmentation.methods.lwl.options import LwlOptions
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.types import Frame, Intrinsics, Mask, Seed

# Stage: methods of the segmenter and its parts (":name" is a function that its module calls). Work
# that one of them hands to another stage counts for that stage alone.
_METHODS = {
    "upload": (
        "_encoding",
        "_encode_windows",
        "_encode_full_image",
        "model.upload",
        ":sample_patch",
    ),
    "backbone": ("model.encode_image", "model.net.extract"),
    "scores": ("_scores", "model.net.target_features", ":apply_filters"),
    "decoder": ("model.decode", "model.net.context", "model.net.decode"),
    "merge": ("_segment", "_track_one", "_merged"),
    "encode": ("_keep_own_masks", "model.net.encode"),
    "learn": ("learn_pending", "_learn"),
}
STAGES = (*_METHODS, "other")
_PEAK_S, _MOTION_PX = 0.4, 1.5
_MB = 1e6


def write_random_weights(network: str, path: Path) -> None:
    """Write untrained weights of one of ``networks.lwl.SPECS``.

    Batch norms hold their input's mean and variance, so that activations have the size that trained
    weights give, and fit half precision.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = LwlNet(SPECS[network])
        norms = [m for m in net.feature_extractor.modules() if isinstance(m, nn.BatchNorm2d)]
        for m in norms:
            m.momentum = 1.0
            m.train()
        net.extract(torch.randint(0, 256, (1, 3, *net.fits(224, 224)), dtype=torch.uint8))
        net.eval()
    save_file(
        net.state_dict(), path, metadata={"format": LWL_FORMAT, "spec": SPECS[network].to_json()}
    )


class Scene:
    """Textured ellipses, one per object, that drift over a textured background.

    A frame for any time, the same in every run. Raises ValueError: more objects than there is room
    for.
    """

    def __init__(self, objects: int, size: tuple[int, int]) -> None:
        h, w = size
        self._size = size
        self._columns = max(1, math.ceil(math.sqrt(objects * w / h)))
        rows = math.ceil(objects / self._columns)
        self._cell = (h / rows, w / self._columns)
        if min(self._cell) < 8:
            raise ValueError(
                f"{objects} objects don't fit into {h}x{w} px: fewer objects, or a larger --size"
            )
        rng = np.random.default_rng(0)
        self._textures = [self._texture(rng) for _ in range(objects + 1)]

    def _texture(self, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
        h, w = self._size
        out = np.zeros((h, w, 3), np.float32)
        for scale, amount in ((32, 90.0), (8, 40.0), (2, 15.0)):
            out += cv2.resize(
                rng.uniform(0, amount, (h // scale + 2, w // scale + 2, 3)).astype(np.float32),
                (w, h),
            )
        return (out + rng.uniform(0, 110, 3)).astype(np.uint8)

    def frame(self, time: int) -> tuple[Frame, list[Seed]]:
        """Return the image at a time (in frames) and the masks of its objects."""
        h, w = self._size
        cell_h, cell_w = self._cell
        shift = round(_MOTION_PX * time)
        rgb = np.roll(self._textures[0], -shift, 1)
        y, x = np.ogrid[:h, :w]
        seeds = []
        for k, texture in enumerate(self._textures[1:]):
            row, column = divmod(k, self._columns)
            angle = 0.05 * _MOTION_PX * time + k
            cy, cx = (
                (row + 0.5 + 0.1 * math.sin(angle)) * cell_h,
                (column + 0.5 + 0.1 * math.cos(angle)) * cell_w,
            )
            mask = ((y - cy) / (0.35 * cell_h)) ** 2 + ((x - cx) / (0.35 * cell_w)) ** 2 <= 1
            rgb[mask] = np.roll(texture, shift, 0)[mask]
            seeds.append(Seed(k + 1, Mask(mask)))
        camera = Intrinsics(float(w), float(w), (w - 1) / 2, (h - 1) / 2, w, h)
        return Frame(time, time * 10**8, rgb, None, camera), seeds


class Meter:
    """Adds up, by stage, the growth of a counter (time, FLOP).

    What happens inside an inner stage counts for the inner one alone.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self.sums = dict.fromkeys(STAGES, 0.0)
        self._read, self._stages, self._mark = read, ["other"], 0.0

    def run(self, work: Callable[[], object]) -> None:
        """Count while ``work`` runs."""
        self._mark = self._read()
        work()
        self._charge()

    def _charge(self) -> None:
        now = self._read()
        self.sums[self._stages[-1]] += now - self._mark
        self._mark = now

    def wrap(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return the function, with its work counted for a stage."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._charge()
            self._stages.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._charge()
                self._stages.pop()

        return counted

    @contextlib.contextmanager
    def attached(self, segmenter: Any) -> Iterator[None]:
        """Wrap the methods of a segmenter and its parts, and remove the wraps afterwards.

        Nothing inside compiled code is wrapped: all of its work counts for the caller.
        """
        compiled = segmenter.model.is_compiled
        wrapped: list[tuple[Any, str, Callable[..., Any] | None]] = []
        for stage, paths in _METHODS.items():
            for path in paths:
                owner, name = _owner(segmenter, path)
                if hasattr(owner, name) and not (compiled and path.startswith("model.net.")):
                    wrapped.append((owner, name, vars(owner).get(name)))
                    setattr(owner, name, self.wrap(getattr(owner, name), stage))
        try:
            yield
        finally:
            for owner, name, before in wrapped:
                if before is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)


def _owner(segmenter: Any, path: str) -> tuple[Any, str]:
    """Return the owner of the attribute at the end of a path of ``_METHODS``, and its name."""
    if path.startswith(":"):
        return sys.modules[type(segmenter).__module__], path[1:]
    *parts, name = path.split(".")
    for part in parts:
        segmenter = getattr(segmenter, part, None)
    return segmenter, name


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a frame with a number of objects: times of single frames, and means per frame by
    stage.
    """

    objects: int
    """Number of objects."""
    total_ms: tuple[float, ...]
    """Time of each timed frame."""
    ms: Mapping[str, float]
    """Mean time per frame by stage."""
    gflop: Mapping[str, float]
    """Mean GFLOP per frame by stage."""
    memory_name: str
    """Name of the memory figure."""
    memory_mb: float
    """Peak memory."""
    samples: int
    """Samples in the memory of the object with the fewest."""

    @property
    def mean_ms(self) -> float:
        """Return the mean time of a frame."""
        return sum(self.total_ms) / len(self.total_ms)

    def figures(self, one: Cost, peak: float) -> dict[str, Figure]:
        """Return flat figures; ``peak`` in GFLOP/s; ``one`` is the cost of the smallest number of
        objects.
        """
        p50, p95 = np.percentile(self.total_ms, (50, 95))
        total = sum(self.gflop.values())
        out: dict[str, Figure] = {
            "total_ms_p50": float(p50),
            "total_ms_p95": float(p95),
            "total_ms_mean": self.mean_ms,
            "fps": 1e3 / self.mean_ms,
            "total_gflop": total,
            "roofline": _share(total, self.mean_ms, peak),
            self.memory_name: self.memory_mb,
            "samples": self.samples,
        }
        if one.objects == 1:
            out["over_1"] = self.mean_ms / one.mean_ms
        for s in STAGES:
            out |= {
                f"{s}_ms": self.ms[s],
                f"{s}_gflop": self.gflop[s],
                f"{s}_roofline": _share(self.gflop[s], self.ms[s], peak),
            }
        return out


def _share(gflop: float, ms: float, peak: float) -> float:
    return 1e3 * gflop / ms / peak if ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of frames of a measurement.

    In each round a period of whole frames and a period of timed stages follow one another, so that
    other load on the machine affects both alike.
    """

    fill: int
    """Frames that fill the memory."""
    settle: int
    """Frames that warm up."""
    rounds: int
    """Rounds of two periods each."""
    period: int
    """Frames from one update of the target models to the next; means are over whole periods."""

    @classmethod
    def of(cls, config: LwlOptions, frames: int) -> Plan:
        """Return the plan for at least so many timed frames.

        Objects just corrected are not learned for two periods; one more warms up.
        """
        period = config.update_every
        return cls(config.memory_size, 3 * period, math.ceil(frames / period), period)

    @property
    def work(self) -> int:
        """Return the number of all frames."""
        return self.fill + self.settle + (2 * self.rounds + 1) * self.period


def measure(
    config: Config, counts: Sequence[int], size: tuple[int, int], frames: int
) -> tuple[list[Cost], dict[str, Figure]]:
    """Measure the costs for all numbers of objects, fewest first, and what is common to them.

    The order matters because the process's memory does not shrink.
    """
    scenes = [Scene(n, size) for n in counts]
    plan = Plan.of(config.segmentation.methods["lwl"], frames)
    costs: list[Cost] = []
    about: dict[str, Figure] = {}
    peak = 0.0
    with tqdm(total=len(scenes) * plan.work, unit="frame", disable=None) as bar:
        for n, scene in zip(counts, scenes, strict=True):
            bar.set_description("peak")
            segmenter: Any = create(config.segmentation)
            device, dtype = segmenter.model.device, segmenter.model.net.dtype
            peak = max(peak, peak_gflop_per_s(device, dtype))
            h, w = segmenter.network_size(size)
            about = {
                "lwl_device": _device_name(device),
                "lwl_precision": str(dtype).removeprefix("torch."),
                "lwl_size": f"{size[0]}x{size[1]}",
                "lwl_network_size": f"{h}x{w}",
                "lwl_update_every": plan.period,
                "lwl_memory_size": plan.fill,
                "torch_threads": torch.get_num_threads(),
                "lwl_peak_gflop_per_s": peak,
            }
            costs.append(_measure_one(segmenter, scene, n, plan, bar))
            del segmenter  # before the next one is made: its memory would count
    return costs, about


def _label(meter: Meter, segmenter: Any, frame: Frame) -> None:
    """Segment a frame and make its label image; the latter counts as merging."""
    meter.wrap(segmenter.step(frame).labels, "merge")()


def _measure_one(segmenter: Any, scene: Scene, objects: int, plan: Plan, bar: Any) -> Cost:
    """Fill the memory; measure times of frames and of stages in turns; then FLOP of stages."""
    device = segmenter.model.device
    clock = 0

    def upcoming(count: int, doing: str) -> Iterator[tuple[Frame, list[Seed]]]:
        nonlocal clock
        bar.set_description(f"{objects} object{'s' * (objects > 1)}, {doing}")
        for _ in range(count):
            yield scene.frame(clock)
            clock += 1
            bar.update()

    for frame, seeds in upcoming(plan.fill, "filling the memory"):
        if segmenter.object_ids:
            segmenter.step(frame)
            segmenter.update(frame, seeds)
        else:
            segmenter.seed(frame, seeds)
    for frame, _ in upcoming(plan.settle, "warming up"):
        segmenter.step(frame).labels()

    def profile(meter: Meter, doing: str) -> None:
        with meter.attached(segmenter):
            for frame, _ in upcoming(plan.period, doing):
                meter.run(partial(_label, meter, segmenter, frame))

    def per_frame(meter: Meter, periods: int) -> dict[str, float]:
        return {stage: total / (periods * plan.period) for stage, total in meter.sums.items()}

    times, stages = [], Meter(lambda: 1e3 * _synchronised(device))
    reset_memory_peak(device)
    for _ in range(plan.rounds):
        for frame, _ in upcoming(plan.period, "timing frames"):
            start = time.perf_counter()
            segmenter.step(
                frame
            ).labels()  # the labels are in the CPU's memory: a GPU has done all that they need
            times.append(1e3 * (time.perf_counter() - start))
        profile(stages, "timing stages")
    memory_name, memory_mb = memory_peak_mb(device)
    with FlopCounterMode(display=False) as counter, _uncompiled(segmenter.model):
        flop = Meter(lambda: 1e-9 * counter.get_total_flops())
        profile(flop, "counting FLOP")
    return Cost(
        objects,
        tuple(times),
        per_frame(stages, plan.rounds),
        per_frame(flop, 1),
        memory_name,
        memory_mb,
        _samples(segmenter),
    )


def _samples(segmenter: Any) -> int:
    """Return the number of samples in the memory of the object that has the fewest."""
    return int(min(segmenter.memory_length(i) for i in segmenter.object_ids))


def _synchronised(device: torch.device) -> float:
    """Return the time, s, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def _uncompiled(model: Any) -> Iterator[None]:
    """Run the model without torch.compile, whose code the FLOP counter can't see."""
    before = model.run_backbone, model.run_decoder
    model.run_backbone, model.run_decoder = model.backbone_pass, model.net.decode
    try:
        yield
    finally:
        model.run_backbone, model.run_decoder = before


def peak_gflop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the best of a large matrix product and a 3x3 convolution, GFLOP/s."""
    n, c, side, batch = (8192, 512, 128, 16) if device.type == "cuda" else (2048, 128, 128, 4)
    a, b = (torch.rand(n, n, device=device, dtype=dtype) for _ in range(2))
    x = torch.rand(batch, c, side, side, device=device, dtype=dtype).to(
        memory_format=torch.channels_last
    )
    kernel = torch.rand(c, c, 3, 3, device=device, dtype=dtype).to(
        memory_format=torch.channels_last
    )
    best = 0.0
    product: tuple[Callable[[], torch.Tensor], float] = (lambda: a @ b, 2e-9 * n**3)
    convolution: tuple[Callable[[], torch.Tensor], float] = (
        lambda: F.conv2d(x, kernel, padding=1),
        18e-9 * batch * side**2 * c**2,
    )
    for work, gflop in (product, convolution):
        with torch.inference_mode():
            work()
            begin = _synchronised(device)
            while True:
                start = _synchronised(device)
                work()
                end = _synchronised(device)
                best = max(best, gflop / (end - start))
                if end - begin > _PEAK_S:
                    break
    return best


def reset_memory_peak(device: torch.device) -> None:
    """Start counting ``memory_peak_mb`` afresh; on a CPU only where Linux allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # then it is the peak since the process began
            Path("/proc/self/clear_refs").write_text("5")


def memory_peak_mb(device: torch.device) -> tuple[str, float]:
    """Return the name and the peak, MB: of torch on a GPU, else the resident set of the process."""
    if device.type == "cuda":
        return "peak_cuda_mb", torch.cuda.max_memory_allocated(device) / _MB
    try:
        found = re.search(
            r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE
        )
    except OSError:
        found = None
    if found:
        return "peak_rss_mb", int(found[1]) * 1024 / _MB
    unit = 1 if sys.platform == "darwin" else 1024
    return "peak_rss_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
