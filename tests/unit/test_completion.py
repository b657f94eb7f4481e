"""bash completes commands and options of the three programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.servers.daemon import CHECKOUT
from tests.servers.process import need

FILE = CHECKOUT / "packaging" / "bash-completion" / "logguardd"
MODULES = {
    "logguardd": "logguardd.cli",
    "logguardctl": "logguardd.ctl",
    "logguardd-firewall": "logguardd.firewall.service",
}


@pytest.fixture
def complete(tmp_path):
    (bash,) = need("bash")
    for program, module in MODULES.items():
        shim = tmp_path / program
        # As the packages' own: who is called logguardd-firewall completes for it.
        shim.write_text(f"#!{sys.executable}\nfrom {module} import main\n\nmain()\n")
        shim.chmod(0o755)

    def words(*typed):
        script = f"""
            source {FILE}
            complete -p {typed[0]} >/dev/null || exit 3
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _logguardd {typed[0]}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            [bash, "--norc", "-c", script, "bash", *typed],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return words


def test_commands(complete):
    assert set(complete("logguardd", "")) >= {"run", "check-config", "print-config"}
    assert complete("logguardctl", "unb") == ["unban"]


def test_options_and_choices(complete):
    assert complete("logguardd", "run", "--pid") == ["--pidfile"]
    assert "--flush" in complete("logguardd-firewall", "--f")
    assert "nftables" in complete("logguardd-firewall", "--backend", "nf")


def test_where_click_knows_nothing_bash_completes_files(complete):
    assert complete("logguardd", "run", "--config", "/etc/") == []
    assert "-o default" in FILE.read_text()
