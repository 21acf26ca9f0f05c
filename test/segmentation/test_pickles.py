"""Pickles read without being run."""

from __future__ import annotations

import pickle

import pytest

from vos_ros.segmentation.pickles import Opaque, PickleError, read_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_every_protocol(protocol: int) -> None:
    shared = ["s"]
    value = {
        "int": [0, 255, 256, 70000, -5, 2**40, -(2**200), True, False],
        "float": [0.5, -1e300],
        "none": None,
        "text": ["", "ä\n\\", "x" * 300, "y" * 70000],
        "bytes": [b"", b"\x00\xff", b"z" * 300],
        "nest": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": {}}, [[]]),
        "shared": [shared, shared],
        5: "number",
    }
    if protocol < 3:
        del value["bytes"]  # a call in these
    got = read_pickle(pickle.dumps(value, protocol))
    assert got == value and got["shared"][0] is got["shared"][1]


def test_dicts_keep_plain_keys_only() -> None:
    assert read_pickle(pickle.dumps({"a": 1, (1, 2): 2, None: 3})) == {"a": 1, None: 3}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x02.",
        b"\x80\x02N",
        b"\x80\x02NN.",
        b"(.",
        b"a.",
        b"NNs.",
        b"t.",
        b"e.",
        b"Na.",
        b"0.",
        b"h\x05.",
        b"I1\nN\x86R.",
        b"\x80\x63N.",
        b"cx\n.",
        b"\x82\x01.",
        b"\x97.",
        b"S'open\n.",
        b"Ix\n.",
        b"}(Nu.",
        b"}]]s.",
        b"P1\n.",
        b"\x88\x81.",
        b"(ix\ny\nb.",
        b"\x8a\xff1.",
    ],
    ids=repr,
)
def test_damaged_pickles(data: bytes) -> None:
    try:
        value = read_pickle(data)
    except PickleError:
        return
    assert isinstance(value, dict | list | Opaque) or value is None, "whatever comes out is a value"


def test_no_more_instructions_than_allowed() -> None:
    assert read_pickle(b"N0" * 50 + b"N.", most_instructions=102) is None
    with pytest.raises(PickleError, match="more than 101 instructions"):
        read_pickle(b"N0" * 50 + b"N.", most_instructions=101)
