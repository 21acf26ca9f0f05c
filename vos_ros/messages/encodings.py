"""Decodes the bytes of images to arrays, by ROS's names of encodings, and encodes depth.

Arrays are views of the bytes where the encoding allows it. Colour is RGB u8 (H,W,3). Depth is f32
(H,W) in metres, 0 where there is no measurement (REP-118: 16UC1 is mm, 32FC1 is m).
"""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import cv2
import numpy as np
import PIL.Image
from jaxtyping import Float32, Shaped, UInt8, UInt16

from vos_ros.messages.checks import DEFAULT_LIMITS, Limits, MessageError, check_image_size

_NAMED = {
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "mono8": ("u1", 1),
    "mono16": ("u2", 1),
    "rgb16": ("u2", 3),
    "bgr16": ("u2", 3),
    "rgba16": ("u2", 4),
    "bgra16": ("u2", 4),
}
_GENERIC = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}
_BAYER = {
    f"bayer_{p}{bits}": (getattr(cv2, f"COLOR_Bayer{p.upper()}2RGB"), f"u{bits // 8}")
    for p in ("rggb", "bggr", "gbrg", "grbg")
    for bits in (8, 16)
}
_YUV_PACKED = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
_YUV_PLANES = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
COLOR_ENCODINGS = (*_NAMED, "8UC1", "8UC3", "8UC4", "16UC1", *_BAYER, *_YUV_PACKED, *_YUV_PLANES)
"""Encodings that ``decode_color`` takes; 8UC3 and 8UC4 are in OpenCV's order, BGR(A)."""
DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1", "64FC1")
"""Encodings that ``decode_depth`` takes: 16 bits are millimetres, floats are metres."""
NO_DEPTH_U16 = 65535
"""16-bit depth that overflowed: no measurement."""
MAX_DEPTH_M = 1e5
"""Depth from which on it is no measurement, m: some drivers send the largest float."""
_PNG = b"\x89PNG\r\n\x1a\n"
_COMPRESSED_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
"""Pillow's names of the compressed formats that are decoded."""
_COMPRESSED_DEPTH_HEADER = 12
"""Bytes before the PNG in an image of compressed_depth_image_transport."""


class DecodeError(MessageError):
    """Refuses an image; the text names its encoding or size, what was wanted and the way out."""


def _layout(encoding: str) -> tuple[str, int] | None:
    """Give dtype (without byte order) and channels of an encoding with interleaved channels.

    None: it is no such encoding.
    """
    if encoding in _NAMED:
        return _NAMED[encoding]
    if encoding in _BAYER:
        return _BAYER[encoding][1], 1
    if encoding in _YUV_PACKED:
        return "u1", 2
    generic = re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)C([1-4])", encoding)
    return (_GENERIC[generic[1]], int(generic[2])) if generic else None


