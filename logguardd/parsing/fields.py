"""What the formats have in common: the fields they fill, PRI, hostname, tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fields(NamedTuple):
    """What a format's parser read from the text after the PRI; None is what the message does not say.

    ``timestamp`` is in microseconds since the epoch. ``parse_error`` is None or says what did not parse.
    """

    timestamp: int | None
    hostname: str | None
    app_name: str | None
    procid: str | None
    msgid: str | None
    msg: str
    structured_data: str | None = None
    parse_error: str | None = None


#: The texts that RFC 5424 section 6.2.1 allows for PRIVAL, without leading zeros: facility and severity.
LEVELS: Final[Mapping[str, tuple[int, int]]] = {str(value): divmod(value, 8) for value in range(192)}

#: The level of a message without PRI (RFC 3164 section 4.3.3): user.notice.
DEFAULT_LEVEL: Final = LEVELS["13"]

#: A field of RFC 5424 section 6 (HOSTNAME = NILVALUE / 1*255PRINTUSASCII ...), the shorter limits of the others waived.
FIELD: Final = "[^ ]{1,255}+"

#: A hostname before a tag: name, IPv4 or IPv6 address, syslog-ng's chains (``relay/host``). It does not end in a colon,
#: for then it is the tag of a message that has no hostname.
HOSTNAME: Final = r"""(?![-+%@])[^ \t\[\]="'{}(),;<>]{1,255}+(?<!:)"""

#: The name in a tag that ends in a colon or is followed by ``[pid]``; not CEE's cookie, a Cisco mnemonic or a number
#: such as Cisco's message count.
TAG: Final = r"""(?![@%]|\d+:)[^ \t:\[\]{}"'=<>,;]{1,255}+"""

#: What stands between the brackets after a tag.
PROCID: Final = r"[^ \[\]]{1,128}+"
