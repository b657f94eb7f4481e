"""Who a TLS peer is by its certificate, and whether it is permitted (RFC 5425 section 5)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from logguardd.errors import ConfigError

#: Answers whether a peer with these names (lower case) and this certificate (DER) is meant.
PermittedPeer = Callable[[Sequence[str], bytes], bool]

_FINGERPRINT = re.compile(r"(?P<kind>SHA1|SHA256):(?P<hex>[0-9A-F]{2}(:?[0-9A-F]{2})*)", re.ASCII | re.IGNORECASE)
_BYTES = {"sha1": 20, "sha256": 32}
_NAME = re.compile(r"(\*\.)?[^*\x00-\x1f\x7f]{1,253}")
_UNPRINTABLE = re.compile(r"[^ -~\xa1-\U0010fffd]|[\u2028\u2029]")
_LONGEST_NAME = 253


def permitted_peer(text: str) -> PermittedPeer:
    """Return the test that an entry of ``permitted_peers`` stands for; raise ConfigError if it is none.

    A name is compared without regard to case; ``*.`` stands for exactly one left-most label (RFC 5425 section 5.2).
    Fingerprints are of the whole certificate, written as rsyslog does: ``SHA1:E1:2A:…`` or ``SHA256:…``.
    """
    match = _FINGERPRINT.fullmatch(text)
    if match is not None:
        kind = match["kind"].lower()
        digest = bytes.fromhex(match["hex"].replace(":", ""))
        if len(digest) != _BYTES[kind]:
            raise ConfigError(
                f"tls.permitted_peers: {text!r}: {match['kind']} has {_BYTES[kind]} bytes, here are {len(digest)}"
            )
        return lambda _names, der: hashlib.new(kind, der, usedforsecurity=False).digest() == digest
    if not _NAME.fullmatch(text) or text.upper().startswith(("SHA1:", "SHA256:")):
        raise ConfigError(
            f'tls.permitted_peers: {text!r}: write a name, "*.example.com", "SHA1:E1:2A:..." or "SHA256:..."'
        )
    name = _address(text.lower().rstrip("."))
    if not name.startswith("*."):
        return lambda names, _der: name in names
    parent = name[1:]
    return lambda names, _der: any(
        each.endswith(parent) and "." not in each[: -len(parent)] and len(each) > len(parent) for each in names
    )


def certificate_names(certificate: Mapping[str, Any] | None) -> list[str]:
    """Return the names in a verified certificate (SSLObject.getpeercert), the best one first.

    DNS names of the subject alternative name, then its addresses; where it has neither, the common name.
    """
    if not certificate:
        return []
    alternatives = certificate.get("subjectAltName", ())
    names = [value for kind, value in alternatives if kind == "DNS"]
    names += [_address(value) for kind, value in alternatives if kind == "IP Address"]
    if not names:
        names = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return [_UNPRINTABLE.sub("?", name)[:_LONGEST_NAME].lower().rstrip(".") for name in names]


def _address(text: str) -> str:
    """Write an address as everywhere else: OpenSSL gives 0:0:0:0:0:0:0:1."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return text
