"""logguardd's command line: check-config, print-config, and wrong usage."""

import json
import logging
import subprocess
import sys

import pytest

from logguardd import cli, config, exits
from tests.servers.certificates import Authority

RULE = """
[[rule]]
name = "sshd-failed"
app_name = ["sshd"]
match = ["Failed password for <user> from <ip> port <port> ssh2"]
service = "ssh"
tags = ["auth-failure"]
severity = "medium"
example = ["Failed password for root from 203.0.113.5 port 40022 ssh2"]
ignore = ["Failed password for root from somewhere"]
"""


@pytest.fixture
def logguardd(capsys):
    """Return a function that runs logguardd and returns exit code, standard output and the lines of standard error."""

    def run(*argv):
        code = exits.run(cli.command, "logguardd", [str(word) for word in argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err.splitlines()

    return run


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a configuration with one good rule file, and returns its path."""
    rules = tmp_path / "rules.d"
    rules.mkdir()
    (rules / "ssh.toml").write_text(RULE)

    def write(text=""):
        path = tmp_path / "logguardd.toml"
        path.write_text(text if "[detection]" in text else f'{text}\n[detection]\nrules = ["{rules}"]\n')
        return path

    return write


def test_a_good_configuration(logguardd, file):
    path = file("[jail.mine]\nhits = ['sshd-failed', 'auth-failure']\n[jail.flood]\nenabled = false\n")
    code, out, err = logguardd("check-config", "--config", path)
    assert (code, err) == (0, [])
    assert out == f"OK: {path}: 2 listeners, 1 rules with 2 examples, 2 jails\n"


def test_every_error_is_found_at_once(logguardd, file, tmp_path):
    bad = RULE.replace("sshd", "other").replace("40022", "port").replace("medium", "bad")
    (tmp_path / "rules.d" / "bad.toml").write_text(bad.replace("<port>", "<prot>") + bad.replace("bad", "low"))
    (tmp_path / "rules.d" / "worse.toml").write_text("rule = 3")
    (tmp_path / "rules.d" / "worst.toml").write_bytes(b"\xff")
    path = file('[listen]\nudp = ["nonsense"]\nmax_conections = 3\n[tls]\ncertificate = "/nonexistent/cert.pem"\n')
    code, out, err = logguardd("check-config", "--config", path)
    assert (code, out) == (2, "")
    assert len(err) == 9
    assert err[0].startswith(f'logguardd: {path}:2: listen.udp: "nonsense" does not end in :PORT')
    assert err[1].startswith(
        f'logguardd: {path}:3: listen.max_conections: unknown key, did you mean "max_connections"?'
    )
    assert "worst.toml:1: byte 0xff is not UTF-8" in err[2]
    assert "bad.toml: line 2, rule other-failed: match 1, column 43: " in err[3]
    assert "bad.toml: line 2, rule other-failed: severity: 'bad' is not a severity" in err[4]
    assert "bad.toml: line 12, rule other-failed: name: other-failed is taken by the rule at " in err[5]
    assert "worse.toml: rule: must be written as [[rule]]" in err[6]
    assert "bad.toml: line 12, rule other-failed: example 1: matches no pattern of this rule" in err[7]
    assert err[8].startswith(f"logguardd: {path}:5: tls.certificate: /nonexistent/cert.pem")


def test_no_error_hides_another(logguardd, file, tmp_path):
    authority = Authority(tmp_path / "pki")
    certificate, _ = authority.issue("logs.example")
    _, key = authority.issue("other.example")
    rules, ca = tmp_path / "rules.d", tmp_path / "ca.pem"
    ca.write_text("nothing")
    (rules / "web.toml").write_text(
        RULE.replace("sshd-failed", "web")
        .replace("medium", "grave")
        .replace("40022", "port")
        .replace("ignore", "ignroe")
    )
    path = file(f"""
log_fromat = "json"
[listen]
udp = ["nonsense"]
tcp = [":514", "[::]:514"]
[tls]
certificate = "{certificate}"
private_key = "{key}"
client_ca = "{ca}"
permitted_peers = ["SHA256:zz", "SHA1:yy"]
[archive]
url = "postgresql://h/d?sslrootcert=/nonexistent/ca.pem"
retention = "1h"
[limiter]
url = "rediss://h/0?ssl_ca_certs=/nonexistent/redis.pem"
[detection]
rules = ["{rules}", "/nonexistent/rules"]
allowlist = ["300.1.1.1"]
services = {{ssh = 70000, own = 1}}
[jail.mine]
threshold = -1
ban = "2d"
max_ban = "1d"
[jail.wide]
ipv6_prefix = 64
""")
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 2
    for part in (
        ":2: log_fromat: unknown",
        ":4: listen.udp: ",
        ':5: listen.tcp: "[::]:514" is taken by listen.tcp (":514")',
        ":8: tls.private_key: ",
        ":9: tls.client_ca: ",
        ":10: tls.permitted_peers: 'SHA256:zz'",
        ":10: tls.permitted_peers: 'SHA1:yy'",
        ":12: archive.url: sslrootcert: ",
        ":13: archive.retention: ",
        ":15: limiter.url: ",
        ":17: detection.rules: /nonexistent/rules",
        ":18: detection.allowlist: ",
        ":19: detection.services: ",
        ":21: jail.mine.threshold: ",
        ":23: jail.mine.max_ban: shorter",
        ":25: jail.wide.ipv6_prefix: 64 does not go with",
        "rule web: severity: 'grave'",
        "rule web: ignroe: unknown key",
        "rule web: example 1: matches no pattern",
    ):
        assert sum(part in line for line in err) == 1, (part, err)
    assert len(err) == 19


def test_what_is_in_doubt_is_not_held_against_the_rest(logguardd, file, tmp_path):
    (tmp_path / "rules.d" / "own.toml").write_text(
        RULE.replace("sshd", "own")
        .replace('"ssh"', '"own"')
        .replace('tags = ["auth-failure"]', 'tgas = ["auth-failed"]')
        + "description = 3\n"
    )
    code, _, err = logguardd(
        "check-config",
        "--config",
        file(f"""
[listen]
udp = [":5514", 3]
tls = [":6514"]
[tls]
certificat = "/etc/cert.pem"
[jail.mine]
hits = ["auth-failed"]
ipv6_prefix = 64
group_bye = ["address"]
ban = "1y"
max_ban = "1s"
[detection]
rules = ["{tmp_path}/rules.d"]
services = {{own = 70000}}
"""),
    )
    assert code == 2
    assert [line.split(": ")[2] for line in err[:5]] == [
        "listen.udp", "tls.certificat", "jail.mine.group_bye", "jail.mine.ban", "detection.services",
    ]  # fmt: skip
    assert [line.split(": ")[3] for line in err[5:]] == ["tgas", "description"]


def test_what_is_wrong_in_the_file_is_not_reported_twice(logguardd, file):
    code, _, err = logguardd("check-config", "--config", file('[detection]\nrules = ["relative"]\n'))
    assert code == 2
    assert len(err) == 1


def test_what_stands_twice_is_named(logguardd, file):
    for text, where in (
        ('log_level = "info"\n\nlog_level = "info"\n', "3: log_level"),
        ("[listen]\nudp = []\n[listen]\n", "3: listen"),
        ('[jail.flood]\nban = "5m"\n"ban" = "6m"\n', '3: "ban"'),
    ):
        path = file(text)
        assert logguardd("check-config", "--config", path)[::2] == (
            2,
            [f"logguardd: {path}:{where}: it stands here already; allowed: once"],
        )


def test_a_byte_order_mark_is_no_error(logguardd, file):
    path = file("")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert logguardd("check-config", "--config", path)[0] == 0


def test_closed_standard_streams_are_no_error(tmp_path):
    for streams in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        for argv in (
            "logguardd.cli print-config",
            "logguardd.cli --version",
            f"logguardd.ctl --socket {tmp_path}/no status",
        ):
            done = subprocess.run(
                ["sh", "-c", f"exec {sys.executable} -m {argv} {streams}"], capture_output=True, text=True, check=False
            )
            assert "Traceback" not in done.stderr
            assert done.returncode == ("status" in argv)


def test_certificates_of_postgresql(logguardd, file):
    path = file('[archive]\nurl = "postgresql://h/d?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem"\n')
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 2
    assert err == [f"logguardd: {path}:2: archive.url: sslrootcert: /nonexistent/ca.pem: No such file or directory"]


def test_missing_folders_are_a_warning(logguardd, file, tmp_path):
    (tmp_path / "there").mkdir()
    text = f"""[journal]
url = "sqlite://{tmp_path}/none/journal.db"
[archive]
url = "sqlite://{tmp_path}/there/archive.db"
[firewall]
output = "/dev/null/commands.sh"
[http]
control = "{tmp_path}/no/control.sock"
"""
    path = file(text)
    code, out, err = logguardd("check-config", "--config", path)
    assert (code, out[:3]) == (0, "OK:")
    no_folder = "there is no such folder; it must be there when logguardd starts"
    assert err == [
        f"warning: {path}:8: http.control: {tmp_path}/no: {no_folder}",
        f"warning: {path}:6: firewall.output: /dev/null: {no_folder}",
        f"warning: {path}:2: journal.url: {tmp_path}/none: {no_folder}",
    ]
    # Only what the file says: the defaults' folders are the units' to make.
    assert logguardd("check-config", "--config", file())[2] == []


def test_missing_rules(logguardd, file):
    path = file('[detection]\nrules = ["/nonexistent/a", "/nonexistent/b"]\n')
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 2
    assert err == [
        f"logguardd: {path}:2: detection.rules: /nonexistent/{name}: cannot be read: No such file or directory"
        for name in "ab"
    ]


def test_jails_that_wait_for_nothing(logguardd, file):
    path = file('[jail.mine]\nhits = ["auth-failures"]\n')
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 2
    (line,) = err
    assert line.startswith(
        f'logguardd: {path}:2: jail.mine.hits: no rule bears "auth-failures", did you mean "auth-failure"?'
    )


def test_shipped_jails_that_wait_for_nothing_are_a_warning(logguardd, file, tmp_path):
    (tmp_path / "rules.d" / "ssh.toml").write_text(RULE.replace("auth-failure", "login"))
    path = file()
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 0
    assert err[0].startswith(f'warning: {path}: jail.auth.hits: no rule bears "auth-failure"')


def test_no_rules_are_a_warning(logguardd, file, tmp_path):
    (tmp_path / "rules.d" / "ssh.toml").unlink()
    code, _, err = logguardd("check-config", "--config", file("[jail.auth]\nenabled = false"))
    assert code == 0
    assert "there are no rules" in err[0]


def test_certificates(logguardd, file, tmp_path):
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("logs.example")
    _, other = authority.issue("other.example")
    good = f'[listen]\ntls = ["127.0.0.1:6514"]\n[tls]\ncertificate = "{certificate}"\nprivate_key = "{key}"\n'
    assert logguardd("check-config", "--config", file(good))[0] == 0
    path = file(good.replace(str(key), str(other)))
    code, _, err = logguardd("check-config", "--config", path)
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith(f"logguardd: {path}:5: tls.private_key: ")


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("check-config", "--config", "/nonexistent.toml"), "/nonexistent.toml: cannot be read: No such file"),
        (("print-config", "--config", "/nonexistent.toml"), "/nonexistent.toml: cannot be read: No such file"),
        (("run", "--config", "/nonexistent.toml"), "/nonexistent.toml: cannot be read: No such file"),
        (("run", "--config", "x", "--embedded", "y"), "--config and --embedded exclude each other"),
        (("run", "--pidfile", "x"), "--pidfile goes with --daemonize"),
        (("run", "--config", ""), "'--config': it is empty"),
        (("check-config", "--embedded", " "), "'--embedded': it is empty"),
        (("run", "--embedded", "/dev/null"), "--embedded: /dev/null: not a folder; allowed: a folder"),
        (("check-config", "--embedded", "/dev/null"), "--embedded: /dev/null: not a folder; allowed: a folder"),
        (("run", "--embedded", "/dev/null/x"), "--embedded: /dev/null/x: not a folder; allowed: a folder"),
        (("run", "--confg", "x"), "No such option"),
        (("rum",), "No such command"),
        (("run", "extra"), "unexpected extra argument"),
    ],
)
def test_wrong_usage(logguardd, argv, what):
    code, out, err = logguardd(*argv)
    assert (code, out) == (2, "")
    (line,) = err
    assert what in line


def test_asked_nothing_it_shows_what_can_be_asked(logguardd):
    _, out, err = logguardd()
    assert "check-config" in (out or "\n".join(err))


def test_an_end_is_a_line_of_json_where_the_log_is(logguardd, file):
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    try:
        code, _, err = logguardd("run", "--config", file('log_format = "json"\n'), "--group", "no-such-group")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = handlers, level
        logging.captureWarnings(capture=False)
    assert code == 2
    (line,) = map(json.loads, err)
    assert (line["level"], "no-such-group" in line["message"] or "no user" in line["message"]) == ("critical", True)


def test_unknown_accounts(logguardd, file):
    path = file('user = "nobody-here"\n')
    code, _, err = logguardd("run", "--config", path, "--user", "no-such-user")
    assert code == 2
    assert err[0].startswith(
        'logguardd: --user: there is no user "no-such-user"; allowed: an existing user; make this one'
    )
    code, _, err = logguardd("run", "--config", path, "--user", "nobody", "--group", "no-such-group")
    assert code == 2
    assert err[0].startswith('logguardd: --group: there is no group "no-such-group"')


def test_print_config(logguardd, file):
    path = file('[archive]\nurl = "postgresql://u:hunter2@db.example/logs"\n')
    code, out, err = logguardd("print-config", "--config", path)
    assert (code, err) == (0, [])
    assert 'url = "postgresql://u:***@db.example/logs"' in out
    assert config.parse(out).jail == config.Config().jail


def test_embedded(logguardd, tmp_path):
    code, out, _ = logguardd("print-config", "--embedded", tmp_path)
    assert code == 0
    assert 'udp = ["[::]:5514"]' in out
    assert f'control = "{tmp_path}/control.sock"' in out


def test_version_and_help(logguardd):
    assert logguardd("--version")[:2] == (0, "logguardd, version 0.1.0\n")
    code, out, _ = logguardd("run", "--help")
    assert code == 0
    for option in ("--config", "--daemonize", "--pidfile", "--user", "--group", "--embedded"):
        assert option in out
