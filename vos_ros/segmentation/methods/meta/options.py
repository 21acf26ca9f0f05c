"""Options of the ``meta`` method."""

from __future__ import annotations

from dataclasses import dataclass

from vos_ros.config import option


@dataclass(frozen=True)
class MetaOptions:
    """``segmentation.meta.*``; figures and symbols are those of paper 000."""

    model: str = option(
        "meta-mnv2",
        "networks: the name of weights that come with the package, or a .safetensors file",
        names_file=True,
    )
    sha256: str = option("", "expected sha256 of the weights file; empty = not checked")
    optimizer: str = option(
        "lstm",
        "optimizer of the objects' models: the learned one, or one that it is compared with",
        choices=("lstm", "adam", "rmsprop", "sgd", "steepest_descent"),
    )
    rate: float = option(
        0.0,
        "learning rate of adam, rmsprop and sgd; 0 = the best one of each",
        low=0.0,
        high=1e3,
    )
    one_shot: bool = option(
        True,
        "a new model starts from the weight generator's prediction (fig. 1); else all start alike",
    )
    iterations_init: int = option(20, "T_init: iterations on a new object", low=0, high=1000)
    iterations_update: int = option(2, "T_update: iterations per update", low=0, high=100)
    update_every: int = option(4, "frames between updates", unit="frames", low=1, high=1000)
    max_iterations: int = option(
        40,
        "an object's model is learned anew from its memory, with T_init iterations, before it has"
        " had more than this: the learned optimizer was trained for no more",
        low=1,
        high=1000000,
    )
    long_side: int = option(672, "longer side of the network's input", unit="px", low=64, high=2048)
    search_scale: float = option(
        3.0, "side of the search window in sides of the object", low=1.5, high=100.0
    )
    samples: int = option(512, "cells of a frame that an object learns from", low=16, high=65536)
    memory_size: int = option(
        8,
        "frames kept per object, besides its first and the last with a given mask",
        low=0,
        high=256,
    )
    seed_sample_ratio: float = option(
        0.5,
        "share of the frames with given masks in the cells that are learned from",
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
        "arithmetic of the embedding: auto (fp16 on GPUs, bf16 on CPUs that have it, else fp32)",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
