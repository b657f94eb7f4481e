"""Read the configuration: TOML to frozen dataclasses, with every error of a file found and reported together."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from logguardd import urls
from logguardd.config import settings, toml_text
from logguardd.config.settings import DEFAULT_PATH, SECTIONS, SHIPPED_JAILS, Config, Jail, keys, located
from logguardd.errors import ConfigError
from logguardd.notation import clash, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "DEFAULT_PATH",
    "Config",
    "embedded",
    "examine",
    "examine_rules",
    "find",
    "load",
    "parse",
    "read",
    "read_rules",
    "reload",
    "show",
]


class Problem(NamedTuple):
    """One thing that is wrong: its line (0 for none), the path of its key, and the whole message."""

    line: int
    path: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


_MAX_FILE = 1 << 20
_TOML_PLACE = re.compile(r"line (\d+), column (\d+)\)")
_JAIL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# sun_path of unix(7) less the NUL.
_MAX_SOCKET_PATH = 107


def load(path: str) -> Config:
    """Read the file at ``path``.

    Raises ConfigError with one line for every error: ``FILE:LINE: section.key: what is wrong; allowed: what is``.
    """
    return parse(read(path), path)


def examine(path: str | None) -> tuple[Config, list[Problem]]:
    """Read the file as ``find`` does, but return its problems, in order, and a configuration without what is wrong.

    Raises ConfigError for a file that cannot be read or is not TOML.
    """
    if path is None and not Path(DEFAULT_PATH).exists():
        return Config(), []
    path = path or DEFAULT_PATH
    return _examine(read(path), path)


def find(path: str | None) -> Config:
    """Read the file at ``path``, or without one DEFAULT_PATH if that exists; the defaults if it does not."""
    if path is None and not Path(DEFAULT_PATH).exists():
        return Config()
    return load(path or DEFAULT_PATH)


def reload(config: Config) -> Config:
    """Read again what ``config`` was read from; the same errors as ``load``."""
    fresh = embedded(config.embedded) if config.embedded else load(config.source) if config.source else Config()
    if fresh.listen == config.written:
        return replace(fresh, listen=config.listen, written=config.written)
    return fresh


def embedded(directory: str) -> Config:
    """Return a configuration for an ordinary user: ports above 1024, everything it writes in ``directory``.

    Rules come from the source tree that this module stands in, if it does, else from /etc/logguardd/rules.d.
    """
    folder = Path(directory).absolute()
    tree = Path(__file__).resolve().parents[2] / "etc" / "rules.d"
    base = Config()
    return replace(
        base,
        listen=replace(base.listen, udp=("[::]:5514",), tcp=("[::]:5514",)),
        journal=replace(base.journal, url=urls.sqlite_url(str(folder / "journal.db"))),
        archive=replace(base.archive, url=urls.sqlite_url(str(folder / "archive.db"))),
        detection=replace(base.detection, rules=(str(tree),)) if tree.is_dir() else base.detection,
        firewall=replace(base.firewall, output=str(folder / "firewall.sh")),
        http=replace(base.http, control=str(folder / "control.sock")),
        embedded=str(folder),
    )


def read_rules(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return (file name, text) of every rule file, as ``examine_rules``; raise ConfigError with its problems, a line each."""
    found, problems = examine_rules(paths)
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def examine_rules(paths: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (file name, text) of every rule file that can be read, and what is wrong with the others.

    A path that is a folder stands for its ``*.toml`` files, sorted.
    """
    found: list[tuple[str, str]] = []
    problems: list[str] = []
    for name in paths:
        path = Path(name)
        try:
            files = sorted(p for p in path.iterdir() if p.suffix == ".toml") if path.is_dir() else [path]
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}; allowed: a folder of rule files")
            continue
        for file in files:
            try:
                found.append((str(file), read(str(file))))
            except ConfigError as error:
                problems.append(str(error))
    return found, problems


def read(path: str) -> str:
    """Return the text of a file; raise ConfigError if it cannot be read, is too long or is not UTF-8."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{path}: the file is too long; allowed: up to {_MAX_FILE} bytes")
    try:
        return data.decode("utf-8-sig")  # editors of some systems put a byte order mark there
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; allowed: UTF-8 text") from None


