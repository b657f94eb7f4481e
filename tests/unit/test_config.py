"""The configuration file: defaults, values, and every error in one go."""

import tomllib
from dataclasses import fields, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from logguardd import config
from logguardd.config import Config, settings
from logguardd.errors import ConfigError
from logguardd.records import SECOND

CHECKOUT = Path(__file__).resolve().parents[2]
SECTIONS = {**settings.SECTIONS, "jail.NAME": settings.Jail, "": Config}


def problems(text):
    with pytest.raises(ConfigError) as error:
        config.parse(text, "f.toml")
    return str(error.value).split("\n")


def test_an_empty_file_is_the_defaults():
    assert config.parse("") == Config() == Config.defaults()


def test_defaults_are_the_documented_ones():
    base = Config()
    assert base.listen.udp == base.listen.tcp == ("[::]:514",)
    assert base.listen.max_message == 65536
    assert base.listen.idle_timeout == 600 * SECOND
    assert base.journal.max_size == 10 << 30
    assert base.archive.retention == 90 * 86400 * SECOND
    assert base.detection.allowlist == (ip_network("127.0.0.0/8"), ip_network("::1"))
    assert base.detection.max_clock_skew == 300 * SECOND
    assert (base.firewall.backend, base.firewall.output) == ("print", "-")
    flood, auth = base.jail["flood"], base.jail["auth"]
    assert (flood.hits, flood.group_by, flood.window, flood.threshold, flood.ban) == (
        ("*",), ("address", "port"), 60 * SECOND, 100, 300 * SECOND,
    )  # fmt: skip
    assert (auth.hits, auth.group_by, auth.window, auth.threshold, auth.ban) == (
        ("auth-failure",), ("address",), 300 * SECOND, 5, 600 * SECOND,
    )  # fmt: skip
    assert (auth.escalation, auth.max_ban, auth.ipv6_prefix) == (2, 7 * 86400 * SECOND, 64)


def test_values_are_read():
    read = config.parse(
        """
        log_level = "debug"
        log_format = "json"
        [listen]
        udp = []
        tcp = ["192.0.2.1:5514", "systemd:syslog-tcp"]
        max_message = "1MiB"
        idle_timeout = "1h30m"
        allowed_senders = ["192.0.2.0/24", "2001:db8::1", "::ffff:198.51.100.0/120"]
        timezone = "Europe/Berlin"
        [archive]
        url = "postgresql://logs@db.example/logs"
        [limiter]
        url = "redis://cache:6379/0"
        [detection]
        services = {ssh = 2222}
        """
    )
    assert (read.log_level, read.log_format) == ("debug", "json")
    assert read.listen.udp == ()
    assert read.listen.tcp == ("192.0.2.1:5514", "systemd:syslog-tcp")
    assert read.listen.idle_timeout == 5400 * SECOND
    assert read.listen.allowed_senders == (
        ip_network("192.0.2.0/24"), ip_network("2001:db8::1"), ip_network("198.51.100.0/24"),
    )  # fmt: skip
    assert read.detection.services == {"ssh": 2222}
    assert read.journal == Config().journal


def test_jails_merge_over_the_shipped_ones():
    read = config.parse(
        """
        [jail.flood]
        enabled = false
        [jail.auth]
        threshold = 3
        [jail.scan]
        hits = ["scan"]
        group_by = ["port", "address"]
        """
    )
    assert set(read.jail) == {"flood", "auth", "scan"}
    assert not read.jail["flood"].enabled
    assert read.jail["flood"].threshold == 100
    assert (read.jail["auth"].threshold, read.jail["auth"].ipv6_prefix) == (3, 64)
    assert read.jail["scan"].hits == ("scan",)
    assert read.jail["scan"].group_by == ("address", "port")
    assert read.jail["scan"].threshold == settings.Jail().threshold


