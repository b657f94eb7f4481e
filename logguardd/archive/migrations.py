"""The schema's migrations: numbered SQL files, one folder per database, applied in order, each once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Migration(NamedTuple):
    """One step of the schema: ``version`` and ``name`` are of its file, as in 0001_archive.sql."""

    version: int
    name: str
    sql: str


@cache
def load(database: str) -> tuple[Migration, ...]:
    """Return the migrations of "postgres" or "sqlite" in order; the files are read once."""
    folder = files("logguardd.archive") / "sql" / database
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return tuple(
        Migration(int(file.name[:4]), file.name[5:-4], file.read_text(encoding="utf-8"))
        for file in sorted(found, key=lambda file: file.name)
    )


def pending(migrations: Sequence[Migration], version: int, where: str) -> list[Migration]:
    """Return those that a schema of ``version`` lacks; raise errors.ConfigError when it is newer than all of them."""
    newest = migrations[-1].version
    if version > newest:
        raise ConfigError(
            f"archive: {where}: its schema is version {version}, made by a later logguardd; this one knows up to {newest}: "
            "install that version, or name another database"
        )
    return [migration for migration in migrations if migration.version > version]
