"""Makes one message of a named type; the builders of this package get the factory as ``make``."""

from __future__ import annotations

from typing import Any, Protocol

from vos_ros.messages.definitions import typestore


class MakeMessage(Protocol):
    """Makes a message of type ``name`` (package/msg/Type) from all of its fields.

    A field of numbers is a NumPy array of the field's dtype, a field of messages or strings is a
    list, a byte (diagnostic levels) is an int.
    """

    def __call__(self, name: str, /, **fields: Any) -> Any: ...


def make(name: str, /, **fields: Any) -> Any:
    """Make a message of rosbags' classes. Raises TypeError where a field is missing or unknown."""
    return typestore().types[name](**fields)


def serialize(msg: Any) -> memoryview:
    """Serialize a message of rosbags' classes to CDR."""
    return typestore().serialize_cdr(msg, msg.__msgtype__)
