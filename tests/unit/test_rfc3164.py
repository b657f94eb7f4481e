"""RFC 3164 in the forms that programs and devices really send."""

from __future__ import annotations

from datetime import UTC

import pytest

from logguardd.parsing.fields import Fields
from logguardd.parsing.rfc3164 import parse
from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
TIME = RECEIVED + 15 * SECOND
STAMP = "Nov 20 10:00:15"


def read(text: str) -> Fields:
    return parse(text, Clock(RECEIVED, UTC, 300 * SECOND))


def said(hostname: str | None, app_name: str | None, procid: str | None, msg: str) -> Fields:
    return Fields(TIME, hostname, app_name, procid, None, msg)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        # RFC 3164 section 5.4 and the tag's forms
        ("mymachine su: 'su root' failed", said("mymachine", "su", None, "'su root' failed")),
        ("su: 'su root' failed", said(None, "su", None, "'su root' failed")),
        ("10.0.0.99 Use the BFG!", said("10.0.0.99", None, None, "Use the BFG!")),
        ("web1 sshd[1234]: Failed password", said("web1", "sshd", "1234", "Failed password")),
        ("web1 sshd[1234] Failed password", said("web1", "sshd", "1234", "Failed password")),
        ("web1 sshd[1234]:Failed password", said("web1", "sshd", "1234", "Failed password")),
        ("web1 su 'su root' failed", said("web1", "su", None, "'su root' failed")),
        ("web1 su:'su root' failed", said("web1", "su", None, "'su root' failed")),
        ("web1 sshd[1234]: \ufeff%d failed", said("web1", "sshd", "1234", "%d failed")),
        ("web1 sshd[1234]: \ufeffFailed", said("web1", "sshd", "1234", "Failed")),
        ("web1 sshd[1234]:   indented", said("web1", "sshd", "1234", "  indented")),
        ("web1  sshd[1234]: two spaces", said("web1", "sshd", "1234", "two spaces")),
        ("web1 sshd:", said("web1", "sshd", None, "")),
        ("web1 sshd[1234]:", said("web1", "sshd", "1234", "")),
        ("mail postfix/smtpd[12]: connect from unknown[192.0.2.1]",
         said("mail", "postfix/smtpd", "12", "connect from unknown[192.0.2.1]")),
        ("web1 /usr/sbin/cron[12]: text", said("web1", "/usr/sbin/cron", "12", "text")),
        ("web1 php-fpm8.2[12]: text", said("web1", "php-fpm8.2", "12", "text")),
        ("web1 CRON[12]: (root) CMD (true)", said("web1", "CRON", "12", "(root) CMD (true)")),
        ("web1 (sd-pam)[12]: text", said("web1", "(sd-pam)", "12", "text")),
        ("web1 kernel: [   12.345678] IN=eth0 OUT=", said("web1", "kernel", None, "[   12.345678] IN=eth0 OUT=")),
        ("web1 kernel:[12.345678] IN=eth0 OUT=", said("web1", "kernel", None, "[12.345678] IN=eth0 OUT=")),
        ("\tweb1\tapp: text", said("web1", "app", None, "text")),
        ("web1 systemd[1]: Started cron.service.", said("web1", "systemd", "1", "Started cron.service.")),
        ("web1 app[]: text", said("web1", "app", None, "text")),
        # cut after 32 characters by rsyslog's forward templates
        ("mail postfix/submission/smtpd[1234567 connect from unknown[192.0.2.1]",
         said("mail", "postfix/submission/smtpd", None, "connect from unknown[192.0.2.1]")),
        ("mail postfix/submission/smtpd[123456] connect from unknown[192.0.2.1]",
         said("mail", "postfix/submission/smtpd", "123456", "connect from unknown[192.0.2.1]")),
        ("mail systemd-networkd-wait-online-x[1 text", said("mail", "systemd-networkd-wait-online-x", None, "text")),
        ("mail systemd-networkd-wait-online-xy[ text", said("mail", "systemd-networkd-wait-online-xy", None, "text")),
        ("mail org.freedesktop.nm-dispatcher.se text",
         said("mail", "org.freedesktop.nm-dispatcher.se", None, "text")),
        ("mail postfix/submission/smtpd[12345 not 32 long",
         said("mail", None, None, "postfix/submission/smtpd[12345 not 32 long")),
        # no hostname: HAProxy; Docker, whose tag may be an image; pfSense
        ("haproxy[1234]: Connect from 192.0.2.1:80", said(None, "haproxy", "1234", "Connect from 192.0.2.1:80")),
        ("0d1f2e3a4b5c[1234]: hello world", said(None, "0d1f2e3a4b5c", "1234", "hello world")),
        ("123456789012[1234]: hello world", said(None, "123456789012", "1234", "hello world")),
        ("nginx:1.27/web[1234]: hello", said(None, "nginx:1.27/web", "1234", "hello")),
        ("dockerhost nginx:1.27/web[1234]: hello", said("dockerhost", "nginx:1.27/web", "1234", "hello")),
        # hostnames
        ("2001:db8::1 sshd[12]: text", said("2001:db8::1", "sshd", "12", "text")),
        ("2001:db8:: sshd[12]: text", said("2001:db8::", "sshd", "12", "text")),
        ("[2001:db8::1] sshd[12]: text", said("2001:db8::1", "sshd", "12", "text")),
        ("fe80::1%eth0 sshd[12]: text", said("fe80::1%eth0", "sshd", "12", "text")),
        ("192.0.2.7 sshd[12]: text", said("192.0.2.7", "sshd", "12", "text")),
        ("relay/web1 sshd[12]: text", said("relay/web1", "sshd", "12", "text")),
        ("- sshd[12]: text", said(None, "sshd", "12", "text")),
        ("(none) dropbear[12]: text", said(None, "dropbear", "12", "text")),
        ("Message forwarded from aix1: sshd[12]: text", said("aix1", "sshd", "12", "text")),
        ("::ffff:192.0.2.7 su: text", said("::ffff:192.0.2.7", "su", None, "text")),
        ("web1\tsshd[12]:\ttext", said("web1", "sshd", "12", "\ttext")),
        # Windows: Snare's agent, with a space or a tab after the hostname; NXLog
        ("win1 MSWinEventLog\t1\tSecurity\t123\tFri Nov 20 10:00:15 2026\t4625",
         said("win1", "MSWinEventLog", None, "1\tSecurity\t123\tFri Nov 20 10:00:15 2026\t4625")),
        ("win1\tMSWinEventLog\t1\tSecurity\t123\tFri Nov 20 10:00:15 2026\t4625",
         said("win1", "MSWinEventLog", None, "1\tSecurity\t123\tFri Nov 20 10:00:15 2026\t4625")),
        ("win1.example Microsoft-Windows-Security-Auditing[612]: An account failed to log on.",
         said("win1.example", "Microsoft-Windows-Security-Auditing", "612", "An account failed to log on.")),
        # the level before the tag: busybox, BIG-IP; but a program may be called so
        ("ap1 auth.info sshd[12]: text", said("ap1", "sshd", "12", "text")),
        ("ap1 authpriv.warn dropbear[12]: text", said("ap1", "dropbear", "12", "text")),
        ("lb1 notice tmm[12]: text", said("lb1", "tmm", "12", "text")),
        ("lb1 info logger: [ssl_acc] text", said("lb1", "logger", None, "[ssl_acc] text")),
        ("web1 info: text", said("web1", "info", None, "text")),
        ("web1 info text", said("web1", "info", None, "text")),
        ("web1 mail.err 'text", said("web1", "mail.err", None, "'text")),
        # macOS, Solaris, Junos, ESXi
        ("mac1 com.apple.xpc.launchd[1] (com.example.job[123]): Service exited",
         said("mac1", "com.apple.xpc.launchd", "1", "(com.example.job[123]): Service exited")),
        ("mac1 --- last message repeated 3 times ---", said("mac1", None, None, "--- last message repeated 3 times ---")),
        ("sun1 sshd[12]: [ID 800047 auth.info] text", said("sun1", "sshd", "12", "text")._replace(msgid="800047")),
        ("sun1 sshd[12]: [ID x] text", said("sun1", "sshd", "12", "[ID x] text")),
        ("sw1 %%01SSH/5/SSH_FAIL(l)[12]:text", said("sw1", None, None, "%%01SSH/5/SSH_FAIL(l)[12]:text")),  # Huawei
        ("re0.router1 /kernel: text", said("re0.router1", "/kernel", None, "text")),
        ("esx1 Hostd: info hostd[2099] [Originator@6876 sub=Vimsvc] text",
         said("esx1", "Hostd", None, "info hostd[2099] [Originator@6876 sub=Vimsvc] text")),
        # FreeBSD's syslogd as a relay; for itself it names no host.
        ("Forwarded from bsd1: sshd[12]: text", said("bsd1", "sshd", "12", "text")),
        # written by a syslogd on its own account
        ("web1 last message repeated 3 times", said("web1", None, None, "last message repeated 3 times")),
        ("last message repeated 3 times", said(None, None, None, "last message repeated 3 times")),
        ("web1 message repeated 3 times: [ text]", said("web1", None, None, "message repeated 3 times: [ text]")),
        ("web1 sshd[12]: message repeated 2 times: [ text]",
         said("web1", "sshd", "12", "message repeated 2 times: [ text]")),
        # messages without tag
        ("web1 Failed password for root", said("web1", None, None, "Failed password for root")),
        ('web1 {"a": 1}', said("web1", None, None, '{"a": 1}')),
        ('web1 @cee: {"a": 1}', said("web1", None, None, '@cee: {"a": 1}')),
        ('web1 app: @cee: {"a": 1}', said("web1", "app", None, '@cee: {"a": 1}')),
        ('@cee: {"a": 1}', said(None, None, None, '@cee: {"a": 1}')),
        ('{"a": 1}', said(None, None, None, '{"a": 1}')),
        ("web1 CEF:0|Vendor|Product|1|100|Name|5|src=192.0.2.1",
         said("web1", None, None, "CEF:0|Vendor|Product|1|100|Name|5|src=192.0.2.1")),
        ("PA-220 1,2026/11/20 10:00:00,0123,TRAFFIC", said("PA-220", None, None, "1,2026/11/20 10:00:00,0123,TRAFFIC")),
        ("fw1 date=2026-11-20 time=10:00:00", said("fw1", None, None, "date=2026-11-20 time=10:00:00")),
        ("web1 12:30 is late", said("web1", None, None, "12:30 is late")),
        ("web1 2001:db8::5 is away", said("web1", None, None, "2001:db8::5 is away")),
        ("web1 http://example.com/ is away", said("web1", None, None, "http://example.com/ is away")),
        ("hello", said(None, None, None, "hello")),
        ("", said(None, None, None, "")),
    ],
)  # fmt: skip
def test_after_the_stamp(rest: str, expected: Fields) -> None:
    assert read(f"{STAMP} {rest}") == expected


