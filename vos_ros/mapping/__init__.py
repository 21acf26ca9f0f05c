"""The object map, its rendering into a view, and the way back from pixels to the map."""

from vos_ros.mapping.align import Alignment, align
from vos_ros.mapping.render import render

__all__ = ["Alignment", "align", "render"]
