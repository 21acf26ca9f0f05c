"""One frame: stages decide and return values, ``Pipeline`` acts."""

from vos_ros.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
