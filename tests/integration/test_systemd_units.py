"""The unit files: systemd finds nothing wrong with them, and little exposed."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from logguardd import config
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need

UNITS = (
    "logguardd.service",
    "logguardd-firewall.service",
    "logguardd-firewall@.service",
    "logguardd.socket",
    "logguardd-tls.socket",
)


@pytest.fixture
def units(tmp_path):
    """Return a folder with the units, their programs replaced by one that is on every machine."""
    for name in UNITS:
        text = (CHECKOUT / "systemd" / name).read_text()
        (tmp_path / name).write_text(re.sub(r"/usr/bin/logguardd\S*", "/bin/true", text))
    return tmp_path


def analyze(*argv, units):
    (program,) = need("systemd-analyze")
    return subprocess.run(
        [program, *argv],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_verify(units):
    done = analyze("verify", "--man=no", *(str(units / name) for name in UNITS), units=units)
    # Of other units on this machine it may say what it likes.
    mine = [line for line in done.stderr.splitlines() if "logguardd" in line or str(units) in line]
    assert mine == []


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_little_is_exposed(units, name):
    done = analyze("security", "--offline=true", "--threshold=15", str(units / name), units=units)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert done.returncode == 0, done.stdout


def test_the_names_of_sockets_stand_in_the_documentation():
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    for unit, key in (("logguardd.socket", "udp"), ("logguardd.socket", "tcp"), ("logguardd-tls.socket", "tls")):
        content = (CHECKOUT / "systemd" / unit).read_text()
        name = re.search(r"^FileDescriptorName=(.*)", content, re.MULTILINE)[1]
        assert f'{key} = ["systemd:{name}"]' in text
        assert f'{key} = ["systemd:{name}"]' in content


def test_folders_are_those_of_the_defaults():
    unit = Path(CHECKOUT / "systemd" / "logguardd.service").read_text()
    base = config.Config()
    assert "RuntimeDirectory=logguardd\n" in unit
    assert base.http.control.startswith("/run/logguardd/")
    assert "StateDirectory=logguardd\n" in unit
    assert base.journal.url.startswith("sqlite:///var/lib/logguardd/")
    assert base.archive.url.startswith("sqlite:///var/lib/logguardd/")
    assert f"User={base.user}\n" in unit
