"""Fixtures of more than one file: both archives, and the certificates of who serves a feed and who may follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from logguardd.listeners.tls_context import TlsSettings
from tests.integration.archives import Kind
from tests.servers.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["postgres", "sqlite"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "postgres":
        return Kind("postgres", request.getfixturevalue("postgres").fresh_database())
    return Kind("sqlite", str(tmp_path / "archive.db"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def settings(authority) -> TlsSettings:
    certificate, key = authority.issue("logs.example.com")
    return TlsSettings(str(certificate), str(key), str(authority.certificate))
