"""Pid files that lock."""

import os
import subprocess
import sys

import pytest

from logguardd.lockfile import LockedError, Lockfile


def test_lock_and_release(tmp_path):
    path = tmp_path / "pid"
    lock = Lockfile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(LockedError, match=f"already locked by process {os.getpid()}: is logguardd running") as error:
        Lockfile(str(path))
    assert error.value.pid == os.getpid()
    lock.release()
    lock.release()
    assert not path.exists()
    Lockfile(str(path)).release()


def test_a_stale_file_locks_nobody_out(tmp_path):
    path = tmp_path / "pid"
    path.write_text("123456 and rubbish that is longer than any pid\n")
    lock = Lockfile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_killed_owner_leaves_the_lock(tmp_path):
    path = tmp_path / "pid"
    code = "import sys, os; from logguardd.lockfile import Lockfile; Lockfile(sys.argv[1]); print('locked', flush=True); sys.stdin.read()"
    owner = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"locked\n"
    with pytest.raises(LockedError, match=f"process {owner.pid}"):
        Lockfile(str(path))
    owner.kill()
    owner.communicate()
    assert path.exists()
    Lockfile(str(path)).release()


def test_a_child_inherits_the_lock(tmp_path):
    path = tmp_path / "pid"
    lock = Lockfile(str(path))
    child = os.fork()
    if child == 0:
        lock.write()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.read_text() == f"{child}\n"
    with pytest.raises(LockedError):
        Lockfile(str(path))
    lock.release()


def test_symbolic_links_are_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "pid").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        Lockfile(str(tmp_path / "pid"))
    assert (tmp_path / "target").read_text() == "precious"
