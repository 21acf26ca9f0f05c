"""Stand-in for ``tf2_ros`` on machines without a ROS distribution: buffer, listener and
broadcasters.

Used only where the real one can't be installed. Names, arguments, errors and behaviour are those
of the real package, which ``test/underlay/test_against_upstream.py`` checks step by step. Not here:
its conversion of messages (``Buffer.transform``), velocities, the ``tf2_frames`` service and the
``BufferClient``.
"""

from tf2_ros.buffer import Buffer
from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TimeoutException,
    TransformException,
)
from tf2_ros.static_transform_broadcaster import StaticTransformBroadcaster
from tf2_ros.transform_broadcaster import TransformBroadcaster
from tf2_ros.transform_listener import TransformListener

__all__ = [
    "Buffer",
    "ConnectivityException",
    "ExtrapolationException",
    "InvalidArgumentException",
    "LookupException",
    "StaticTransformBroadcaster",
    "TimeoutException",
    "TransformBroadcaster",
    "TransformException",
    "TransformListener",
]
