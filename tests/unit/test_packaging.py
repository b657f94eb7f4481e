"""The packages' sources agree with the code: version, dependencies, programs, ports."""

from __future__ import annotations

import configparser
import re

import pytest

from logguardd import __version__, config
from tests.servers.daemon import CHECKOUT

PACKAGING = CHECKOUT / "packaging"
#: Where a distribution's name of a Python package is not python3- and its name on PyPI.
DEBIAN = {"python-daemon": "python3-daemon", "prometheus_client": "python3-prometheus-client"}
FEDORA = {"python-daemon": "python3-daemon"}


def setup():
    found = configparser.ConfigParser()
    found.read(CHECKOUT / "setup.cfg")
    return found


def required():
    return {re.split(r"[<>=]", line)[0] for line in setup()["options"]["install_requires"].split()}


def programs():
    lines = setup()["options.entry_points"]["console_scripts"].strip().splitlines()
    return [tuple(part.strip() for part in re.split("[=:]", line)) for line in lines]


def text(name):
    return (PACKAGING / name).read_text()


def test_one_version():
    assert re.match(r"logguardd \((.*?)\) ", text("debian/changelog"))[1] == __version__
    assert re.search(r"^Version: +(\S+)$", text("rpm/logguardd.spec"), re.MULTILINE)[1] == __version__


def test_debian_package_depends_on_what_the_code_does():
    source, _, binary = text("debian/control").partition("\nPackage: ")
    depends = set(re.findall(r"^ ([\w.+-]+)", binary.partition("Depends:")[2].partition("Suggests:")[0], re.MULTILINE))
    wanted = {DEBIAN.get(name, f"python3-{name}") for name in required()} | {"python3-systemd", "nftables"}
    assert wanted <= depends
    # For the unit tests.
    assert wanted - {"nftables"} <= set(re.findall(r"^ (python3-[\w-]+) <!nocheck>,$", source, re.MULTILINE))


def test_rpm_requires_what_the_code_does():
    spec = text("rpm/logguardd.spec")
    wanted = {FEDORA.get(name, f"python3-{name}") for name in required()} | {"python3-systemd"}
    assert wanted <= set(re.findall(r"^Requires: +(\S+)$", spec, re.MULTILINE))
    assert wanted <= set(re.findall(r"^BuildRequires: +(\S+)$", spec, re.MULTILINE))


@pytest.mark.parametrize(("name", "module", "function"), programs())
def test_every_program_is_there_with_all_that_belongs_to_it(name, module, function):
    launcher = PACKAGING / "debian" / "bin" / name
    assert launcher.stat().st_mode & 0o111
    lines = launcher.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/python3 -I"
    assert any(line.startswith(f"from {module} import {function}") for line in lines)
    assert lines[-1] == f"{function}()"
    assert (CHECKOUT / "docs" / "man" / f"{name}.8").is_file()
    assert re.search(rf"^complete .*\b{name}( |$)", text("bash-completion/logguardd"), re.MULTILINE)
    assert f"%{{_bindir}}/{name.replace('logguardd', '%{name}')}\n" in text("rpm/logguardd.spec")


def test_the_container_listens_where_it_says():
    exposed = set(re.search(r"^EXPOSE (.*)$", text("docker/Dockerfile"), re.MULTILINE)[1].split())
    for name in ("logguardd.toml", "compose.toml"):
        listen, http = (getattr(config.load(str(PACKAGING / "docker" / name)), part) for part in ("listen", "http"))
        ports = {f"{place.rpartition(':')[2]}/udp" for place in listen.udp}
        ports |= {f"{place.rpartition(':')[2]}/tcp" for place in (*listen.tcp, *listen.relp, http.listen)}
        assert ports <= exposed
    compose = text("docker/compose.yaml")
    for port in ("5514/udp", "5514/tcp"):
        assert f'"${{SYSLOG_PORT:-514}}:{port}"' in compose
    assert "postgres:15" in compose
    assert "redis:7" in compose
    sending = re.search(r'target="(\w+)" port="(\d+)"', text("docker/rsyslog/rsyslog.conf"))
    assert sending.groups() == ("logguardd", "2514")
    assert config.load(str(PACKAGING / "docker" / "compose.toml")).listen.relp == ("[::]:2514",)
