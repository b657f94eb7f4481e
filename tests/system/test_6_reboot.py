"""Both machines are rebooted."""

from tests.servers.process import wait_until
from tests.system.fleet import ATTACKER, CLIENT, archived, banned


def test_reboot_keeps_bans(fleet, server, client):
    left = banned(server)[ATTACKER]
    for guest in (server, client):
        guest.reboot()
        assert guest.state() == "running"
    for guest in (server, client):
        now = wait_until(lambda guest=guest: banned(guest).get(ATTACKER), timeout=60, what=f"the ban on {guest.name}")
        assert 0 < now <= left
    assert not fleet.reaches(CLIENT, 22)


def test_messages_come_again(server, client):
    client.sh("logger 'up again'")
    wait_until(lambda: archived(server, "up again") == 1, what="the message")
    assert archived(server, "paid 0042 in full") == 1
