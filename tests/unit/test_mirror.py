"""A feed's events to work for the kernel."""

from ipaddress import ip_address, ip_network

from logguardd.feed import Change, Heartbeat, Hello, Snapshot
from logguardd.firewall.guard import Guard
from logguardd.firewall.mirror import Mirror
from logguardd.records import Ban


def ban(network, port=0, until=1000):
    return Ban(ip_network(network), port, "auth", 0, until, "")


A, B, C, D = (ban(f"192.0.2.{n}") for n in range(1, 5))


def mirror(*bans):
    made = Mirror(Guard())
    made.take(Hello(1, "x", 0))
    made.take(Snapshot(bans, more=False))
    return made


def test_nothing_is_done_before_a_whole_snapshot():
    made = Mirror(Guard())
    made.spoil()
    made.take(Hello(1, "x", 0))
    made.take(Snapshot((A,), more=True))
    made.take(Heartbeat(1))
    assert not made.due
    assert not made.complete
    made.take(Snapshot((B,), more=False))
    assert made.complete
    assert made.work(0, 10) == (True, [A, B], [])
    assert not made.due


def test_changes_are_taken_in_order_and_as_they_ended_up():
    made = mirror(A, B)
    made.work(0, 10)
    longer = ban("192.0.2.2", until=2000)
    made.take(Change((C, D, longer), (A.key,)))
    made.take(Change((), (C.key, ban("203.0.113.1").key)))
    assert len(made) == 2
    assert made.work(0, 2) == (False, [], [A, C])
    assert made.work(0, 10) == (False, [D, longer], [])
    assert not made.due


def test_work_comes_in_pieces():
    made = mirror()
    made.work(0, 10)
    made.take(Change((A, B, C), ()))
    assert made.work(0, 2) == (False, [A, B], [])
    assert made.due
    made.take(Change((), (C.key, A.key)))
    assert made.work(0, 2) == (False, [], [C, A])
    assert not made.due


def test_a_new_snapshot_replaces_everything():
    made = mirror(A, B)
    made.work(0, 10)
    made.take(Change((C,), ()))
    made.take(Hello(1, "y", 0))
    made.take(Snapshot((D,), more=True))
    made.take(Snapshot((A,), more=False))
    assert made.work(0, 10) == (True, [D, A], [])
    assert not made.due


def test_a_snapshot_that_broke_off_is_forgotten():
    made = mirror(A)
    made.work(0, 10)
    made.take(Hello(1, "y", 0))
    made.take(Snapshot((B,), more=True))
    made.spoil()
    assert made.work(0, 10).add == [A]
    made.take(Hello(1, "y", 0))
    made.take(Snapshot((C,), more=False))
    assert made.work(0, 10).add == [C]


def test_after_a_failure_everything_is_due_without_what_has_ended():
    made = mirror(A, ban("203.0.113.1", until=5), ban("203.0.113.2", until=None))
    made.work(0, 10)
    made.take(Change((B,), (A.key,)))
    made.spoil()
    assert made.due
    assert made.work(5, 10) == (True, [ban("203.0.113.2", until=None), B], [])


def test_bans_that_have_ended_are_forgotten():
    made = mirror(A, ban("203.0.113.1", until=5))
    made.work(0, 10)
    made.take(Change((ban("203.0.113.3", until=5),), ()))
    made.forget(5)
    assert len(made) == 1
    assert not made.due


def test_what_the_guard_refuses_is_never_work(caplog):
    made = mirror(A, ban("127.0.0.1"), ban("0.0.0.0/0", 22))
    made.take(Change((ban("::1"), B), ()))
    assert made.work(0, 10) == (True, [A, B], [])
    assert caplog.messages == [
        "refusing to ban 127.0.0.1 (jail auth): loopback",
        "refusing to ban 0.0.0.0/0 (jail auth): wider than /8",
        "refusing to ban ::1 (jail auth): loopback",
    ]


def test_a_ban_of_what_has_become_an_own_address_is_taken_back():
    guard = Guard()
    made = Mirror(guard)
    made.take(Snapshot((A, B), more=False))
    made.work(0, 10)
    guard.protect([ip_address("192.0.2.1")], [])
    made.recheck()
    assert made.work(0, 10) == (False, [], [A])


def test_the_number_of_bans_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr("logguardd.firewall.mirror.MAX_BANS", 2)
    made = mirror(A, B, C)
    longer = ban("192.0.2.2", until=2000)
    made.take(Change((D, longer), ()))
    assert made.work(0, 10).add == [A, longer]
    assert "not banning 192.0.2.3: 2 bans are the most" in caplog.messages
