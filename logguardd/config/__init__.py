"""Read the configuration: TOML to frozen dataclasses, with every error of a file found and reported together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd import urls
from logguardd.config import toml_text
from logguardd.config.reader import Problem, build, doubtful
from logguardd.config.settings import DEFAULT_PATH, SECTIONS, Config, keys
from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_PATH",
    "Config",
    "Problem",
    "doubtful",
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

_MAX_FILE = 1 << 20


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
    return build(read(path), path)


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
    config, problems = build(text, source)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return config


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
