"""Process one frame: stages decide and return values, ``Pipeline`` acts on them."""

from vos_ros.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
