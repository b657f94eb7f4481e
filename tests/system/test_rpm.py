"""The rpm: built here, with its unit tests, and installed into an empty root."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from logguardd import __version__
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need, need_root
from tests.system.test_deb import committed, run

#: Where Fedora's name of a Python package is not python3- and its name on PyPI.
NAMES = {"python-daemon": "python3-daemon"}


@pytest.fixture(scope="module")
def rpm(tmp_path_factory):
    need("git", "rpmbuild")
    checkout = tmp_path_factory.mktemp("rpm") / "checkout"
    run("git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", str(CHECKOUT), str(checkout))
    said = run("scripts/build-rpm.sh", cwd=checkout)
    assert re.search(r"^\d+ passed", said, re.MULTILINE), "%check ran no tests"
    (found,) = (checkout / "dist").glob("*.noarch.rpm")
    return found


@pytest.fixture(scope="module")
def modes(rpm):
    """Return "MODE USER:GROUP FLAGS" of every file."""
    lines = run(
        "rpm",
        "-qp",
        "--qf",
        "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]",
        str(rpm),
    ).splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}


def test_version_and_kind(rpm):
    assert (
        run("rpm", "-qp", "--qf", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}", str(rpm))
        == f"logguardd {__version__} noarch MIT"
    )


def test_it_requires_what_the_code_does(rpm):
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    wanted = {re.split(r"[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    required = set(run("rpm", "-qp", "--requires", str(rpm)).splitlines())
    assert {NAMES.get(name, f"python3-{name}") for name in wanted} | {"python3-systemd"} <= required
    assert "(nftables or iptables)" in required


def test_owners_and_modes(modes):
    assert modes["/etc/logguardd/logguardd.toml"] == "-rw-r----- root:logguardd cn"
    assert modes["/var/lib/logguardd"] == "drwxr-x--- logguardd:logguardd"
    special = {"/etc/logguardd/logguardd.toml", "/var/lib/logguardd"}
    for name, rest in modes.items():
        assert name in special or rest.split()[1] == "root:root", name
        assert rest[0] == "l" or (rest[5], rest[8]) == ("-", "-"), name
    for file in committed("etc/rules.d"):
        # Configuration, of which a changed one is never replaced.
        assert modes[file.replace("etc/", "/etc/logguardd/", 1)] == "-rw-r--r-- root:root cn"


def test_sockets_are_not_restarted_by_an_upgrade(rpm):
    scripts = run("rpm", "-qp", "--scripts", str(rpm))
    after = scripts.partition("postuninstall")[2]
    assert "mark-restart-system-units logguardd.service" in after
    assert ".socket" not in after


def test_into_an_empty_root(rpm, tmp_path):
    need_root()
    done = install(rpm, tmp_path)
    assert done.returncode == 0, done.stderr
    # Nothing else is there: neither a shell for the scripts, nor the user.
    assert {path.name for path in tmp_path.iterdir()} <= {"etc", "usr", "var", "root", "run"}
    for file in committed("logguardd"):
        (found,) = tmp_path.glob(f"usr/lib/python3.*/site-packages/{file}")
        assert found.read_bytes() == (rpm.parents[1] / file).read_bytes()
    for file in committed("systemd"):
        name = Path(file).name
        if not name.endswith(".conf"):
            assert (tmp_path / "usr/lib/systemd/system" / name).is_file()
    for page in committed("docs/man"):
        assert (tmp_path / f"usr/share/man/man{page[-1]}" / f"{Path(page).name}.gz").is_file()
    for program in ("logguardd", "logguardctl", "logguardd-firewall"):
        assert (tmp_path / "usr/bin" / program).stat().st_mode & 0o777 == 0o755
        assert (tmp_path / "usr/share/bash-completion/completions" / program).is_file()


def test_its_user_its_files_and_its_removal(rpm, tmp_path):
    need_root()
    need("systemd-sysusers", "systemd-tmpfiles", "rpm2cpio", "cpio")
    # As rpm itself does from 4.19 on, and %pre before.
    run("sh", "-c", f"rpm2cpio {rpm} | cpio --quiet -id ./usr/lib/sysusers.d/logguardd.conf", cwd=tmp_path)
    (tmp_path / "etc").mkdir()
    run("systemd-sysusers", f"--root={tmp_path}")
    entry = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith("logguardd:"))
    _, _, uid, gid, _, home, shell = entry.split(":")
    assert (home, shell) == ("/var/lib/logguardd", "/usr/sbin/nologin")

    done = install(rpm, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "does not exist - using root" not in done.stderr
    state, shipped = tmp_path / "var/lib/logguardd", tmp_path / "etc/logguardd/logguardd.toml"
    assert (state.stat().st_uid, state.stat().st_gid) == (int(uid), int(gid))
    assert (shipped.stat().st_uid, shipped.stat().st_gid) == (0, int(gid))
    assert run("rpm", "--root", str(tmp_path), "-V", "--nodeps", "logguardd") == ""
    run("systemd-tmpfiles", f"--root={tmp_path}", "--create", "--prefix=/run/logguardd", "logguardd.conf")
    assert (tmp_path / "run/logguardd").stat().st_uid == int(uid)

    shipped.write_text(shipped.read_text() + "# ours\n")
    run("rpm", "--root", str(tmp_path), "-e", "--nodeps", "--noscripts", "logguardd")
    assert not (tmp_path / "usr/bin/logguardd").exists()
    assert not list(tmp_path.glob("usr/lib/python3.*/site-packages/logguardd*"))
    # A changed configuration is kept aside.
    assert [path.name for path in (tmp_path / "etc/logguardd").iterdir()] == ["logguardd.toml.rpmsave"]


def test_rpmlint_finds_nothing(rpm):
    (rpmlint,) = need("rpmlint")
    folder = CHECKOUT / "packaging" / "rpm"
    done = subprocess.run(
        [rpmlint, "--ignore-unused-rpmlintrc", "-r", str(folder / "logguardd.rpmlintrc"), str(rpm), str(folder / "logguardd.spec")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr


def install(rpm, root):
    """Install there without looking for what it requires."""
    return subprocess.run(
        ["rpm", "-i", "--nodeps", "--root", str(root), str(rpm)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