ERRORS = [
    ('log_levl = "info"', 'f.toml:1: log_levl: unknown section or key, did you mean "log_level"?'),
    ("[archve]", 'f.toml:1: archve: unknown section or key, did you mean "archive"?'),
    ("[listen]\nucp = []", 'f.toml:2: listen.ucp: unknown key, did you mean "udp"?'),
    ('[listen]\ncertificate = "/x"', 'f.toml:2: listen.certificate: unknown key, did you mean "tls.certificate"?'),
    ("[jail.auth]\ntreshold = 3", 'f.toml:2: jail.auth.treshold: unknown key, did you mean "threshold"?'),
    ('"a\\nb\\u001b" = 1', r"f.toml:1: a\nb\x1b: unknown section or key"),
    ("zzz = 1", "f.toml:1: zzz: unknown section or key, did you mean"),
    ("listen = 3", "f.toml:1: listen: 3 is not a table; allowed: [listen]"),
    ("jail = 3", "f.toml:1: jail: 3 is not a table"),
    ("[jail]\nauth = 3", "f.toml:2: jail.auth: 3 is not a table; allowed: [jail.NAME]"),
    ("[jail.'A b']", "f.toml:1: jail.A b: not a name for a jail; allowed: up to 32"),
    ('log_level = "loud"', 'log_level: "loud" is none of them; allowed: "debug", "info", "warning", "error"'),
    ('[listen]\nudp = "[::]:514"', 'listen.udp: "[::]:514" is not a list; allowed: a list of'),
    ('[listen]\nudp = ["::1:514"]', "listen.udp:"),
    ('[listen]\nudp = ["systemd:a b"]', 'listen.udp: "systemd:a b" names no socket'),
    ('[listen]\nudp = ["[::]:1", "[::]:1"]', 'listen.udp: "[::]:1" stands in it twice'),
    ("[listen]\nudp = []\ntcp = []", "f.toml:1: listen: nothing to listen at"),
    ('[listen]\nudp = ["[::]:514", "127.0.0.1:514"]', 'listen.udp: "127.0.0.1:514" is taken by listen.udp ("[::]:514")'),
    ('[listen]\nrelp = [":514"]', 'listen.relp: ":514" is taken by listen.tcp ("[::]:514"); allowed: another port'),
    ('[listen]\nrelp = ["[::]:514"]', 'listen.relp: "[::]:514" is taken by listen.tcp'),
    ('[listen]\ntls = ["[::]:6514"]', "f.toml:2: listen.tls: there is no tls.certificate"),
    ('[tls]\nprivate_key = "/c.pem"', "f.toml:2: tls.private_key: there is no tls.certificate"),
    ('[tls]\npermitted_peers = ["a"]', "f.toml:2: tls.permitted_peers: there is no tls.client_ca"),
    ('[tls]\ncertificate = "c.pem"', 'tls.certificate: "c.pem" is not an absolute path; allowed: an absolute path, or ""'),
    ("[listen]\nmax_message = 65536", "listen.max_message: 65536 is not a string; allowed: a size with its unit"),
    ('[listen]\nmax_message = "65536"', 'listen.max_message: "65536" is not a size'),
    ('[listen]\nmax_message = "1GiB"', 'listen.max_message: "1GiB" is out of range; allowed: a size'),
    ("[listen]\nmax_connections = true", "listen.max_connections: true is not a whole number"),
    ("[listen]\nmax_connections = 0", "listen.max_connections: 0 is out of range; allowed: a whole number from 1"),
    ("[listen]\nmax_connections = 1.5", "listen.max_connections: 1.5 is not a whole number"),
    ('[listen]\nidle_timeout = "10"', 'listen.idle_timeout: "10" is not a duration; allowed: a duration with its unit'),
    ('[listen]\ntimezone = "Mars"', 'listen.timezone: this machine knows no time zone "Mars"; allowed: "local", "UTC"'),
    ('[listen]\nallowed_senders = ["10.0.0.1/8"]', 'did you mean "10.0.0.0/8"?'),
    ('[detection]\nallowlist = ["db.example"]', '"db.example" is neither an address nor a network'),
    ("[detection]\nservices = {ssh = 99999}", "detection.services: ssh: 99999 is out of range"),
    ("[detection]\nservices = {ssh = 'x'}", 'detection.services: ssh: "x" is not a whole number'),
    ('[detection]\nrules = ["rules.d"]', 'detection.rules: "rules.d" is not an absolute path'),
    ('[journal]\nurl = "kafka://h"', 'journal.url: scheme "kafka" is not known here; allowed: a URL that begins with sqlite://'),
    ('[archive]\nurl = "sqlite:///var/lib/logguardd/journal.db"', "archive.url: the journal has this file already"),
    ('[limiter]\nurl = "redis://"', "limiter.url: it names no host"),
    ("[jail.a]\nhits = []", "jail.a.hits: it is empty"),
    ('[jail.a]\ngroup_by = ["sender"]', 'jail.a.group_by: "sender" is not allowed'),
    ('[jail.a]\ngroup_by = ["port"]', 'jail.a.group_by: "address" is missing'),
    ('[jail.a]\nban = "8d"', "f.toml:1: jail.a.max_ban: shorter than the jail's ban"),
    ("[jail.flood]\nipv6_prefix = 64", "f.toml:2: jail.flood.ipv6_prefix: 64 does not go with group_by port"),
    ("[jail.a]\nescalation = nan", "jail.a.escalation: nan is out of range"),
    ("[jail.a]\nenabled = 1", "jail.a.enabled: 1 is neither; allowed: true or false"),
    ('[firewall]\nbackend = "pf"', 'firewall.backend: "pf" is none of them; allowed: "nftables", "iptables", "print"'),
    ('[firewall]\noutput = "x"', 'firewall.output: "x" is not an absolute path; allowed: an absolute path, or "-"'),
    ('[http]\nlisten = "9514"', 'http.listen: "9514" does not end in :PORT'),
    ('[http]\nlisten = "[::]:514"', 'http.listen: "[::]:514" is taken by listen.tcp'),
    ('[http]\nfollow = "9515"', 'http.follow: "9515" does not end in :PORT'),
    ('[http]\nfollow = "[::]:9515"', "f.toml:2: http.follow: there is no tls.certificate; allowed: with it only"),
    (
        '[http]\nfollow = "[::]:9515"\n[tls]\ncertificate = "/c.pem"',
        "f.toml:2: http.follow: there is no tls.client_ca, which says who may follow",
    ),
    (
        '[tls]\ncertificate = "/c"\nclient_ca = "/a"\n[http]\nlisten = ":9515"\nfollow = ":9515"',
        'f.toml:6: http.follow: ":9515" is taken by http.listen; allowed: another port',
    ),
    (f'[http]\ncontrol = "/{"a" * 120}"', "http.control: too long for a socket; allowed: up to 107 bytes"),
    ('user = ""', "f.toml:1: user: it is empty"),
    ('user = "a\\nb"', "user: there is a control character in it"),
    ("a = = 1", "f.toml:1: column 5: not TOML: Invalid value; allowed: TOML 1.0"),
    ("a = 1\na = 2", "f.toml:2: not TOML: Cannot overwrite a value"),
    ('a = "', "not TOML"),
    (f"a = {'1' * 5000}", "not TOML: Exceeds the limit"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ERRORS)
def test_errors(text, expected):
    (line,) = problems(text)
    assert line.startswith("f.toml")
    assert expected in line
    assert "; allowed: " in line
    assert line.isprintable()


def test_all_errors_of_a_file_are_reported_in_order_of_lines():
    found = problems('[listen]\nudp = [\n  "x",\n]\nmax_message = 1\n[archive]\nurl = ""\n[fire]\nlog_level = 1\n')
    assert [line.split(":")[1] for line in found] == ["2", "5", "7", "8"]


def test_errors_show_no_password():
    found = problems('[archive]\nurl = "postgresql://u:hunter2@h:x/db"\n[limiter]\nurl = "rdis://:hunter2@h"')
    assert len(found) == 2
    assert "hunter2" not in "".join(found)


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"missing.toml: cannot be read: No such file or directory"):
        config.load(str(missing))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(str(tmp_path))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"# x\n# \xff\n")
    with pytest.raises(ConfigError, match=r"binary.toml:2: byte 0xff is not UTF-8"):
        config.load(str(binary))
    long = tmp_path / "long.toml"
    long.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="too long"):
        config.load(str(long))
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="not TOML"):
        config.load(str(deep))


