"""vos_ros: instance masks and object associations for SLAM by video object segmentation."""

__version__ = "0.1.0"
