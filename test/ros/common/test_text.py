"""Text from outside is one line of bounded length."""

from __future__ import annotations

import pytest

from vos_ros.ros.common.text import MAX_CHARS, plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("the map is up to date", "the map is up to date"),
        ("Küche, 台所, 5 °C", "Küche, 台所, 5 °C"),
        ("map\n[ERROR] all is lost", "map\\n[ERROR] all is lost"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\x00b\u202egnp.exe", "a\\x00b\\u202egnp.exe"),
        ("\ud800 alone", "\\ud800 alone"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, wanted: str) -> None:
    assert plain(text) == wanted and plain(text).isprintable()


def test_a_long_text_keeps_its_ends() -> None:
    text = plain("got " + "x" * 10**6 + ", wanted a name")
    assert len(text) < MAX_CHARS + 100
    assert text.startswith("got xxx") and text.endswith("xxx, wanted a name")
    assert f"({10**6 + 19 - MAX_CHARS} characters left out)" in text


def test_the_limit_itself_is_kept_whole() -> None:
    assert plain("x" * MAX_CHARS) == "x" * MAX_CHARS
