"""URLs: what is accepted, what is in them, and that passwords never show."""

import pytest

from logguardd import urls

ALL = ("sqlite", "memory", "postgresql", "postgres", "redis", "rediss", "unix")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///var/lib/logguardd/journal.db",
        "sqlite:////var/lib/logguardd/journal.db",
        "memory://",
        "postgresql://logs@db.example/logs",
        "postgresql://logs:p%40ss@db.example:5433/logs?sslmode=verify-full",
        "postgresql:///logs?host=/var/run/postgresql",
        "postgresql://a:5432,b:5433,c/logs",
        "postgresql://[2001:db8::1]:5432/logs",
        "postgres://127.0.0.1",
        "redis://localhost",
        "redis://:secret@[::1]:6379/3",
        "rediss://cache.example:6380/0",
        "unix:///run/redis/redis.sock?db=2",
        "unix://user:secret@/run/redis/redis.sock",
    ],
)
def test_good(url):
    urls.check(url, ALL)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "not a URL"),
        ("journal.db", "not a URL"),
        ("sqlite:/var/x.db", "not a URL"),
        ("mysql://h/db", 'scheme "mysql"'),
        ("sqlite://journal.db", "three slashes"),
        ("sqlite://host/journal.db", "three slashes"),
        ("sqlite:///var/lib/", "three slashes"),
        ("sqlite://", "three slashes"),
        ("memory://x", "nothing may follow"),
        ("postgresql://h:0/db", 'port "0"'),
        ("postgresql://h:99999/db", 'port "99999"'),
        ("postgresql://h:x/db", 'port "x"'),
        (
            "postgresql://h/db?sslmode=on",
            'sslmode "on" is not disable, allow, prefer, require, verify-ca or verify-full',
        ),
        ("postgresql://h/db?sslmode=", 'sslmode "" is not'),
        ("postgresql://a,b:/db", 'port ""'),
        ("postgresql://[::1/db", "not a URL"),
        ("redis://", "no host"),
        ("redis://h:x/0", "port"),
        ("redis://h/one", 'database "one"'),
        ("unix://host/run/redis.sock", "three slashes"),
        ("redis://h ost/0", "space"),
        ("redis://h\x00/0", "control"),
    ],
)
def test_bad(url, what):
    with pytest.raises(ValueError) as error:
        urls.check(url, ALL)
    assert what in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h:99999/db",
        "redis://:hunter2@/0",
        "unix://u:hunter2@host/run/r.sock",
        "mysql://u:hunter2@h/db",
        "postgresql://u:hunter2@[::1/db",
        "sqlite://u:hunter2@h/x",
        "postgresql://h:x/db?password=hunter2",
    ],
)
def test_errors_hide_passwords(url):
    with pytest.raises(ValueError) as error:
        urls.check(url, ALL)
    assert "hunter2" not in str(error.value)


def test_redact():
    assert urls.redact("postgresql://u:p@ss@h/db") == "postgresql://u:***@h/db"
    assert urls.redact("redis://:s3@h and rediss://a:b@h") == "redis://:***@h and rediss://a:***@h"
    assert (
        urls.redact("postgresql:///db?host=/tmp&password=x&user=u") == "postgresql:///db?host=/tmp&password=***&user=u"
    )
    assert urls.redact("http://[::1]:80/a:b@c") == "http://[::1]:80/a:b@c"
    assert urls.redact("postgresql://h:5432/db") == "postgresql://h:5432/db"
    assert urls.redact("postgresql://h:5432/db?user=a@b") == "postgresql://h:5432/db?user=a@b"
    assert urls.redact("plain text") == "plain text"


@pytest.mark.parametrize("mark", "/?#")
def test_a_password_that_is_not_escaped_is_told_of_and_not_shown(mark: str) -> None:
    for scheme in ("postgresql", "redis"):
        url = f"{scheme}://user:secret{mark}word@db.example:1234/0"
        with pytest.raises(ValueError, match="%2F") as raised:
            urls.check(url, (scheme,))
        assert "secret" not in str(raised.value)
        assert urls.redact(url) == f"{scheme}://user:***@db.example:1234/0"


def test_an_at_sign_elsewhere_is_none_of_a_password() -> None:
    for url in ("postgresql://h:5432/db?user=a@b", "postgresql:///db?user=a@b", "postgresql://u:p@h/db?user=a@b",
                "postgresql://[::1]:5432/db?user=a@b"):  # fmt: skip
        urls.check(url, ("postgresql",))


def test_sqlite_path():
    assert urls.sqlite_path("sqlite:///var/lib/a.db") == "/var/lib/a.db"
    assert urls.sqlite_path("sqlite:////var/lib/a.db") == "/var/lib/a.db"
    assert urls.sqlite_path(urls.sqlite_url("/tmp/with space?#%/a.db")) == "/tmp/with space?#%/a.db"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://u:p@db.example:5432/x", ("db.example",)),
        ("postgresql://a,b:5433/x", ("a", "b")),
        ("postgresql://u@[2001:db8::1]:5432/x", ("2001:db8::1",)),
        ("postgresql:///x?host=/run/postgresql", ()),
        ("postgresql:///x?host=10.0.0.1,10.0.0.2&port=1", ("10.0.0.1", "10.0.0.2")),
        ("postgresql:///x", ()),
        ("postgresql:///x?host=2001:db8::1", ("2001:db8::1",)),
        ("postgresql://%2Frun%2Fpg/x", ()),
        ("redis://:p@10.0.0.3:1/0", ("10.0.0.3",)),
        ("rediss://[2001:db8::2]/0", ("2001:db8::2",)),
        ("unix:///run/redis.sock", ()),
        ("memory://", ()),
        ("sqlite:///x", ()),
    ],
)
def test_hosts(url, found):
    assert urls.hosts(url) == found
