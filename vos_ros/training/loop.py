"""The training loop, on Lightning Fabric: one CPU, one GPU, or many under torchrun.

A run is a function of its configuration. Sample n of a stage, and the random numbers of step n,
depend on the seed and n alone, learning rates on the step alone. So a run that was killed and is
resumed from a checkpoint ends with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vos_ros.config import ConfigError
from vos_ros.datasets.interface import VideoSequence
from vos_ros.training import report, state
from vos_ros.training.clips import Clips, Span, loader
from vos_ros.training.config import StageConfig, TrainConfig, dump, rate_factor
from vos_ros.training.data import open_source
from vos_ros.training.interface import Batch, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_HELD_OUT = 2**31  # stands in the seed of held-out clips where the others have their stage's number
_MAX_BAD_STEPS = 50  # in a row without a finite gradient; a few are normal where rates are high
_MAX_PICTURE_CLIPS = 4  # rows of a logged picture


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say how a call of ``train`` ended."""

    step: int
    """Steps of the run that are done."""
    finished: bool
    """Whether these are all."""
    interrupted: bool
    """Whether a signal ended the call."""
    out: Path
    """Folder of the run."""


class _Loss(nn.Module):
    """Compute the task's loss as a forward pass: wrappers for many devices share no other call."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        return self.task.loss(self.model, batch)


def train(
    config: TrainConfig,
    task: Task,
    out: Path | str,
    *,
    resume: bool = False,
    max_steps: int | None = None,
    device: str = "auto",
    show: bool = True,
) -> Outcome:
    """Train a task's model as the configuration says.

    Under torchrun each process takes one device. SIGTERM and SIGINT write a checkpoint and end the
    call.

    Args:
        config: the whole run.
        task: the model and its loss.
        out: folder that gets checkpoints, weights, log and pictures.
        resume: continue from the newest checkpoint in ``out``, where there is one.
        max_steps: steps of this call; None = to the end of the run.
        device: auto, cpu or cuda.
        show: draw a progress bar.

    Raises ValueError or OSError, with a message for people.
    """
    out = Path(out)
    fabric = _start_fabric(config, device)
    saved = state.newest(out / "checkpoints")
    if saved is not None and not resume:
        raise ValueError(
            f"{out} holds a run of {saved['step']} steps: go on with --resume, or name another"
            " folder with --out"
        )
    training = _Run(fabric, config, task, out, saved, show)
    try:
        with _signals() as stopped:
            return training.run(max_steps, stopped)
    finally:
        training.close()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Its threads must end before the interpreter, which can abort the process otherwise.
            torch.distributed.destroy_process_group()


class _Run:
    """Do one call of ``train`` on one process."""

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        task: Task,
        out: Path,
        saved: Mapping[str, Any] | None,
        show: bool,
    ) -> None:
        self.fabric, self.config, self.task, self.out = fabric, config, task, out
        self.show = show and fabric.is_global_zero
        names = {n for s in config.stages.values() for n, share in s.mix.items() if share} | set(
            config.validation.mix
        )
        self.sources: dict[str, list[VideoSequence]] = {
            n: open_source(config.data[n], config.data_root) for n in sorted(names)
        }
        torch.manual_seed(config.seed)
        self.model = task.build()
        for stage in config.stages.values():
            task.parameter_groups(self.model, stage)  # wrong names fail now, not after a stage
            _check_batch(stage, fabric.world_size)
        self.step, self.seconds = 0, 0.0
        if saved is not None:
            self._report_changes(saved)
            self.model.load_state_dict(saved["model"])
            self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
        self.model.to(fabric.device)
        self.average = state.Average(self.model, config.ema)
        if saved is not None:
            self.average.load(saved["average"])
        self._optimizer_state = (
            saved["optimizer"]
            if saved is not None and config.at(self.step)[0] == saved["stage"]
            else None
        )
        self._scaler_state = saved["scaler"] if saved is not None else None
        self._resident: nn.Module | None = None
        self._held_out: list[Batch] = []
        self._bad = 0
        self._scalars: Mapping[str, Any] = {}
        self._batch: Batch | None = None
        self._last_saved = self.step if saved is not None else -1
        self.writer: Any = None
        if fabric.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            out.mkdir(parents=True, exist_ok=True)
            state.write_text(out / "config.yaml", dump(config))
            self.history = state.History(out / "log.jsonl", self.step)
            self.history.add(
                step=self.step,
                kind="start",
                **state.environment(fabric.device),
                seed=config.seed,
                world=fabric.world_size,
            )
            self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=self.step)

    # -- the loop --

    def run(self, max_steps: int | None, stopped: list[int]) -> Outcome:
        """Train stage after stage, step after step, and say how it ended."""
        end = (
            self.config.steps
            if max_steps is None
            else min(self.config.steps, self.step + max_steps)
        )
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            unit="step",
            disable=not self.show,
            dynamic_ncols=True,
            smoothing=0.05,
        )
        with bar:
            for index, (name, stage) in enumerate(self.config.stages.items()):
                at, first = self.config.at(self.step)
                if index != at or first >= stage.steps or self.step >= end:
                    continue
                # a stage: its parameters, its optimiser, its stream of clips
                bar.set_description(name)
                module, optimizer = self._begin_stage(stage)
                batches = iter(self._batches(index, stage, first))
                while first < stage.steps and self.step < end and not self._should_stop(stopped):
                    # one step: gradient, rates, update, average
                    began = time.monotonic()
                    self._optimize(module, optimizer, stage, first, batches)
                    first, self.step = first + 1, self.step + 1
                    self.average.update(self.model, self.step)
                    self.seconds += (time.monotonic() - began) * self.fabric.world_size
                    # what is due every so many steps: log, validate, draw, save
                    self._periodic_actions(optimizer, index, bar)
                    bar.update()
                # the end of a stage, or of this call: the workers end, a checkpoint is written
                del batches
                self._save(optimizer, index)
                if self._should_stop(stopped):
                    break
        self._draw()
        return Outcome(self.step, self.step >= self.config.steps, bool(stopped), self.out)

    def _optimize(
        self, module: Any, optimizer: Any, stage: StageConfig, step: int, batches: Iterator[Batch]
    ) -> None:
        """Do one step of the optimiser; keep its scalars and last batch for the log.

        Args:
            module: the loss, wrapped for the devices.
            optimizer: of the stage; each group has its full rate as ``rate``.
            stage: configuration of the stage.
            step: number of the step within the stage.
            batches: one per accumulated part.

        Raises ValueError: the gradient wasn't finite for too many steps in a row.
        """
        # random numbers: a function of seed, step and process
        torch.manual_seed(_mixed(self.config.seed, self.step, self.fabric.global_rank))
        module.train()
        sums: dict[str, float] = {}
        waited = 0.0
        # forward and backward, in parts
        for part in range(stage.accumulate):
            asked = time.monotonic()
            batch = self.fabric.to_device(next(batches))
            waited += time.monotonic() - asked
            with self.fabric.no_backward_sync(module, enabled=part < stage.accumulate - 1):
                loss, scalars = module(batch)
                self.fabric.backward(loss / stage.accumulate)
            for key, value in {"loss": loss.detach(), **scalars}.items():
                sums[key] = sums.get(key, 0) + value / stage.accumulate
        # learning rates of this step
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * rate_factor(stage, step)
        # clip the gradient, and update where it is finite
        norm = self.fabric.clip_gradients(
            module, optimizer, max_norm=stage.clip_norm or float("inf"), error_if_nonfinite=False
        )
        finite = bool(torch.isfinite(torch.as_tensor(norm)))
        if finite or self.config.precision == "16-mixed":  # there the scaler skips the step
            optimizer.step()
            self._bad = 0
        else:
            self._bad += 1
            if self._bad >= _MAX_BAD_STEPS:
                raise ValueError(
                    f"the gradient has not been finite for {self._bad} steps (now step"
                    f" {self.step}): lower the rates, or set clip_norm; the last checkpoint is good"
                )
        optimizer.zero_grad(set_to_none=True)
        self._scalars, self._batch = (
            {**sums, "gradient_norm": norm, "waited_for_data_s": waited},
            batch,
        )

    # -- its parts --

    def _begin_stage(self, stage: StageConfig) -> tuple[Any, Any]:
        """Return the loss and the stage's optimiser, wrapped for the devices.

        Parameters that the stage doesn't rate are frozen. Raises ConfigError: it rates none.
        """
        groups = self.task.parameter_groups(self.model, stage)
        if not groups:
            raise ConfigError(
                "a stage trains nothing: give some group of parameters a rate above 0"
            )
        for p in self.model.parameters():
            p.requires_grad_(False)
        for group in groups:
            group["rate"] = group["lr"]
            for p in group["params"]:
                p.requires_grad_(True)
        kinds = {
            "adagrad": torch.optim.Adagrad,
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop,
            "sgd": torch.optim.SGD,
        }
        options = {} if stage.optimizer == "adam" else {"weight_decay": stage.weight_decay}
        if stage.optimizer == "sgd":
            options |= {"momentum": 0.9}
        module, optimizer = self.fabric.setup(
            _Loss(self.task, self.model), kinds[stage.optimizer](groups, **options)
        )
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None
            for ours, group in zip(optimizer.param_groups, groups, strict=True):
                ours["rate"] = group["rate"]  # the configuration's, should it have changed
        scaler = self._scaler()
        if scaler is not None and self._scaler_state:
            scaler.load_state_dict(self._scaler_state)
        return module, optimizer

    def _batches(self, index: int, stage: StageConfig, first: int) -> Any:
        """Return this process's batches of a stage, from its step ``first`` on."""
        clips = Clips(self.sources, stage.mix, stage.clip, (self.config.seed, index))
        span = Span(
            first,
            stage.steps,
            stage.batch,
            stage.accumulate,
            self.fabric.global_rank,
            self.fabric.world_size,
        )
        return loader(
            clips,
            span,
            self.config.workers,
            self.config.prefetch,
            pin=self.fabric.device.type == "cuda",
        )

    def _scaler(self) -> Any:
        """Return the gradient scaler of 16-bit training, None without."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def _should_stop(self, stopped: list[int]) -> bool:
        """Tell whether a signal has reached any process; all get the same answer at a step."""
        if self.fabric.world_size == 1:
            return bool(stopped)
        signalled = self.fabric.all_reduce(
            torch.tensor(float(bool(stopped)), device=self.fabric.device), reduce_op="max"
        )
        if bool(signalled) and not stopped:
            stopped.append(0)
        return bool(signalled)

    def _periodic_actions(self, optimizer: Any, stage: int, bar: Any) -> None:
        """Log, validate, draw and save, each where its interval is over."""
        c, last = self.config, self.step == self.config.steps
        if self.step % c.log_every == 0 or last:
            scalars = self._mean({k: float(v) for k, v in self._scalars.items()})
            bar.set_postfix(
                {k: f"{scalars[k]:.3f}" for k in ("loss", "iou") if k in scalars}, refresh=False
            )
            rates = {f"rate/{g['name']}": g["lr"] for g in optimizer.param_groups}
            self._log_scalars("train", scalars | rates)
        if (
            c.validation.clips
            and any(c.validation.mix.values())
            and (self.step % c.validation.every == 0 or last)
        ):
            self._log_scalars("validation", self._validate())
            self._keep_best()
        if self.step % c.picture_every == 0 or last:
            self._log_pictures()
        if self.step % c.checkpoint_every == 0:
            self._save(optimizer, stage)

    def _log_scalars(self, kind: str, scalars: Mapping[str, float]) -> None:
        """Add a row to the history and points to TensorBoard."""
        if self.fabric.is_global_zero:
            rounded = {k: float(f"{v:.6g}") for k, v in scalars.items()}
            self.history.add(step=self.step, kind=kind, seconds=round(self.seconds, 1), **rounded)
            for key, value in scalars.items():
                self.writer.add_scalar(key if "/" in key else f"{kind}/{key}", value, self.step)

    def _mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Return the mean over the processes."""
        if self.fabric.world_size == 1:
            return dict(scalars)
        values = self.fabric.all_reduce(
            torch.tensor([*scalars.values()], device=self.fabric.device), reduce_op="mean"
        )
        return dict(zip(scalars, torch.as_tensor(values).tolist(), strict=True))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Measure the averaged weights on held-out clips; each process takes its share of them."""
        v, model = self.config.validation, self._averaged()
        if not self._held_out:
            clips = Clips(self.sources, v.mix, v.clip, (self.config.seed, _HELD_OUT))
            numbers = list(range(self.fabric.global_rank, v.clips, self.fabric.world_size))
            span = [numbers[i : i + v.batch] for i in range(0, len(numbers), v.batch)]
            self._held_out = list(
                loader(clips, span, min(self.config.workers, len(span)), self.config.prefetch)
            )
        sums: dict[str, float] = {}
        count = 0
        for batch in self._held_out:
            loss, scalars = self.task.loss(model, self.fabric.to_device(batch))
            count += len(batch.frames)
            for key, value in {"loss": loss, **scalars}.items():
                sums[key] = sums.get(key, 0.0) + float(value) * len(batch.frames)
        return self._mean({k: s / max(1, count) for k, s in sums.items()})

    def _keep_best(self) -> None:
        """Export the averaged weights separately where this measurement is the best so far.

        The best has the highest IoU or, where the task measures none, the lowest loss.
        """
        if not self.fabric.is_global_zero:
            return
        *before, now = [
            r.get("iou", -r["loss"]) for r in self.history.rows if r["kind"] == "validation"
        ]
        if all(now > value for value in before):
            name, metadata = self._naming()
            state.export(
                self.out / f"{name}-best.safetensors", self.average.values, metadata, half=False
            )

    def _naming(self) -> tuple[str, dict[str, str]]:
        """Return name and header of exported weights."""
        name = self.config.name or self.config.task
        return name, {
            **self.task.metadata(),
            "name": name,
            "steps": str(self.step),
            "git": state.git_state(),
        }

    def _averaged(self) -> nn.Module:
        """Return a copy of the model with the averaged weights, in eval mode."""
        if self._resident is None:
            self._resident = deepcopy(self.model)
        self._resident.load_state_dict(self.average.values)
        return self._resident.eval()

    @torch.no_grad()
    def _log_pictures(self) -> None:
        """Write pictures of clips to TensorBoard, and draw the loss curve."""
        if not self.fabric.is_global_zero:
            return
        model = self._averaged()
        for kind, batch in (
            ("train", self._batch),
            ("validation", self._held_out[0] if self._held_out else None),
        ):
            if batch is None:
                continue
            few = Batch(*(part[:_MAX_PICTURE_CLIPS] for part in batch))
            picture = np.ascontiguousarray(self.task.picture(model, self.fabric.to_device(few)))
            self.writer.add_image(f"{kind}/clips", picture, self.step, dataformats="HWC")
        self._draw()

    def _draw(self) -> None:
        if self.fabric.is_global_zero:
            report.draw_curve(self.history.rows, self.config, self.out / "curve.png")

    def _save(self, optimizer: Any, stage: int) -> None:
        """Write a checkpoint, and the weights as they would be used, with their card."""
        if not self.fabric.is_global_zero or self._last_saved == self.step:
            return
        self._last_saved = self.step
        scaler, c = self._scaler(), self.config
        saved = {
            "step": self.step,
            "stage": stage,
            "seconds": self.seconds,
            "config": dump(c),
            "world": self.fabric.world_size,
            "model": self.model.state_dict(),
            "average": self.average.values,
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        state.save(self.out / "checkpoints", saved, c.keep)
        name, metadata = self._naming()
        for half in (False, True):
            state.export(
                self.out / f"{name}{'-fp16' if half else ''}.safetensors",
                self.average.values,
                metadata,
                half,
            )
        state.write_text(
            self.out / f"{name}.md",
            report.card(name, c, self.sources, self.history.rows, self.step, self.seconds),
        )

    def _report_changes(self, saved: Mapping[str, Any]) -> None:
        """Print what differs between the configuration of the checkpoint and this one.

        With a changed configuration the weights carry over; the run is no longer a function of it.
        """
        before, now = report.flat(str(saved["config"])), report.flat(dump(self.config))
        changed = [
            f"{k}: {before.get(k)!r} -> {now.get(k)!r}"
            for k in sorted({*before, *now})
            if before.get(k) != now.get(k)
        ]
        if changed and self.show:
            print("the configuration has changed since the checkpoint:\n  " + "\n  ".join(changed))

    def close(self) -> None:
        """End the log."""
        if self.writer is not None:
            self.writer.close()


def _start_fabric(config: TrainConfig, device: str) -> Fabric:
    """Start Fabric for this process; the processes of torchrun find each other.

    Raises ValueError: missing packages, or no such device.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as e:
        raise ValueError(f"training needs more packages ({e}): pip install 'vos_ros[train]'") from e
    accelerator = {"cuda": "gpu"}.get(device, device)
    if accelerator not in ("auto", "cpu", "gpu") or (
        accelerator == "gpu" and not torch.cuda.is_available()
    ):
        raise ValueError(
            f"device {device!r}: "
            + ("no GPU was found" if accelerator == "gpu" else "wanted auto, cpu or cuda")
        )
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    strategy = (
        DDPStrategy(process_group_backend="gloo" if accelerator == "cpu" else None)
        if world > 1
        else "auto"
    )
    fabric = Fabric(
        accelerator=accelerator,
        strategy=strategy,
        devices=local,
        num_nodes=world // local,
        precision=config.precision,
    )
    fabric.launch()
    return fabric


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Give a list that SIGTERM and SIGINT add to; a second signal has its usual effect."""
    got: list[int] = []
    kinds = (signal.SIGTERM, signal.SIGINT)

    def note(number: int, _frame: object) -> None:
        got.append(number)
        for kind in kinds:
            signal.signal(kind, before[kind])

    before = {kind: signal.signal(kind, note) for kind in kinds}
    try:
        yield got
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])


def _check_batch(stage: StageConfig, world: int) -> None:
    """Raise ConfigError where the batch doesn't divide by devices and accumulated parts."""
    parts = world * stage.accumulate
    if stage.batch % parts:
        raise ConfigError(
            f"batch: got {stage.batch}, wanted a multiple of {parts} ({world} devices, accumulate"
            f" {stage.accumulate})"
        )


def _mixed(*numbers: int) -> int:
    """Mix several seeds into one."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