def test_show_reads_back():
    read = config.parse(
        'log_level = "debug"\n[jail.x]\nban = "90s"\nescalation = 1.5\n[detection]\nservices = {ssh = 22}'
    )
    assert config.parse(config.show(read)) == read
    assert config.parse(config.show(Config())) == Config()


def test_show_and_repr_hide_passwords():
    read = config.parse(
        '[archive]\nurl = "postgresql://u:hunter2@h/db?password=hunter2"\n[limiter]\nurl = "redis://:hunter2@h/0"'
    )
    assert "hunter2" not in config.show(read) + repr(read)
    assert 'url = "redis://:***@h/0"' in config.show(read)


def test_every_key_has_a_default_that_is_allowed():
    for section in SECTIONS.values():
        base = section()
        for key in settings.keys(section):
            assert key.kind.read(key.default) == getattr(base, key.name), key.name
            assert key.kind.allowed


def test_sections_are_complete():
    own = {item.name for item in fields(Config) if not item.metadata}
    assert own - set(settings.SECTIONS) == {"jail", "source", "embedded", "lines", "written"}


def test_where():
    read = config.parse('[tls]\n\ncertificate = "/c"\nprivate_key = "/k"\n', "f.toml")
    assert read.where("tls", "certificate") == "f.toml:3: tls.certificate"
    assert read.where("tls", "client_ca") == "f.toml:1: tls.client_ca"
    assert read.where("http", "listen") == "f.toml: http.listen"
    assert Config().where("http", "listen") == "http.listen"