def parse(text: str, source: str = "") -> Config:
    """Read a configuration from text; ``source`` names it in errors. Raises ConfigError as ``load`` does."""
    config, problems = _examine(text, source)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return config


def _examine(text: str, source: str) -> tuple[Config, list[Problem]]:
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
    if not reader.problems:
        reader.contradictions(config)
    return config, sorted(reader.problems)


class _Reader:
    """Builds a Config from one document and collects what is wrong with it."""

    def __init__(self, source: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self.source = source
        self.lines = lines
        self.problems: list[Problem] = []

    def wrong(self, path: Sequence[str], what: str) -> None:
        line = self.lines.get(tuple(path), 0)
        text = printable(f"{located(self.source, self.lines, tuple(path))}: {what}")
        self.problems.append(Problem(line, tuple(path), text))

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
        self.wrong(path, f'unknown {what}, did you mean "{near[0]}"?; allowed: {", ".join(known)}')

    def contradictions(self, config: Config) -> None:
        """Find what is wrong with keys together, each of them being right by itself."""
        self.listeners(config)
        self.certificates(config)
        if config.journal.url == config.archive.url:
            self.wrong(["archive", "url"], "the journal has this file already; allowed: a file of its own")
        if len(config.http.control.encode()) > _MAX_SOCKET_PATH:
            self.wrong(["http", "control"], f"too long for a socket; allowed: up to {_MAX_SOCKET_PATH} bytes")
        for name, jail in config.jail.items():
            if jail.max_ban < jail.ban:
                self.wrong(["jail", name, "max_ban"], "shorter than the jail's ban; allowed: ban or longer")
            if "port" in jail.group_by and jail.ipv6_prefix != settings.SINGLE:
                what = (
                    f"{jail.ipv6_prefix} does not go with group_by port, as a port is banned for single addresses only"
                )
                self.wrong(["jail", name, "ipv6_prefix"], f'{what}; allowed: 128, or group_by = ["address"]')
            if "address" not in jail.group_by:
                self.wrong(
                    ["jail", name, "group_by"], '"address" is missing; allowed: ["address"], ["address", "port"]'
                )

    def certificates(self, config: Config) -> None:
        tls = config.tls
        for path, wanted in ((("tls", "private_key"), tls.private_key), (("listen", "tls"), config.listen.tls)):
            if wanted and not tls.certificate:
                self.wrong(path, "there is no tls.certificate; allowed: with it only")
                break
        if config.http.follow and not (tls.certificate and tls.client_ca):
            missing = "client_ca, which says who may follow" if tls.certificate else "certificate"
            self.wrong(["http", "follow"], f"there is no tls.{missing}; allowed: with it only")
        if tls.permitted_peers and not tls.client_ca:
            self.wrong(
                ["tls", "permitted_peers"], "there is no tls.client_ca to check peers with; allowed: with it only"
            )

    def listeners(self, config: Config) -> None:
        listen = config.listen
        if not (listen.udp or listen.tcp or listen.tls or listen.relp):
            self.wrong(["listen"], "nothing to listen at; allowed: at least one of udp, tcp, tls, relp")
        self.apart([(("listen", "udp"), place) for place in listen.udp])
        streams = [(("listen", key), place) for key in ("tcp", "tls", "relp") for place in getattr(listen, key)]
        self.apart([*streams, (("http", "listen"), config.http.listen), (("http", "follow"), config.http.follow)])

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


def show(config: Config) -> str:
    """Return ``config`` as TOML that reads back the same, except that passwords in URLs are shown as ``***``."""
    tables = [toml_text.table("", _shown_keys(config))]
    for name in SECTIONS:
        tables.append(toml_text.table(name, _shown_keys(getattr(config, name))))
        if name == "detection":
            tables += [toml_text.table(f"jail.{jail}", _shown_keys(item)) for jail, item in config.jail.items()]
    return "\n".join(tables)


def _shown_keys(section: object) -> dict[str, object]:
    found = {}
    for key in keys(type(section)):
        item = key.kind.show(getattr(section, key.name))
        found[key.name] = urls.redact(item) if isinstance(item, str) else item
    return found
