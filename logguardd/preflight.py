"""What a configuration needs of this machine before it can be run: rules that load, certificates that fit.

check-config does this without starting anything; the daemon does it at start and on reload.
"""

from __future__ import annotations

import stat
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from logguardd import open_files, urls
from logguardd import rules as rule_sets
from logguardd.config import doubtful, examine_rules
from logguardd.detection import ENDPOINT
from logguardd.errors import ConfigError
from logguardd.jails import Jail
from logguardd.limiter.connection import Server
from logguardd.listeners.tls_context import TlsSettings, examine
from logguardd.notation import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from logguardd.config import Problem
    from logguardd.config.settings import Config
    from logguardd.rules import RuleSet


class Findings(NamedTuple):
    """What ``check`` found: ``errors`` and ``warnings``, a line each, and the rules if they load."""

    errors: list[str]
    warnings: list[str]
    rules: RuleSet | None


def check(config: Config, problems: Sequence[Problem] = ()) -> Findings:
    """Find everything that is wrong, without raising, but for what ``problems`` of the file leave in doubt."""

    def right(*path: str) -> bool:
        return not doubtful(problems, *path)

    errors: list[str] = []
    warnings: list[str] = []
    rules = None
    if right("detection", "rules"):
        services = config.detection.services if right("detection", "services") else None
        names = {name for name in config.jail if right("jail", name, "hits") and right("jail", name, "enabled")}
        rules, errors, warnings = _examine_rules(config, services, names)
    errors += _examine_tls(config, right, warnings)
    if right("archive", "url"):
        errors += _unreadable(config)
    if right("limiter", "url") and not config.limiter.url.startswith("memory:"):
        try:
            Server(config.limiter.url)  # reads the certificate files that the URL names, connects nowhere
        except ConfigError as error:
            errors += [f"{config.where('limiter', 'url')}: {line}" for line in str(error).split("\n")]
    warnings += _missing_folders(config, right)
    return Findings(errors, warnings, rules)


def _missing_folders(config: Config, right: Callable[..., bool]) -> list[str]:
    """Return a warning for each key of the file that names a place in a folder that is not there, or not yet."""
    files = {("http", "control"): config.http.control}
    if config.firewall.backend == "print" and config.firewall.output != "-":
        files["firewall", "output"] = config.firewall.output
    for name, url in (("journal", config.journal.url), ("archive", config.archive.url)):
        if url.startswith("sqlite:"):
            files[name, "url"] = urls.sqlite_path(url)
    warnings = []
    for key, file in files.items():
        folder = Path(file).parent
        try:
            there = key not in config.lines or not right(*key) or stat.S_ISDIR(folder.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError:  # the daemon's user may see more than we
            there = True
        if not there:
            what = "there is no such folder; it must be there when logguardd starts"
            warnings.append(printable(f"{config.where(*key)}: {folder}: {what}"))
    return warnings


def _examine_tls(config: Config, right: Callable[..., bool], warnings: list[str]) -> list[str]:
    """Return what is wrong with the certificates; add to ``warnings``."""
    tls = config.tls
    pair = right("tls", "certificate") and right("tls", "private_key")
    if pair and not tls.certificate:  # nothing of it is used
        return []
    asked = tls.permitted_peers if tls.client_ca else ()  # without the other, the file's reader has said so
    certificate, key = (tls.certificate, tls.private_key) if pair else ("", "")
    _, errors, more = examine(TlsSettings(certificate, key, tls.client_ca, asked))
    warnings += [_placed(config, line) for line in more]
    return [_placed(config, line) for line in errors]


def _unreadable(config: Config) -> list[str]:
    """Return a line for each file that the archive's URL names and that cannot be read."""
    errors = []
    for name, path in urls.files(config.archive.url).items():
        try:
            Path(path).open("rb").close()
        except OSError as error:
            errors.append(printable(f"{config.where('archive', 'url')}: {name}: {path}: {error.strerror}"))
    return errors


def load(config: Config) -> tuple[RuleSet, list[str]]:
    """Return the rules and warnings about them, as ``load_rules``; the certificates are tried, too."""
    rules, errors, warnings = _examine_rules(config, config.detection.services, config.jail)
    errors += _examine_tls(config, lambda *_: True, [])
    if errors:
        raise ConfigError("\n".join(errors))
    return rules, warnings


def load_rules(config: Config) -> tuple[RuleSet, list[str]]:
    """Read the configuration's rule files, run their examples, and hold the jails against them.

    Return the rules and warnings. Raise ConfigError with a line for everything that is wrong.
    """
    rules, errors, warnings = _examine_rules(config, config.detection.services, config.jail)
    if errors:
        raise ConfigError("\n".join(errors))
    return rules, warnings


def _examine_rules(
    config: Config, services: Mapping[str, int] | None, jails: Container[str]
) -> tuple[RuleSet, list[str], list[str]]:
    """Return the rules that can be tried, errors and warnings; ``services`` as rules.examine, ``jails`` those to look at."""
    where = config.where("detection", "rules")
    files, unreadable = examine_rules(config.detection.rules)
    errors = [f"{where}: {line}" for line in unreadable]
    warnings: list[str] = []
    rules, wrong, names = rule_sets.examine(files, services)
    errors += map(printable, wrong)
    if names is not None and not unreadable:
        idle, warnings = _idle_jails(config, names, jails)
        errors += idle
    if not errors and not rules.rules:
        warnings.append(f"{where}: there are no rules; nothing will be detected")
    return rules, errors, warnings


def _idle_jails(config: Config, names: frozenset[str], jails: Container[str]) -> tuple[list[str], list[str]]:
    """Return errors for jails of the file, and warnings for shipped ones, whose hits can never come."""
    known = names | {"*", ENDPOINT}
    errors: list[str] = []
    warnings: list[str] = []
    for name, jail in config.jail.items():
        for hit in jail.hits:
            if hit not in known and jail.enabled and name in jails:
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
    wanted = listeners * listen.max_connections + open_files.OWN
    have = open_files.allow(wanted)
    if have >= wanted:
        return []
    where = config.where("listen", "max_connections")
    takes = f"{listeners * listen.max_connections} connections over all listeners take {wanted} open files"
    advice = "lower it or raise the limit (LimitNOFILE= in a unit, --ulimit nofile= of a container)"
    return [f"{where}: {takes}, and this process may have {have}; {advice}"]


def _placed(config: Config, message: str) -> str:
    """Put file and line before a message that begins with its key."""
    key, _, rest = message.partition(": ")
    return printable(f"{config.where(*key.split('.'))}: {rest}")