def test_embedded(tmp_path):
    made = config.embedded(str(tmp_path))
    assert made.listen.udp == made.listen.tcp == ("[::]:5514",)
    assert made.journal.url == f"sqlite://{tmp_path}/journal.db"
    assert made.http.control == f"{tmp_path}/control.sock"
    assert made.detection.rules == (str(CHECKOUT / "etc" / "rules.d"),)
    assert config.reload(made) == made


def test_reload_reads_the_same_file_again(tmp_path):
    file = tmp_path / "logguardd.toml"
    file.write_text('log_level = "debug"')
    first = config.load(str(file))
    file.write_text('log_level = "error"')
    assert config.reload(first).log_level == "error"
    assert config.reload(Config()) == Config()


def test_sockets_that_were_opened_before_survive_a_reload(tmp_path):
    file = tmp_path / "logguardd.toml"
    file.write_text("[listen]\nmax_connections = 5\n")
    first = config.load(str(file))
    running = replace(first, listen=replace(first.listen, udp=("systemd:udp-0",)), written=first.listen)
    again = config.reload(running)
    assert again.listen == running.listen
    assert config.reload(again).listen == running.listen
    file.write_text("[listen]\nmax_connections = 6\n")
    assert config.reload(again).listen.udp == ("[::]:514",)


def test_read_rules(tmp_path):
    (tmp_path / "b.toml").write_text("# b")
    (tmp_path / "a.toml").write_text("# a")
    (tmp_path / "a.toml.bak").write_text("# no")
    single = tmp_path / "single"
    single.write_text("# single")
    assert config.read_rules([str(tmp_path), str(single)]) == [
        (f"{tmp_path}/a.toml", "# a"),
        (f"{tmp_path}/b.toml", "# b"),
        (str(single), "# single"),
    ]
    with pytest.raises(ConfigError) as error:
        config.read_rules([str(tmp_path / "no"), str(tmp_path / "nor")])
    assert len(str(error.value).split("\n")) == 2


def shipped_keys():
    """Yield section, key and default of everything that the shipped file should show."""
    for name, section in [("", Config), *settings.SECTIONS.items()]:
        for key in settings.keys(section):
            yield name, key.name, key.kind.read(key.default)


def test_the_shipped_file_shows_every_default():
    text = (CHECKOUT / "etc" / "logguardd.toml").read_text()
    assert config.parse(text) == Config()
    # What is commented out as "#key = value" must be right too, and everything must be there one way or the other.
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and line[1:2] not in ("", " ") else line for line in text.split("\n")
    )
    read = config.parse(uncommented, "etc/logguardd.toml")
    assert read == Config()
    document = tomllib.loads(uncommented)
    for section, key, _ in shipped_keys():
        assert key in (document[section] if section else document), f"{section}.{key}"
    for key in settings.keys(settings.Jail):
        assert any(key.name in jail for jail in document["jail"].values()), key.name


def test_the_reference_names_every_key():
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    parts = {part.partition("\n")[0].strip(" `[]"): part for part in text.split("\n## ")}
    for name, section in SECTIONS.items():
        part = parts[name or "Top level"]
        for key in settings.keys(section):
            row = next((line for line in part.split("\n") if line.startswith(f"| `{key.name}` |")), None)
            assert row, f"{name}.{key.name} is not in docs/configuration.md"
            assert f"`{config.toml_text.value(key.default)}`" in row, f"{name}.{key.name}: another default"
