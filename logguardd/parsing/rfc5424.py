r"""RFC 5424: the header, strictly; and structured data to JSON.

``SYSLOG-MSG = HEADER SP STRUCTURED-DATA [SP MSG]`` (section 6). Lenient where senders are: fields may be longer than the
RFC allows, a stamp may lack its zone, and of the two spaces that rsyslog puts before a message (its ``%msg%`` begins
with one) both are taken off.
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Final

from logguardd.parsing.fields import FIELD, Fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logguardd.parsing.timestamps import Clock

#: What stands between structured data and MSG.
BEFORE_MSG: Final = r"(?:  ?\ufeff?|$)"

#: SD-ELEMENTs as far as their ends go: a ``]`` within quotes ends nothing, an escaped quote ends no value (6.3.3).
SD_ELEMENTS: Final = r"""(?:\[[^\]"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^\]"]*+)*+\])++"""

#: What structured_data returns for text that breaks the grammar.
BROKEN: Final = ""

# A stamp, or a wrong one but NILVALUE or an element where structured data belongs.
_INTENDED = re.compile(
    r"\d{1,3} (?:- |\d{4}-\d{2}-\d{2}[Tt]|(?:[^ ]{1,255}+ ){5}(?:-(?: |$)|\[[^ =\]\"]{1,255}(?:\]| [^ =\]\"]{1,255}=\")))",
    re.ASCII,
).match
_HEADER = re.compile(rf"1 ([^ ]{{1,64}}+) ({FIELD}) ({FIELD}) ({FIELD}) ({FIELD})(?: (.*)|$)").match
_DATA = re.compile(rf"(-|{SD_ELEMENTS}){BEFORE_MSG}").match

# SD-ELEMENT = "[" SD-ID *(SP SD-PARAM) "]"; SD-PARAM = PARAM-NAME "=" %d34 PARAM-VALUE %d34
_NAME = r'[^ =\]"]{1,255}+'
_VALUE = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_ELEMENT = re.compile(rf"\[({_NAME})((?: ++{_NAME}={_VALUE})*+) *+\]").match
_PARAM = re.compile(rf" ({_NAME})={_VALUE}").findall
_ESCAPED = re.compile(r'\\(["\\\]])').sub


def intended(text: str) -> bool:
    """Whether the text after the PRI begins like RFC 5424, be it of another version or wrong further on."""
    return _INTENDED(text) is not None


def parse(text: str, clock: Clock) -> Fields | None:
    """Read the text after the PRI; return None where its header is not RFC 5424's.

    Broken structured data stays in ``msg`` and sets ``parse_error``.
    """
    header = _HEADER(text)
    if header is None:
        return None
    time = clock.received_at if header[1] == "-" else clock[header[1]]
    if time is None:
        return None
    hostname, app_name, procid, msgid = (None if field == "-" else field for field in header.group(2, 3, 4, 5))
    rest = header[6] or ""
    found = _DATA(rest)
    data = structured_data(found[1]) if found else BROKEN
    error = None
    if data == BROKEN:
        data, error = None, "invalid structured data"
    msg = rest[found.end() :] if found and not error else rest
    return Fields(time, hostname, app_name, procid, msgid, msg, data, error)


def structured_data(text: str) -> str | None:
    r"""Return STRUCTURED-DATA as a JSON object ``{"id": {"name": "value"}}``, None for NILVALUE, BROKEN for broken.

    A name that repeats has the list of its values (section 6.3.3 allows it); an id that repeats has all their names.
    """
    if text == "-":
        return None
    elements: dict[str, dict[str, list[str]]] = {}
    position = 0
    while position < len(text):
        element = _ELEMENT(text, position)
        if element is None:
            return BROKEN
        position = element.end()
        params = elements.setdefault(element[1], {})
        for name, value in _PARAM(element[2]):
            params.setdefault(name, []).append(_ESCAPED(r"\1", value) if "\\" in value else value)
    return _object(
        (sd_id, _object((name, _values(values)) for name, values in params.items()))
        for sd_id, params in elements.items()
    )


def _object(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join([f"{encode_basestring(name)}: {value}" for name, value in members]) + "}"


def _values(values: list[str]) -> str:
    if len(values) == 1:
        return encode_basestring(values[0])
    return "[" + ", ".join([encode_basestring(value) for value in values]) + "]"
