"""Options of the ``lwl`` method. "Plain" is the mode without trained networks, ``model: plain``."""

from __future__ import annotations

from dataclasses import dataclass

from vos_ros.config import option


@dataclass(frozen=True)
class LwlOptions:
    """``segmentation.lwl.*``; section numbers are those of paper 003."""

    model: str = option(
        "lwl-mnv2",
        "networks: the name of weights that come with the package, a .safetensors file, or plain"
        " (no trained networks, features from segmentation.features)",
        names_file=True,
    )
    sha256: str = option("", "expected sha256 of the weights file; empty = not checked")
    compat: str = option(
        "paper",
        "paper, or reference: the published program's own rules, a backbone pass per object and"
        " frame",
        choices=("paper", "reference"),
    )
    crop: str = option(
        "auto",
        "input of the networks: shared is the whole image for all objects, per_object a search"
        " window per object, auto the window while there is one object (not plain)",
        choices=("auto", "shared", "per_object"),
    )
    long_side: int = option(
        672,
        "longer side of the networks' input, image or window (not plain)",
        unit="px",
        low=64,
        high=2048,
    )
    search_scale: float = option(
        5.0, "side of the search window in sides of the object (sec. 3.5)", low=1.5, high=100.0
    )
    iterations_init: int = option(
        20, "steepest-descent iterations on a new object (sec. 3.5)", low=1, high=200
    )
    iterations_update: int = option(
        3, "steepest-descent iterations per update (sec. 3.5)", low=0, high=50
    )
    update_every: int = option(
        2,
        "frames between updates of the target model; the paper updates on every one",
        unit="frames",
        low=1,
        high=1000,
    )
    update_error: float = option(
        0.02,
        "an object is learned again only where its target model misses the labels of its own masks"
        " by at least this share of their energy, squared (not plain)",
        low=0.0,
        high=1.0,
    )
    tolerance: float = option(
        0.002,
        "learning stops early where an iteration lowers no object's loss by more than this share"
        " (not plain, not on GPUs)",
        low=0.0,
        high=1.0,
    )
    memory_size: int = option(
        8,
        "K_max: samples kept per object, the first one always; 32 in the paper",
        low=1,
        high=256,
    )
    memory_mb: float = option(
        64.0,
        "maximum memory of an object's samples; the first is always kept (not plain)",
        unit="MB",
        low=0.1,
        high=100000.0,
    )
    memory_type: str = option(
        "auto",
        "precision in which samples are kept (not plain): auto is that of the networks",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    decay: float = option(
        0.9,
        "eta: the weight of a sample falls by this factor per frame of age (sec. 3.5)",
        low=0.01,
        high=1.0,
    )
    min_sample_weight: float = option(
        0.05,
        "the least important samples are not learned from while their weights sum to less than"
        " this (not plain)",
        low=0.0,
        high=0.9,
    )
    first_frame_weight: float = option(
        0.25,
        "minimum share of the first sample in the weights; as in the published program, 0 in the"
        " paper (not plain)",
        low=0.0,
        high=1.0,
    )
    min_confidence: float = option(
        0.6,
        "a frame is not learned from where the mean foreground probability is less",
        low=0.0,
        high=1.0,
    )
    precision: str = option(
        "auto",
        "arithmetic of the networks: auto (fp16 on GPUs, bf16 on CPUs that have it, else fp32)",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    compile: bool = option(
        False,
        "run the networks through torch.compile, on GPUs as CUDA graphs; the first frames take"
        " minutes",
    )
    regularization: float = option(0.01, "lambda of eq. (3) (plain)", low=1e-8, high=1e3)
    kernel_size: int = option(
        3, "K: side of the target model's filter, odd (plain)", unit="cells", low=1, high=7
    )


@dataclass(frozen=True)
class FeaturesOptions:
    """``segmentation.features.*``: where plain ``lwl`` gets its deep features from."""

    name: str = option("classical", "feature extractor", choices=("classical", "mobilenet_v2"))
    weights: str = option(
        "",
        "weights file of the extractor (.safetensors, or a state dict of torch.save); empty where"
        " it needs none",
        names_file=True,
    )
    sha256: str = option("", "expected sha256 of the weights file; empty = not checked")
    stride: int = option(
        8, "pixels of the image per feature cell, each way", unit="px", low=4, high=16
    )
    channels: int = option(
        64, "principal components kept as the target model's features", low=4, high=512
    )
    long_side: int = option(
        640,
        "longer side to which the image is scaled before feature extraction",
        unit="px",
        low=64,
        high=2048,
    )
