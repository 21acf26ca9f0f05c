"""vos_ros: instance masks and object associations for SLAM by video object segmentation."""

from pkgutil import extend_path

# The generated vos_ros.msg and vos_ros.srv lie in the same folder in an installed workspace, and in another folder of the path where
# the modules come from a checkout or from pip.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
