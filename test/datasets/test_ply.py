"""PLY in every encoding, and broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vos_ros.datasets.ply import ply_bytes, read_columns, read_vertices

POINTS = np.array([[1.5, -2.0, 3.25], [0.0, 1e-3, -7.0], [4.0, 5.0, 6.0]])


def header(kind: str, scalar: str, extra: str = "property uchar red\n") -> str:
    props = "".join(f"property {scalar} {a}\n" for a in "xyz")
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    first = f"ply\nformat {kind} 1.0\ncomment made by hand\nelement vertex 3\n"
    return f"{first}{props}{extra}{faces}end_header\n"


@pytest.mark.parametrize(
    ("kind", "scalar", "dtype"),
    [
        ("binary_little_endian", "float", "<f4"),
        ("binary_big_endian", "float32", ">f4"),
        ("binary_little_endian", "double", "<f8"),
    ],
)
def test_binary(tmp_path: Path, kind: str, scalar: str, dtype: str) -> None:
    rows = np.zeros(3, np.dtype([("p", dtype, 3), ("red", "u1")]))
    rows["p"] = POINTS
    (tmp_path / "a.ply").write_bytes(
        header(kind, scalar).encode() + rows.tobytes() + b"\x03\0\0\0\0\1\0\0\0\2\0\0\0"
    )
    got = read_vertices(tmp_path / "a.ply")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, POINTS, rtol=1e-6)


def test_ascii(tmp_path: Path) -> None:
    body = "".join(f"{x} {y} {z} 9\n" for x, y, z in POINTS) + "3 0 1 2\n"
    (tmp_path / "a.ply").write_text(header("ascii", "float") + body)
    np.testing.assert_allclose(read_vertices(tmp_path / "a.ply"), POINTS, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("not a ply", "not a PLY file"),
        (header("ascii", "float") + "1 2 3 4\n", "cut short, got 1 of 3"),
        (header("binary_little_endian", "float") + "abc", "cut short, got 0 of 3"),
        (header("binary_pdp_endian", "float"), "'binary_pdp_endian'"),
        (header("ascii", "half"), "'half x' cannot be read"),
        (
            header("ascii", "float").replace("property float z\n", ""),
            "wanted one of .* with x, y and z",
        ),
        (
            header("ascii", "float").replace("element vertex", "element other 2\nelement vertex"),
            "wanted it first",
        ),
    ],
)
def test_broken_files(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_vertices(tmp_path / "a.ply")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    columns = {
        "x": POINTS[:, 0].astype(np.float32),
        "y": POINTS[:, 1].astype(np.float32),
        "z": POINTS[:, 2].astype(np.float32),
        "weight": np.array([1.5, 2.0, 1e300]),
        "hits": np.array([1, -2, 3], np.int32),
    }
    (tmp_path / "a.ply").write_bytes(ply_bytes(columns))
    got = read_columns(tmp_path / "a.ply")
    assert list(got) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(got[name], column)
        assert got[name].dtype == column.dtype
    np.testing.assert_allclose(read_vertices(tmp_path / "a.ply"), POINTS, rtol=1e-6)
