"""The Debian package as built: what is in it, what it asks for, what lintian says."""

from __future__ import annotations

import configparser
import hashlib
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from logguardd import __version__
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need

#: Where Debian's name of a Python package is not python3- and its name on PyPI.
NAMES = {"python-daemon": "python3-daemon", "prometheus_client": "python3-prometheus-client"}


def run(*argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False, **options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def committed(folder):
    return run("git", "-c", "safe.directory=*", "-C", str(CHECKOUT), "ls-files", folder).splitlines()


def build(folder, *argv):
    """Build in a clean checkout; the unit tests are run by other builds of the same code."""
    run("git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", str(CHECKOUT), str(folder))
    run("env", "DEB_BUILD_OPTIONS=nocheck", "scripts/build-deb.sh", *argv, cwd=folder)
    (changes,) = (folder / "dist").glob("*.changes")
    return changes


def package(changes):
    (found,) = changes.parent.glob("*.deb")
    return found


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    need("git", "dpkg-buildpackage", "dh")
    return build(tmp_path_factory.mktemp("deb") / "checkout")


@pytest.fixture(scope="module")
def fields(changes):
    text = run("dpkg-deb", "--field", str(package(changes)))
    return dict(re.findall(r"^([\w-]+): (.*?)$", text, re.MULTILINE))


@pytest.fixture(scope="module")
def content(changes):
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package(changes))], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name.removeprefix("."): entry for entry in archive.getmembers()}


@pytest.fixture(scope="module")
def control(changes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    run("dpkg-deb", "--control", str(package(changes)), str(folder / "DEBIAN"))
    return folder / "DEBIAN"


@pytest.fixture(scope="module")
def tree(changes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "--extract", str(package(changes)), str(folder))
    return folder


def test_version_and_kind(fields):
    assert fields["Package"] == "logguardd"
    assert fields["Version"] == __version__
    assert fields["Architecture"] == "all"


def test_it_depends_on_what_the_code_does(fields):
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    wanted = {re.split(r"[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    assert {NAMES.get(name, f"python3-{name}") for name in wanted} | {"python3-systemd"} <= set(
        fields["Depends"].split(", ")
    )
    assert "nftables | iptables" in fields["Depends"]
    # python3 without a version above: one package for Debian 12 and 13.
    assert not re.search(r"python3(:any)? \(<", fields["Depends"])


def test_all_modules_and_what_they_read_are_in_it(content):
    for file in committed("logguardd"):
        assert f"/usr/share/logguardd/{file}" in content
    assert not [name for name in content if "/tests" in name or name.endswith(".pyc") or "dist-info" in name]


def test_configuration_files_are_conffiles(control, content):
    conffiles = set((control / "conffiles").read_text().split())
    assert conffiles == {name for name, entry in content.items() if name.startswith("/etc/") and entry.isfile()}
    for file in ["etc/logguardd.toml", *committed("etc/rules.d")]:
        assert file.replace("etc/", "/etc/logguardd/", 1) in conffiles


def test_units_man_pages_and_the_rest_are_in_it(content):
    wanted = [f"systemd/system/{Path(file).name}" for file in committed("systemd") if not file.endswith(".conf")]
    wanted += [f"/usr/share/man/man{file[-1]}/{Path(file).name}.gz" for file in committed("docs/man")]
    wanted += [f"/usr/share/bash-completion/completions/{name}" for name in ("logguardd", "logguardctl")]
    wanted += ["/usr/lib/sysusers.d/logguardd.conf", "/usr/lib/tmpfiles.d/logguardd.conf"]
    wanted += ["/etc/init.d/logguardd", "/etc/init.d/logguardd-firewall", "/etc/apparmor.d/usr.bin.logguardd"]
    wanted += ["/usr/share/doc/logguardd/README.Debian"]
    for name in wanted:
        assert [entry for entry in content if entry.endswith(name)], name


def test_everything_is_roots_and_nobody_elses_to_write(content):
    for name, entry in content.items():
        assert (entry.uname, entry.gname) == ("root", "root"), name
        assert entry.issym() or not entry.mode & 0o7022, name
        programs = name.startswith(("/usr/bin/", "/etc/init.d/", "/usr/share/python3/runtime.d/"))
        assert not entry.isfile() or bool(entry.mode & 0o100) == programs, name


@pytest.mark.parametrize("program", ["logguardd", "logguardctl", "logguardd-firewall"])
def test_programs_find_their_modules(tree, program):
    text = (tree / "usr" / "bin" / program).read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    here = text.replace("/usr/share/logguardd", str(tree / "usr/share/logguardd"))
    assert here != text
    launcher = tree / program
    launcher.write_text(here)
    assert run(sys.executable, "-B", str(launcher), "--version") == f"{program}, version {__version__}\n"


def test_scripts_are_shell_and_keep_the_sockets_open(control):
    for name in ("postinst", "prerm", "postrm"):
        run("dash", "-n", str(control / name))
    postinst = (control / "postinst").read_text()
    # The socket is opened before the service, which would take the port itself, and is never restarted.
    assert postinst.index("start 'logguardd.socket'") < postinst.index("$_dh_action 'logguardd.service'")
    assert not re.search(r"(restart|_dh_action) .*logguardd(-tls)?\.socket", postinst)
    assert "start 'logguardd-tls.socket'" not in postinst


def test_lintian_finds_nothing(changes):
    (lintian,) = need("lintian")
    said = run(lintian, "--fail-on", "error,warning", "--tag-display-limit", "0", str(changes))
    assert not re.search("^[EW]:", said, re.MULTILINE), said


def test_the_same_commit_gives_the_same_package(changes, tmp_path):
    again = build(tmp_path / "elsewhere")
    one, other = (hashlib.sha256(package(each).read_bytes()).hexdigest() for each in (changes, again))
    assert one == other


def test_another_version_for_trying_upgrades(changes, tmp_path):
    earlier = package(build(tmp_path / "earlier", f"{__version__}~1"))
    version = run("dpkg-deb", "--field", str(earlier), "Version").strip()
    run("dpkg", "--compare-versions", version, "lt", __version__)


def test_apparmor_takes_the_profiles():
    (parser,) = need("apparmor_parser")
    for profile in sorted((CHECKOUT / "packaging" / "apparmor").iterdir()):
        # -Q: no kernel is asked; -K: nothing is kept.
        run(parser, "--skip-kernel-load", "--skip-cache", str(profile))
        assert re.search(r"flags=\(.*complain.*\)", profile.read_text())
