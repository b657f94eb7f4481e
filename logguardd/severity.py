"""Syslog severities and facilities (RFC 5424 section 6.2.1) and the severities of rules."""

from __future__ import annotations

#: Keywords of the numerical severities 0..7, as rsyslog's ``syslogseverity-text`` prints them.
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

#: Keywords of the numerical facilities 0..23, as rsyslog's ``syslogfacility-text`` prints them.
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news",
    "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip

#: Severities of rules and alerts, least first. A rule of severity ``info`` is archived, but "*" in a jail's hits does
#: not count it: only jails that name its tag do.
RULE_SEVERITIES = ("info", "low", "medium", "high", "critical")
