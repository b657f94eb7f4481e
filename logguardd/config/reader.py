"""One TOML document to a configuration, with everything that is wrong in it."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from logguardd.config import settings, toml_text
from logguardd.config.settings import SECTIONS, SHIPPED_JAILS, Config, Jail, keys, located
from logguardd.errors import ConfigError
from logguardd.notation import clash, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TOML_PLACE = re.compile(r"line (\d+), column (\d+)\)")
_JAIL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# sun_path of unix(7) less the NUL.
_MAX_SOCKET_PATH = 107


class Problem(NamedTuple):
    """One thing that is wrong: its line (0 for none), the path of the key that it leaves in doubt, and the whole message.

    For a key that is not known that is the key that was probably meant.
    """

    line: int
    path: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


def build(text: str, source: str) -> tuple[Config, list[Problem]]:
    """Return the configuration without what is wrong, and that, in order; ``source`` names the file in messages.

    Raises ConfigError for what is not TOML.
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        what, _, place = str(error).rpartition(" (at ") if " (at " in str(error) else (str(error), "", "")
        at = f"{source}:{text.count(chr(10)) + 1}"  # "end of document"
        if numbers := _TOML_PLACE.fullmatch(place):
            at = f"{source}:{numbers[1]}: column {numbers[2]}"
            if key := toml_text.twice(what, text.split("\n")[int(numbers[1]) - 1]):
                raise ConfigError(
                    f"{source}:{numbers[1]}: {printable(key)}: it stands here already; allowed: once"
                ) from None
        raise ConfigError(f"{at}: not TOML: {printable(what)}; allowed: TOML 1.0, see https://toml.io") from None
    except RecursionError:
        raise ConfigError(f"{source}: not TOML: brackets are nested too deep; allowed: a few levels") from None
    reader = _Reader(source, toml_text.lines(text))
    config = reader.config(document)
    reader.contradictions(config)
    return config, sorted(reader.problems)


def doubtful(problems: Iterable[Problem], *path: str) -> bool:
    """Whether one of the problems is about this key, or a table around it: then what the configuration has there means nothing."""
    wrong = {problem.path for problem in problems}
    return any(path[:length] in wrong for length in range(1, len(path) + 1))


