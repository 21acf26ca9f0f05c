"""vos_ros: instance masks and object associations for SLAM by video object segmentation."""

import os
from pkgutil import extend_path

ENVIRONMENT = {
    # We run beside a SLAM stack that wants the same cores. By default idle OpenMP threads spin for
    # work, and torch's then fight with the stack for every core: on two busy cores a frame took 7
    # times as long. OpenMP reads this when torch is first imported.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large tensors in huge pages: a frame's come and go, and a page fault for every 4 KiB of them
    # is a fifth of its time. torch reads this when it allocates first.
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Settings of this process, where its environment has none of its own."""
SET_HERE = tuple(name for name in ENVIRONMENT if name not in os.environ)
"""Names of the settings that this import made."""
os.environ.update({name: ENVIRONMENT[name] for name in SET_HERE})

# The generated vos_ros.msg and vos_ros.srv lie in the same folder in an installed workspace, and in
# another folder of the path where the modules come from a checkout or from pip.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
