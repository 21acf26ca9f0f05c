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


ONE_LIST = b"]q\x00(" + b"K\x01" * 150_000 + b"e0"
"""Makes a list of 150,000 numbers, and leaves it in memo 0."""


@pytest.mark.parametrize(
    "call",
    [
        b"ctorch\nSize\nh\x00\x85R",
        b"ccollections\nOrderedDict\nh\x00\x85R",
        b"(h\x00ix\ny\n",
        b"(cx\ny\nh\x00o",
        b"cx\ny\nh\x00\x85\x81",
        b"cx\ny\n]h\x00\x86R",
    ],
    ids=["size", "dict", "instance", "object", "new object", "second argument"],
)
def test_one_list_is_not_handed_to_many_calls(call: bytes) -> None:
    """Each call may copy it: 20,000 of them would take 48 GB."""
    assert isinstance(read_pickle(ONE_LIST + call + b"."), Opaque)
    with pytest.raises(PickleError, match="copy more than 2000000 values"):
        read_pickle(ONE_LIST + (call + b"0") * 20_000 + b"N.")


def test_one_tuple_is_not_handed_to_many_references() -> None:
    data = b"(" + b"K\x01" * 150_000 + b"tq\x000" + b"h\x00Q0" * 20_000 + b"N."
    with pytest.raises(PickleError, match="copy more than 2000000 values"):
        read_pickle(data, resolve=len)


def test_calls_of_calls_have_names_of_bounded_length() -> None:
    chain = b"cx\ny\n" + b")R" * 100_000 + b"."
    assert read_pickle(chain) == Opaque("x.y()")
    with pytest.raises(PickleError, match="names a class by 300001 characters"):
        read_pickle(b"cx\n" + b"y" * 300_000 + b"\n)R.")


def test_no_more_instructions_than_allowed() -> None:
    assert read_pickle(b"N0" * 50 + b"N.", max_instructions=102) is None
    with pytest.raises(PickleError, match="more than 101 instructions"):
        read_pickle(b"N0" * 50 + b"N.", max_instructions=101)
