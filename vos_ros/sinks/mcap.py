"""Writes one MCAP file, without ROS, that any rosbag2 or MCAP reader takes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vos_ros.messages.definitions import typestore
from vos_ros.messages.factory import serialize

_FOREVER = QosTime(9223372036, 854775807)  # what rosbag2 writes for "no deadline"


class McapFile:
    """Writes an MCAP bag, with its schemas embedded and its chunks compressed by zstd.

    The file appears under its name on ``close``, which replaces an older one; ``abort`` leaves
    nothing behind. It is a context manager: an exception aborts. ``notes`` go to the bag's custom
    data. Raises ValueError: the name doesn't end in .mcap.
    """

    def __init__(self, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix != ".mcap":
            raise ValueError(f"{self.path}: wanted a file name that ends in .mcap")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._writer = Writer(
            self._folder / self.path.stem, version=9, storage_plugin=StoragePlugin.MCAP
        )
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in (notes or {}).items():
            self._writer.set_custom_data(key, value)
        self._writer.open()
        self._connections: dict[str, Connection] = {}
        self._open = True

    def write(self, topic: str, msg: Any, log_ns: int, latched: bool = False) -> None:
        """Write a message; ``latched``: the topic is recorded as transient local.

        Args:
            topic: name of the topic, which is added with its first message.
            msg: message of rosbags' classes.
            log_ns: time of the recording, ns.
            latched: of the first message of a topic counts.
        """
        self.write_cdr(topic, msg.__msgtype__, serialize(msg), log_ns, latched)

    def write_cdr(
        self, topic: str, msgtype: str, cdr: bytes | memoryview, log_ns: int, latched: bool = False
    ) -> None:
        """Write a message that is CDR already.

        Args:
            topic: name of the topic, which is added with its first message.
            msgtype: its type, package/msg/Type.
            cdr: the bytes, with the encapsulation header.
            log_ns: time of the recording, ns.
            latched: record the topic as transient local.
        """
        if topic not in self._connections:
            durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
            qos = Qos(
                QosHistory.KEEP_LAST,
                1 if latched else 10,
                QosReliability.RELIABLE,
                durability,
                _FOREVER,
                _FOREVER,
                QosLiveliness.AUTOMATIC,
                _FOREVER,
                False,
            )
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=typestore(), offered_qos_profiles=[qos]
            )
        self._writer.write(self._connections[topic], log_ns, cdr)

    def close(self) -> None:
        """Finish the file and move it to its place. A second call does nothing."""
        if self._open:
            self._open = False
            try:
                self._writer.close()
                os.replace(self._folder / self.path.stem / self.path.name, self.path)
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Discard the file; an older one of that name stays."""
        if self._open:
            self._open = False
            self._writer.abort()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort() if kind is not None else self.close()
