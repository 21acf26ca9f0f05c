"""Writes one MCAP file that any rosbag2 or MCAP reader takes, without ROS; the file appears under its name only when it is whole."""

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
    """An MCAP bag being written. ``close`` puts it in its place (an older file is replaced), ``abort`` leaves nothing behind.

    Schemas are embedded, chunks compressed by zstd. ``notes`` go to the bag's custom data. A context manager: an exception aborts.
    ValueError where the name doesn't end in .mcap.
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
        """One message; the topic is made by its first one. ``latched``: recorded as transient local."""
        self.write_cdr(topic, msg.__msgtype__, serialize(msg), log_ns, latched)

    def write_cdr(
        self, topic: str, msgtype: str, cdr: bytes | memoryview, log_ns: int, latched: bool = False
    ) -> None:
        """One message that is already CDR (with its encapsulation header), of type ``msgtype`` (package/msg/Type)."""
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
        """Finishes the file and puts it in its place. Again: nothing."""
        if self._open:
            self._open = False
            try:
                self._writer.close()
                os.replace(self._folder / self.path.stem / self.path.name, self.path)
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)

    def abort(self) -> None:
        """Gives up; an older file of that name stays."""
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
