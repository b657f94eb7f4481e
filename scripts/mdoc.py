"""Text to mdoc(7), the language of the man pages."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 78
_SPECIAL = {"\\": r"\e", "-": r"\-", '"': r"\(dq", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", "…": "..."}
#: Sentences end a line, so that mandoc and groff know them.
_SENTENCE = re.compile(r"(?<=[A-Za-z0-9)\]}\"`*][.!?]) +(?=[A-Z`\"])")
_CODE = re.compile(r"`([^`]+)`")
#: Words that are not to be hyphenated: who copies them would copy the hyphen.
_WHOLE = re.compile(r"(?<!\S)(?=\S*(?:/|logguard|systemd))(?=\S)")


def escape(text: str) -> str:
    """Return ``text`` so that it stands in a page as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def argument(text: str) -> str:
    """Return ``text`` as one argument of a macro, never taken for a macro itself."""
    escaped = escape(text)
    return rf"\&{escaped}" if len(text) < 4 or not text.isalnum() else escaped  # noqa: PLR2004 - macros have 2 or 3


def prose(text: str, *, emphasis: Iterable[str] = ()) -> list[str]:
    """Return lines of running text: `code` becomes bold, the words of ``emphasis`` are underlined."""
    found: list[str] = []
    words = "|".join(map(re.escape, emphasis))
    for sentence in _SENTENCE.split(" ".join(text.split())):
        parts = _CODE.split(sentence)
        plain = [_underlined(escape(_WHOLE.sub("\1", part)), words) for part in parts[::2]]
        bold = [rf"\fB{escape(_WHOLE.sub(chr(1), part))}\fP".replace(" ", "\0") for part in parts[1::2]] + [""]
        line = "".join(piece for pair in zip(plain, bold, strict=True) for piece in pair)
        found += _broken(line.replace("\1", r"\%"))
    return found


def _broken(text: str) -> list[str]:
    """Break a line where it has blanks; a NUL is a blank that is kept if that is possible."""
    lines: list[str] = []
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        lines += textwrap.wrap(line.replace("\0", " "), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [rf"\&{line}" if line.startswith((".", "'")) else line for line in lines]


def _underlined(text: str, words: str) -> str:
    return re.sub(rf"\b({words})\b", r"\\fI\1\\fP", text) if words else text


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of ``text``, which blank lines part."""
    return [part for part in re.split(r"\n[ \t]*\n", text.strip()) if part.strip()]
