"""vos_ros: instance masks and object associations for SLAM by video object segmentation."""

import os

# We run beside a SLAM stack that wants the same cores. By default idle OpenMP threads spin for work, and torch's then fight with
# the stack for every core: on two busy cores a frame took 7 times as long. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
