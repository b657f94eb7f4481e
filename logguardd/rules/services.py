"""Destination ports of services by the names that rule files use (IANA Service Name and Port Number Registry)."""

from __future__ import annotations

from types import MappingProxyType

#: Ports by service name; ``[detection] services`` in the configuration adds to them or changes them.
SERVICES = MappingProxyType(
    {
        "ftp": 21,
        "ssh": 22,
        "telnet": 23,
        "smtp": 25,
        "dns": 53,
        "http": 80,
        "pop3": 110,
        "ntp": 123,
        "imap": 143,
        "snmp": 161,
        "ldap": 389,
        "https": 443,
        "smtps": 465,
        "submissions": 465,
        "submission": 587,
        "ldaps": 636,
        "domain-s": 853,
        "ftps": 990,
        "imaps": 993,
        "pop3s": 995,
        "socks": 1080,
        "openvpn": 1194,
        "mssql": 1433,
        "mysql": 3306,
        "rdp": 3389,
        "sieve": 4190,
        "sip": 5060,
        "sips": 5061,
        "xmpp": 5222,
        "postgresql": 5432,
        "vnc": 5900,
        "redis": 6379,
        "http-alt": 8080,
        "wireguard": 51820,
    }
)
