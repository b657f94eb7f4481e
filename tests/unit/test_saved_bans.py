"""The file of bans in force: there and back, damaged, missing."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from logguardd import saved_bans
from logguardd.records import SECOND, Ban

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_790_000_000 * SECOND
BANS = [
    Ban(ip_network("203.0.113.5"), 22, "flood", NOW, NOW + 300 * SECOND, "101 hits", 3),
    Ban(ip_network("2001:db8::/64"), 0, "auth", NOW, None, "by hand"),
]


def test_bans_come_back_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "bans.json"
    saved_bans.save(file, BANS, [], NOW)
    assert saved_bans.load(file) == (BANS, [])
    saved_bans.save(file, [], [], NOW)
    assert saved_bans.load(file) == ([], [])
    assert [path.name for path in tmp_path.iterdir()] == ["bans.json"]


def test_lifted_bans_come_back_as_such_until_they_would_have_ended(tmp_path: Path) -> None:
    file = tmp_path / "bans.json"
    ended = Ban(ip_network("203.0.113.6"), 0, "auth", NOW, NOW + SECOND, "six hits")
    saved_bans.save(file, BANS[:1], [ended, BANS[1]], NOW + 2 * SECOND)
    assert saved_bans.load(file) == (BANS[:1], BANS[1:])
    saved_bans.save(file, [], BANS, NOW)
    assert saved_bans.load(file) == ([], BANS)


def test_without_anything_lifted_the_file_is_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "bans.json"
    saved_bans.save(file, BANS, [], NOW)
    assert file.read_text().splitlines()[0] == '{"bans": 2}'


def test_many_bans_come_back_all(tmp_path: Path) -> None:
    file = tmp_path / "bans.json"
    many = [Ban(ip_network((0x0A000000 + n, 32)), 0, "auth", NOW, NOW + n, "\xe9" * 200) for n in range(1, 20_001)]
    saved_bans.save(file, many, [], NOW)
    assert len(saved_bans.load(file).bans) == 20_000


def test_without_a_file_there_are_no_bans(tmp_path: Path) -> None:
    assert saved_bans.load(tmp_path / "none") == ([], [])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"rubbish\n",
        b'{"bans": 1}\n[]\n',
        b'{"bans": 1}\n{}\n',
        b'{"bans": -1, "lifted": 1}\n',
        b'{"bans": true}\n{}\n',
        b'{"bans": 0, "lifted": 1}\n',
        b"\xff\x00\n",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_said_to_be_so_and_taken_for_none(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "bans.json"
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert saved_bans.load(file) == ([], [])
    assert len(caplog.records) == 1
    assert all(str(file) in record.getMessage() for record in caplog.records)


def test_a_file_cut_short_gives_whole_bans_or_none(tmp_path: Path) -> None:
    file = tmp_path / "bans.json"
    saved_bans.save(file, BANS, [], NOW)
    whole = file.read_bytes()
    assert saved_bans.load(file) == (BANS, [])
    for length in range(len(whole) - 1):  # the last LF makes no difference
        file.write_bytes(whole[:length])
        assert saved_bans.load(file) == ([], [])
