"""What a configuration needs of this machine before it can be run: rules that load, certificates that fit.

check-config does this without starting anything; the daemon does it at start and on reload.
"""

from __future__ import annotations

import resource
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from logguardd import rules as rule_sets
from logguardd import urls
from logguardd.config import examine_rules
from logguardd.detection import ENDPOINT
from logguardd.errors import ConfigError, RuleError
from logguardd.jails import Jail
from logguardd.limiter.connection import Server
from logguardd.listeners.tls_context import TlsSettings, build_context
from logguardd.notation import printable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from logguardd.config.settings import Config
    from logguardd.rules import RuleSet

#: Files that the daemon has open beside the senders' connections, generously: databases, listeners, followers.
_OWN_FILES = 256


class Findings(NamedTuple):
    """What ``check`` found: ``errors`` and ``warnings``, a line each, and the rules if they load."""

    errors: list[str]
    warnings: list[str]
    rules: RuleSet | None


def check(config: Config, *, skip: Iterable[str] = ()) -> Findings:
    """Find everything that is wrong, without raising; ``skip`` names sections that are known to be wrong."""
    skip = set(skip)
    errors: list[str] = []
    warnings: list[str] = []
    rules = None
    if "detection" not in skip:
        try:
            rules, warnings = load_rules(config)
        except ConfigError as error:
            errors += str(error).split("\n")
    if config.tls.certificate and "tls" not in skip:
        try:
            _, more = tls_context(config)
        except ConfigError as error:
            errors += str(error).split("\n")
        else:
            warnings += more
    if "archive" not in skip:
        errors += _unreadable(config)
    if "limiter" not in skip and not config.limiter.url.startswith("memory:"):
        try:
            Server(config.limiter.url)  # reads the certificate files that the URL names, connects nowhere
        except ConfigError as error:
            errors += [f"{config.where('limiter', 'url')}: {line}" for line in str(error).split("\n")]
    return Findings(errors, warnings, rules)


def _unreadable(config: Config) -> list[str]:
    """Return a line for each file that the archive's URL names and that cannot be read."""
    errors = []
    for name, path in urls.files(config.archive.url).items():
        try:
            Path(path).open("rb").close()
        except OSError as error:
            errors.append(printable(f"{config.where('archive', 'url')}: {name}: {path}: {error.strerror}"))
    return errors


def load_rules(config: Config) -> tuple[RuleSet, list[str]]:
    """Read the configuration's rule files, run their examples, and hold the jails against them.

    Return the rules and warnings. Raise ConfigError with a line for each error in the files, or else for each name among
    a jail's hits that nothing bears.
    """
    where = config.where("detection", "rules")
    files, unreadable = examine_rules(config.detection.rules)
    errors = [f"{where}: {line}" for line in unreadable]
    try:
        rules = rule_sets.load(files, config.detection.services)
    except RuleError as error:
        raise ConfigError("\n".join([*errors, *map(printable, str(error).split("\n"))])) from None
    if errors:
        raise ConfigError("\n".join(errors))
    errors, warnings = _idle_jails(config, rules)
    if errors:
        raise ConfigError("\n".join(errors))
    if not rules.rules:
        warnings.append(f"{where}: there are no rules; nothing will be detected")
    return rules, warnings


def _idle_jails(config: Config, rules: RuleSet) -> tuple[list[str], list[str]]:
    """Return errors for jails of the file, and warnings for shipped ones, whose hits can never come."""
    known = {rule.name for rule in rules.rules}.union(*(rule.tags for rule in rules.rules), {"*", ENDPOINT})
    errors: list[str] = []
    warnings: list[str] = []
    for name, jail in config.jail.items():
        for hit in jail.hits:
            if hit not in known and jail.enabled:
                near = get_close_matches(hit, sorted(known - {"*"}), n=1, cutoff=0.0)
                hint = f', did you mean "{near[0]}"?' if near else ""
                allowed = 'a tag or the name of a loaded rule, or "*"'
                line = f'{config.where("jail", name, "hits")}: no rule bears "{hit}"{hint}; allowed: {allowed}'
                (errors if ("jail", name) in config.lines else warnings).append(line)
    return errors, warnings


def jails(config: Config) -> tuple[Jail, ...]:
    """Return the jails that are enabled, as the core takes them."""
    return tuple(
        Jail(
            name,
            hits=jail.hits,
            group_by=jail.group_by,
            window=jail.window,
            threshold=jail.threshold,
            ban=jail.ban,
            escalation=jail.escalation,
            max_ban=jail.max_ban,
            ipv6_prefix=jail.ipv6_prefix,
        )
        for name, jail in config.jail.items()
        if jail.enabled
    )


def allow_connections(config: Config) -> list[str]:
    """Let this process open as many files as listen.max_connections wants; return a warning if it may not.

    Container engines and shells often start a program with a soft limit of 1024 and a far higher hard one (getrlimit(2)).
    Beyond the soft one a connection would be closed without being counted.
    """
    listen = config.listen
    listeners = len(listen.tcp) + len(listen.tls) + len(listen.relp)
    wanted = listeners * listen.max_connections + _OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == wanted:
        return []
    where = config.where("listen", "max_connections")
    takes = f"{listeners * listen.max_connections} connections over all listeners take {wanted} open files"
    advice = "lower it or raise the limit (LimitNOFILE= in a unit, --ulimit nofile= of a container)"
    return [f"{where}: {takes}, and this process may have {hard}; {advice}"]


def tls_context(config: Config) -> tuple[ssl.SSLContext, list[str]]:
    """Return the TLS listeners' context and warnings; raise ConfigError naming file and line, key and what is wrong."""
    tls = config.tls
    try:
        context, warnings = build_context(
            TlsSettings(tls.certificate, tls.private_key, tls.client_ca, tls.permitted_peers)
        )
    except ConfigError as error:
        raise ConfigError(_placed(config, str(error))) from None
    return context, [_placed(config, warning) for warning in warnings]


def _placed(config: Config, message: str) -> str:
    """Put file and line before a message that begins with its key."""
    key, _, rest = message.partition(": ")
    return printable(f"{config.where(*key.split('.'))}: {rest}")
