"""The bound on connections fits the bound on open files: what the kernel cannot open nobody would count."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
from logguardd import build
from logguardd.config import load
from logguardd.metrics import Metrics

soft, hard, most = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(format="%(message)s", stream=sys.stdout)
made = build.listeners(CONFIG, None, Metrics(), None)
print([each.limits.max_connections for each in made], resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def taken(tmp_path, soft: int, hard: int, most: int) -> list[str]:
    """Build listeners in a process with these limits; return what it logs and says."""
    file = tmp_path / "c.toml"
    file.write_text(f'[listen]\nudp = []\ntcp = ["127.0.0.1:0"]\nrelp = ["127.0.0.1:0"]\nmax_connections = {most}\n')
    program = PROGRAM.replace("CONFIG", f"load({str(file)!r})")
    argv = [sys.executable, "-c", program, str(soft), str(hard), str(most)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_soft_limit_is_raised(tmp_path):
    assert taken(tmp_path, 256, 4096, 1000) == ["[1000, 1000] (2256, 4096)"]
    assert taken(tmp_path, 3000, 4096, 1000) == ["[1000, 1000] (3000, 4096)"]


@pytest.mark.parametrize(("hard", "left"), [(1024, 384), (100, 25)])
def test_beyond_the_hard_limit_fewer_connections_are_taken(tmp_path, hard, left):
    told, bounds = taken(tmp_path, 100, hard, 1000)
    assert told.startswith(
        f"listen.max_connections: 1000 for each of 2 listeners need 2256 open files, the limit is {hard}:"
    )
    assert f" taking {left} each;" in told
    assert bounds == f"[{left}, {left}] ({hard}, {hard})"


def test_few_connections_fit_anyway(tmp_path):
    assert taken(tmp_path, 200, 200, 50)[-1] == "[50, 50] (200, 200)"
