"""Make text from outside fit for logs, diagnostics and answers: one line, no control characters."""

from __future__ import annotations

MAX_CHARS = 1000
"""Longest text that is written whole; a sentence of ours has a few hundred characters."""
_KEPT_END = 100
"""Characters of the end that stay where a text is shortened: the way out stands there."""


def plain(text: str, max_chars: int = MAX_CHARS) -> str:
    """Escape what is not printable, and shorten the middle of what is too long.

    A newline would forge a line of the log, and an escape sequence reaches the terminal.

    >>> plain("map\\n[ERROR] all is lost")
    'map\\\\n[ERROR] all is lost'
    """
    if len(text) > max_chars:
        left_out = len(text) - max_chars
        head, tail = text[: max_chars - _KEPT_END], text[len(text) - _KEPT_END :]
        text = f"{head} ... ({left_out} characters left out) ... {tail}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    """Return the escape sequence of one character that is not printable."""
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