class _Reader:
    """Builds a Config from one document and collects what is wrong with it."""

    def __init__(self, source: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self.source = source
        self.lines = lines
        self.problems: list[Problem] = []

    def wrong(self, path: Sequence[str], what: str, meant: Sequence[str] = ()) -> None:
        line = self.lines.get(tuple(path), 0)
        text = printable(f"{located(self.source, self.lines, tuple(path))}: {what}")
        self.problems.append(Problem(line, tuple(meant or path), text))

    def right(self, *paths: Sequence[str]) -> bool:
        """Whether nothing is wrong with these keys, so that they can be held against each other."""
        return not any(doubtful(self.problems, *path) for path in paths)

    def config(self, document: Mapping[str, Any]) -> Config:
        top = {key.name: key for key in keys(Config)}
        values: dict[str, Any] = {}
        jails = SHIPPED_JAILS
        for name, raw in document.items():
            if name in top:
                self.key((name,), top[name].kind, raw, values)
            elif name in SECTIONS or name == "jail":
                if not isinstance(raw, dict):
                    self.wrong([name], f"{shown(raw)} is not a table; allowed: [{name}]")
                elif name == "jail":
                    jails = jails | raw
                else:
                    values[name] = self.section(SECTIONS[name], raw, (name,))
            else:
                self.unknown((name,), (*top, *SECTIONS, "jail"))
        values["jail"] = {name: jail for name, raw in jails.items() if (jail := self.jail(name, raw))}
        return Config(**values, source=self.source, lines=self.lines)

    def jail(self, name: str, raw: object) -> Jail | None:
        path = ("jail", name)
        if not _JAIL_NAME.fullmatch(name):
            self.wrong(path, "not a name for a jail; allowed: up to 32 of a-z, 0-9, - and _")
        elif not isinstance(raw, dict):
            self.wrong(path, f"{shown(raw)} is not a table; allowed: [jail.NAME]")
        else:
            # A shipped jail is changed key by key.
            jail: Jail = self.section(Jail, SHIPPED_JAILS.get(name, {}) | raw, path)
            return jail
        return None

    def section(self, section: type, table: Mapping[str, object], path: tuple[str, ...]) -> Any:
        known = {key.name: key for key in keys(section)}
        values: dict[str, Any] = {}
        for name, raw in table.items():
            if name in known:
                self.key((*path, name), known[name].kind, raw, values)
            else:
                self.unknown((*path, name), tuple(known))
        return section(**values)

    def key(self, path: tuple[str, ...], kind: Any, raw: object, values: dict[str, Any]) -> None:
        try:
            values[path[-1]] = kind.read(raw)
        except ValueError as error:
            self.wrong(path, f"{error}; allowed: {kind.allowed}")

    def unknown(self, path: tuple[str, ...], known: tuple[str, ...]) -> None:
        name = path[-1]
        everywhere = [f"{section}.{key.name}" for section, cls in SECTIONS.items() for key in keys(cls)]
        near = get_close_matches(name, known, n=1) or [k for k in everywhere if k.partition(".")[2] == name]
        near = near or get_close_matches(name, known, n=1, cutoff=0.0) or [known[0]]
        what = "section or key" if len(path) == 1 else "key"
        meant = (*path[:-1], near[0]) if near[0] in known else near[0].split(".")
        self.wrong(path, f'unknown {what}, did you mean "{near[0]}"?; allowed: {", ".join(known)}', meant)

    def contradictions(self, config: Config) -> None:
        """Find what is wrong with keys together, each of them being right by itself."""
        self.listeners(config)
        self.certificates(config)
        urls_right = self.right(("journal", "url"), ("archive", "url"))
        if urls_right and config.journal.url == config.archive.url:
            self.wrong(["archive", "url"], "the journal has this file already; allowed: a file of its own")
        if len(config.http.control.encode()) > _MAX_SOCKET_PATH:
            self.wrong(["http", "control"], f"too long for a socket; allowed: up to {_MAX_SOCKET_PATH} bytes")
        for name, jail in config.jail.items():
            self.jail_together(("jail", name), jail)

    def jail_together(self, path: tuple[str, str], jail: Jail) -> None:
        ban, longest, group, prefix = ((*path, key) for key in ("ban", "max_ban", "group_by", "ipv6_prefix"))
        if jail.max_ban < jail.ban and self.right(ban, longest):
            self.wrong(longest, "shorter than the jail's ban; allowed: ban or longer")
        if not self.right(group):
            return
        if "port" in jail.group_by and jail.ipv6_prefix != settings.SINGLE and self.right(prefix):
            what = f"{jail.ipv6_prefix} does not go with group_by port, as a port is banned for single addresses only"
            self.wrong(prefix, f'{what}; allowed: 128, or group_by = ["address"]')
        if "address" not in jail.group_by:
            self.wrong(group, '"address" is missing; allowed: ["address"], ["address", "port"]')

    def certificates(self, config: Config) -> None:
        tls = config.tls
        certificate, client_ca = ("tls", "certificate"), ("tls", "client_ca")
        for path, wanted in ((("tls", "private_key"), tls.private_key), (("listen", "tls"), config.listen.tls)):
            if wanted and not tls.certificate and self.right(certificate):
                self.wrong(path, "there is no tls.certificate; allowed: with it only")
                break
        if config.http.follow and not (tls.certificate and tls.client_ca) and self.right(certificate, client_ca):
            missing = "client_ca, which says who may follow" if tls.certificate else "certificate"
            self.wrong(["http", "follow"], f"there is no tls.{missing}; allowed: with it only")
        if tls.permitted_peers and not tls.client_ca and self.right(client_ca):
            self.wrong(
                ["tls", "permitted_peers"], "there is no tls.client_ca to check peers with; allowed: with it only"
            )

    def listeners(self, config: Config) -> None:
        def places(*keys: str) -> list[tuple[tuple[str, str], str]]:
            found = [(("listen", key), place) for key in keys for place in getattr(config.listen, key)]
            return [each for each in found if self.right(each[0])]

        kinds = ("udp", "tcp", "tls", "relp")
        if self.right(*(("listen", kind) for kind in kinds)) and not places(*kinds):
            self.wrong(["listen"], "nothing to listen at; allowed: at least one of udp, tcp, tls, relp")
        self.apart(places("udp"))
        web = ((("http", "listen"), config.http.listen), (("http", "follow"), config.http.follow))
        self.apart([*places("tcp", "tls", "relp"), *(each for each in web if self.right(each[0]))])

    def apart(self, places: Sequence[tuple[tuple[str, str], str]]) -> None:
        """Find places that cannot be listened at together; each is a key's path and what stands there."""
        taken: list[tuple[tuple[str, str], str]] = []
        for path, place in places:
            for other, former in taken:
                if clash(place, former, together=path == other):
                    by = ".".join(other) + (f' ("{former}")' if former != place else "")
                    self.wrong(path, f'"{place}" is taken by {by}; allowed: another port')
                    break
            else:
                taken.append((path, place))