@pytest.mark.parametrize(
    "stamp",
    [
        "Nov 20 10:00:15",
        " Nov 20 10:00:15",
        "Nov 20 2026 10:00:15",
        "Nov 20 10:00:15 2026",
        "2026 Nov 20 10:00:15",
        "Nov 20 10:00:15 CST 2026",
        "Nov 20 10:00:15.000",
        "Nov 20 10:00:15 UTC",
        "Nov 20 12:00:15 +0200",
        "Nov 20 2026 12:00:15+02:00",
        "Nov 20 10:00:15 CET",
        "Nov 20 10:00:15 PDT",
        "Nov 20 10:00:15:",
        "Fri Nov 20 10:00:15 2026",
        "Fri Nov 20 10:00:15",
        "Nov 20 10:00:15 <auth.info>",
        "Nov 20 10:00:15 <4.6>",
        "2026-11-20T10:00:15Z",
        "2026-11-20T10:00:15.000000+00:00",
        "2026-11-20T11:00:15+0100",
        "2026-11-20 10:00:15",
        "2026:11:20-10:00:15",
    ],
)
def test_stamps_before_host_and_tag(stamp: str) -> None:
    assert read(f"{stamp} web1 sshd[12]: text") == said("web1", "sshd", "12", "text")
    assert read(f"{stamp} sshd[12]: text") == said(None, "sshd", "12", "text")


