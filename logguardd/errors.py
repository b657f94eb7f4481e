"""The errors of logguardd, one tree.

Every message is written for an operator: it names the file, line, key, URL or peer that is at fault, says what is
wrong and what is allowed. Nothing below LogguarddError is ever shown with a traceback.
"""

from __future__ import annotations


class LogguarddError(Exception):
    """The root: an expected failure with a message for the operator (exit code 1 when it ends a program)."""


class ConfigError(LogguarddError):
    """A configuration file, key, certificate, URL or command-line value is wrong (exit code 2)."""


class RuleError(ConfigError):
    """A rule file or a pattern is wrong; the message names file, rule and column (exit code 2)."""


class UnavailableError(LogguarddError):
    """A server or device cannot be used now (PostgreSQL, Redis, a full disk): keep the work and try again later."""


class FirewallError(LogguarddError):
    """nft, ipset or iptables refused; the message is theirs, together with the command that was run."""


class FeedError(LogguarddError):
    """A line of the ban feed is not valid; the message says which line and why."""
