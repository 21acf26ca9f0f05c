"""The object map, its rendering into a view, the pose aligned with it, and the way back from pixels to the map."""

from vos_ros.mapping.align import Alignment, align
from vos_ros.mapping.lift import lift
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.mapping.render import render
from vos_ros.mapping.seeds import object_pixel_sigma, seed_of

__all__ = ["Alignment", "ObjectMap", "align", "lift", "object_pixel_sigma", "render", "seed_of"]