def test_examples_of_the_rfc() -> None:
    """Those of section 5.4 that stand in for a sender of long ago: their time is replaced by ours."""
    assert read(
        "Aug 24 05:34:00 CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.  %%  Ingredients: Mix=OK"
    ) == Fields(
        RECEIVED, "mymachine", "myproc", "10", None, "%% It's time to make the do-nuts.  %%  Ingredients: Mix=OK"
    )
    assert read("1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!") == Fields(
        RECEIVED, "scapegoat.dmz.example.org", None, None, None, "10.1.2.3 sched[0]: That's All Folks!"
    )


def test_unpadded_day() -> None:
    received = RECEIVED - 18 * 86400 * SECOND
    assert parse("Nov 2 10:00:00 web1 sshd[12]: text", Clock(received, UTC, 0)) == Fields(
        received, "web1", "sshd", "12", None, "text"
    )


@pytest.mark.parametrize("text", ["Nov 31 10:00:00 web1 sshd[12]: text", "2026-11-20T25:00:00Z web1 sshd[12]: text"])
def test_stamp_that_is_no_time(text: str) -> None:
    assert read(text) == Fields(None, None, None, None, None, text, parse_error="invalid timestamp")


@pytest.mark.parametrize(
    ("text", "app_name", "procid", "msg"),
    [
        ("Use the BFG!", None, None, "Use the BFG!"),
        ("su: 'su root' failed", "su", None, "'su root' failed"),
        ("sshd[12]: Failed password", "sshd", "12", "Failed password"),
        (" sshd[12]: Failed password", "sshd", "12", "Failed password"),
        (" text", None, None, " text"),
        ('{"a": 1}', None, None, '{"a": 1}'),
        ('@cee: {"a": 1}', None, None, '@cee: {"a": 1}'),
        ("1 of 3 disks failed", None, None, "1 of 3 disks failed"),
        ("", None, None, ""),
    ],
)
def test_without_stamp(text: str, app_name: str | None, procid: str | None, msg: str) -> None:
    assert read(text) == Fields(None, None, app_name, procid, None, msg)


def test_over_long_names_are_message() -> None:
    assert read(f"{STAMP} web1 {'t' * 256}: text") == said("web1", None, None, f"{'t' * 256}: text")
    assert read(f"{STAMP} {'h' * 256} sshd: text") == said(None, None, None, f"{'h' * 256} sshd: text")
