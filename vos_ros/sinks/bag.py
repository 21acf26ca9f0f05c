"""Writes results as the node's topics to an MCAP bag."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vos_ros.messages.associations import association_array_message
from vos_ros.messages.diagnostics import OK, WARN, diagnostics_message, status_message
from vos_ros.messages.factory import make
from vos_ros.messages.images import image_message
from vos_ros.messages.instances import instance_array_message
from vos_ros.messages.stamps import header_message
from vos_ros.sinks.images import overlay
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Frame, FrameResult


class BagSink:
    """Writes labels, instances and associations of every frame, with the image's stamp and frame.

    The file appears on ``close``. An exception in the ``with`` block leaves no file, and an older
    one of that name as it is.

    Args:
        path: name of the file, ends in .mcap.
        namespace: prefix of the topics.
        method: name of the segmentation method, for the messages.
        session_id: session of the track ids, for the messages.
        overlay: write the image with the instances drawn over it, too.
        diagnostics: write the times of the stages and the warnings to /diagnostics, too; what the
            self-check finds is there always.
        notes: texts by name (e.g. the configuration) for the bag's custom data.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        namespace: str = "/vos_ros",
        method: str = "",
        session_id: str = "",
        overlay: bool = False,
        diagnostics: bool = False,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._file = McapFile(path, notes)
        self._namespace = namespace.rstrip("/")
        self._method, self._session_id = method, session_id
        self._overlay, self._diagnostics = overlay, diagnostics

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write the messages of one frame, all at the image's stamp."""
        ns, labels = frame.stamp_ns, result.labels()
        header = header_message(make, ns, frame.frame_id)
        self._put("labels", image_message(make, header, "16UC1", labels), ns)
        instances = instance_array_message(
            make,
            header,
            result,
            session_id=self._session_id,
            method=self._method,
            shape=frame.shape,
            latency_ms=result.timings_ms.get("total", math.nan),
        )
        self._put("instances", instances, ns)
        associations = association_array_message(make, header, result, session_id=self._session_id)
        self._put("associations", associations, ns)
        if self._overlay:
            picture = overlay(frame.rgb, labels, result.tracks, result.associations)
            self._put("overlay", image_message(make, header, "bgr8", picture[:, :, ::-1]), ns)
        if self._diagnostics or result.self_check.findings:
            status = _pipeline_status(result, times=self._diagnostics)
            self._file.write("/diagnostics", diagnostics_message(make, header, [status]), ns)

    def _put(self, name: str, msg: Any, ns: int) -> None:
        self._file.write(f"{self._namespace}/{name}", msg, ns)

    def close(self) -> None:
        """Finish the bag and move it to its place."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)


def _pipeline_status(result: FrameResult, *, times: bool) -> Any:
    """Build the DiagnosticStatus of a frame; WARN with warnings.

    It has the findings of the self-check, and with ``times`` the times of the stages, ms.
    """
    times_ms = result.timings_ms if times else {}
    values = {f"{stage}_ms": f"{ms:.3f}" for stage, ms in times_ms.items()}
    values |= {f"self-check {kind}": text for kind, text in result.self_check.findings.items()}
    return status_message(
        make,
        name="vos_ros: pipeline",
        level=WARN if result.warnings else OK,
        message="; ".join(result.warnings) or "OK",
        values=values,
    )
