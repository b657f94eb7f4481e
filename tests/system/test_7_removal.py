"""`apt remove` stops everything and keeps what is the operator's; `apt purge` leaves nothing."""

import pytest

from tests.system.leftovers import leftovers


@pytest.fixture(params=["server", "client"])
def guest(request, fleet):
    return getattr(fleet, request.param)


def test_remove(guest):
    guest.sh(
        "rm -rf /etc/rsyslog.d/20-traffic.conf /etc/rsyslog.d/60-logguardd.conf /etc/rsyslog.d/logguardd; systemctl restart rsyslog"
    )
    guest.run("apt-get", "-q", "-y", "remove", "logguardd", timeout=300)
    assert guest.sh("nft list tables") == ""
    assert guest.sh("ps -eo args | grep '[/]usr/bin/logguardd' || true") == ""
    assert guest.sh("ss -Hlntu 'sport = :514 or sport = :6514 or sport = :9515'") == ""
    guest.sh("test -e /etc/logguardd/logguardd.toml && test -e /var/lib/logguardd/journal.db")
    assert guest.state() == "running"


def test_purge(guest):
    guest.run("apt-get", "-q", "-y", "purge", "logguardd", timeout=300)
    assert leftovers(guest) == ""
    assert guest.sh("grep -rl logguardd /etc --exclude='*-' || true") == ""
    assert guest.sh("systemctl list-units --all --plain --no-legend 'logguardd*'") == ""
    assert guest.state() == "running"