def view(
    data: Any, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> Shaped[np.ndarray, "H W ..."]:
    """View the bytes of a sensor_msgs/Image as an array, in this machine's byte order.

    It is a view of ``data`` unless the byte order differs.

    Args:
        data: bytes, memoryview, array.array or u8 array.
        encoding: ROS's or OpenCV's name of the encoding.
        height: rows, px.
        width: columns, px.
        step: bytes per row; 0: rows without padding.
        is_bigendian: byte order of values wider than one byte.

    Raises DecodeError: the encoding is unknown, or there are too few bytes.
    """
    layout = _layout(encoding)
    if layout is None:
        raise DecodeError(
            f"encoding {encoding!r} is not known; these work:"
            f" {', '.join(dict.fromkeys(COLOR_ENCODINGS + DEPTH_ENCODINGS))}"
            " and the OpenCV names 8UC1 .. 64FC4. Republish the image in one of them"
        )
    kind, channels = layout
    item = int(kind[1:])
    flat = np.frombuffer(data, np.uint8)
    row, step = width * channels * item, step or width * channels * item
    if height < 1 or width < 1 or step < row or len(flat) < (height - 1) * step + row:
        raise DecodeError(
            f"a {encoding} image of {width}x{height} px with step {step} has {len(flat)} bytes;"
            f" wanted a step of at least {row} and {(height - 1) * max(step, row) + row} bytes: the"
            " publisher fills its message wrongly"
        )
    strides = (step, channels * item, item)[: 3 if channels > 1 else 2]
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    # This strided view takes a step that is no multiple of the item size, as padded rows may have.
    array: np.ndarray = np.ndarray(
        shape, np.dtype((">" if is_bigendian else "<") + kind), flat, 0, strides
    )
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def decode_color(
    data: Any, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of a raw colour image to RGB; a view where they are RGB already.

    16-bit values keep their upper 8 bits. Arguments as of ``view``.

    Raises DecodeError: the encoding is none of COLOR_ENCODINGS, or there are too few bytes.
    """
    if encoding not in COLOR_ENCODINGS:
        raise DecodeError(
            f"colour image in encoding {encoding!r}; these work: {', '.join(COLOR_ENCODINGS)}."
            " Republish the image in one of them (image_proc), or name another topic"
        )
    if encoding in _YUV_PLANES:
        if height % 2 or width % 2:
            raise DecodeError(
                f"a {encoding} image of {width}x{height} px: wanted even width and height"
            )
        planes = view(data, "mono8", height * 3 // 2, width, step)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(planes), _YUV_PLANES[encoding]))
    raw = view(data, encoding, height, width, step, is_bigendian)
    if encoding in _YUV_PACKED:
        if width % 2:
            raise DecodeError(f"a {encoding} image of {width}x{height} px: wanted an even width")
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(raw), _YUV_PACKED[encoding]))
    if raw.dtype != np.uint8:
        raw = (raw >> 8).astype(np.uint8)
    if encoding in _BAYER:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(raw), _BAYER[encoding][0]))
    if raw.ndim == 2:
        return np.repeat(raw[:, :, None], 3, axis=2)
    return raw[:, :, :3] if encoding.startswith("rgb") else np.ascontiguousarray(raw[:, :, 2::-1])


def decode_depth(
    data: Any, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> Float32[np.ndarray, "H W"]:
    """Decode the bytes of a raw depth image to metres, 0 where there is no measurement.

    Arguments as of ``view``.

    Raises DecodeError: the encoding is none of DEPTH_ENCODINGS, or there are too few bytes.
    """
    if encoding not in DEPTH_ENCODINGS:
        raise DecodeError(
            f"depth image in encoding {encoding!r}; wanted 16UC1 (millimetres) or 32FC1 (metres),"
            " as REP-118 says"
        )
    return depth_to_metres(view(data, encoding, height, width, step, is_bigendian))


def depth_to_metres(raw: Shaped[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Convert 16-bit millimetres or float metres to f32 metres.

    0 (none), 65535 (overflow), NaN, negative values and those of MAX_DEPTH_M and more become 0.

    Raises DecodeError: another dtype.
    """
    if raw.dtype == np.uint16:
        depth = np.asarray(np.multiply(raw, np.float32(0.001), dtype=np.float32))
        if raw.max(initial=0) == NO_DEPTH_U16:
            depth[raw == NO_DEPTH_U16] = 0.0
        return depth
    if raw.dtype.kind != "f":
        raise DecodeError(
            f"depth of type {raw.dtype}: wanted uint16 (millimetres) or a float (metres)"
        )
    with np.errstate(over="ignore"):
        depth = raw.astype(np.float32)
    depth[~((depth > 0) & (depth < MAX_DEPTH_M))] = 0.0  # NaN too
    return depth


def check_depth_shape(got: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    """Check the (H, W) of a depth image against that of its colour image, where it is known.

    Raises MessageError: they differ.
    """
    if wanted is not None and got != wanted:
        raise MessageError(
            f"depth is {got[1]}x{got[0]} px, the image {wanted[1]}x{wanted[0]} px: it is not"
            " registered to colour. Publish depth registered to colour (depth_image_proc's register"
            " node, or the camera driver's align option)"
        )


def _has_whole_chunks(data: UInt8[np.ndarray, "B"]) -> bool:
    """Tell whether all chunks of a PNG lie within its bytes; True for other formats.

    OpenCV allocates what a chunk declares, up to 2 GiB, before it looks for the bytes.
    """
    if data[: len(_PNG)].tobytes() != _PNG:
        return True
    at, name = len(_PNG), b""
    while at < len(data) and name != b"IEND":  # what follows the last chunk is not read
        length = int.from_bytes(data[at : at + 4].tobytes(), "big")
        name = data[at + 4 : at + 8].tobytes()
        at += 12 + length  # its length, its name, its bytes and their checksum
    return at <= len(data)


def _decode_compressed(
    data: Any, mode: int, limits: Limits, shape: tuple[int, int] | None = None
) -> np.ndarray | None:
    """Decode compressed bytes with OpenCV; None: no known image.

    The header is read first: a few kilobytes can hold gigabytes of one colour. Formats whose header
    can't be read so are not decoded.

    Args:
        data: the bytes.
        mode: of cv2.imdecode.
        limits: bounds of the size.
        shape: (H, W) of depth, where it is known.

    Raises MessageError: the image is larger than allowed, or has not that shape.
    """
    flat = np.frombuffer(data, np.uint8)
    try:
        with PIL.Image.open(io.BytesIO(flat.tobytes()), formats=_COMPRESSED_FORMATS) as image:
            width, height = image.size
    except PIL.Image.DecompressionBombError as e:
        raise MessageError(f"compressed image: {e} (parameter limits.pixels)") from e
    except Exception:  # Pillow's readers raise many kinds on damaged bytes
        return None
    check_image_size(width, height, limits)
    check_depth_shape((height, width), shape)
    if not _has_whole_chunks(flat):
        return None
    try:
        return cv2.imdecode(flat, mode)
    except cv2.error:
        return None


def decode_compressed_color(
    data: Any, format: str, limits: Limits = DEFAULT_LIMITS
) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of a sensor_msgs/CompressedImage (JPEG, PNG) to RGB.

    Raises MessageError: OpenCV cannot decode them, or the image is too large.
    """
    image = _decode_compressed(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, limits)
    if image is None:
        raise DecodeError(
            f"compressed image of format {format!r}, {len(data)} bytes: OpenCV cannot decode it;"
            " wanted jpeg or png"
        )
    # image_transport gives its encoder BGR, and some cameras RGB: the format names which.
    return np.asarray(
        image if "compressed rgb" in format else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    )


def decode_compressed_depth(
    data: Any,
    format: str,
    limits: Limits = DEFAULT_LIMITS,
    shape: tuple[int, int] | None = None,
) -> Float32[np.ndarray, "H W"]:
    """Decode the bytes of a compressed depth image to metres.

    It is ``compressedDepth`` of image_transport_plugins (a header of 12 bytes; 16UC1 as PNG in mm,
    32FC1 as PNG of quantised inverse depth), or a plain 16-bit PNG in mm.

    Args:
        data: the bytes.
        format: of the message.
        limits: bounds of the size.
        shape: (H, W) that it must have; None: any.

    Raises MessageError: RVL or another format, or the image is too large or has not that shape.
    """
    flat = np.frombuffer(data, np.uint8)
    transport, rvl = "compressedDepth" in format, "rvl" in format.lower()
    body = flat[_COMPRESSED_DEPTH_HEADER:] if transport else flat
    raw = None if rvl else _decode_compressed(body, cv2.IMREAD_UNCHANGED, limits, shape)
    if raw is None or raw.ndim != 2 or raw.dtype != np.uint16:
        got = (
            "RVL" if rvl else "not an image" if raw is None else f"{raw.dtype} of shape {raw.shape}"
        )
        raise DecodeError(
            f"compressed depth of format {format!r}, {len(flat)} bytes: got {got}, wanted a 16-bit"
            " single-channel PNG (compressedDepth with png, or plain). Set the publisher's"
            " compressed_depth format to png, or use the raw topic"
        )
    if transport and format.startswith("32FC1"):
        _, quant_a, quant_b = struct.unpack("<iff", flat[:_COMPRESSED_DEPTH_HEADER].tobytes())
        with np.errstate(divide="ignore"):
            metres = np.float32(quant_a) / (raw.astype(np.float32) - np.float32(quant_b))
        metres[raw == 0] = 0.0
        return depth_to_metres(metres)
    return depth_to_metres(raw)


def depth_to_millimetres(depth: Float32[np.ndarray, "H W"]) -> UInt16[np.ndarray, "H W"]:
    """Convert metres to rounded millimetres; 0 where unknown, negative, NaN or over 65.534 m."""
    mm = np.rint(depth * np.float32(1000.0))
    return np.where((mm > 0) & (mm < NO_DEPTH_U16), mm, 0).astype(np.uint16)
