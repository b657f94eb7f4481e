"""One suite over the backends: what the kernel holds is what is banned, for as long, whatever was there before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.records import SECOND
from tests.integration.firewalls import (
    BACKENDS,
    BAD,
    BAD6,
    FAR,
    GOOD,
    GOOD6,
    NEAR,
    PEERS,
    ban,
    network,
    now,
    world,
)  # fmt: skip
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from tests.integration.firewalls import World

__all__ = ["network", "world"]  # fixtures


def test_timeouts_are_those_of_the_bans_and_bans_can_be_extended_and_cut_short(world: World) -> None:
    world.sync(ban(BAD), ban(GOOD, 22, 40), ban("10.1.0.0/16", 0, 5000), ban(BAD6, 0, None), ban(GOOD6, 0, -1))
    world.apply(ban(BAD, 0, 900), ban(GOOD, 22, 20), ban(FAR, 0, 0))
    wanted = {BAD: 900, f"{GOOD} 22": 20, "10.1.0.0/16": 5000, BAD6: None}
    _assert_near(world, wanted)
    world.apply(ban(BAD, 0, None), ban(BAD6, 0, 60))
    _assert_near(world, wanted | {BAD: None, BAD6: 60})
    world.apply(ban(BAD, 0, -1))
    _assert_near(world, {GOOD + " 22": 20, "10.1.0.0/16": 5000, BAD6: 60})


def _assert_near(world: World, wanted: dict[str, int | None]) -> None:
    left = world.left()
    assert left.keys() == wanted.keys()
    for name, seconds in wanted.items():
        if world.kind != "iptables":
            assert (left[name] is None) == (seconds is None), name
            assert seconds is None or seconds - 3 <= (left[name] or 0) <= seconds, name


def test_the_longest_bans(world: World) -> None:
    """ipset takes 2,147,483 s at most: a longer ban is cut and renewed."""
    month = 30 * 86400
    world.sync(ban(BAD, 0, month))
    world.apply(ban(GOOD, 22, month), ban(FAR, 0, 10_000 * 365 * 86400))
    assert world.left().keys() == {BAD, f"{GOOD} 22", FAR}
    half = 1_073_742 * SECOND
    world.recorder.commands.clear()
    world.do(lambda: world.backend.tick(now() + half))
    if world.kind == "ipset":
        (renewal,) = world.recorder.commands
        assert renewal.script.count(" timeout 1518258\n") == 3
    world.apply(remove=(ban(BAD), ban(GOOD, 22), ban(FAR)))
    world.do(lambda: world.backend.tick(now() + 2 * half))
    assert world.left() == {}


def test_a_ban_ends_by_itself(world: World) -> None:
    world.sync(ban(BAD, 0, 1), ban(GOOD, 0, 300))
    world.apply(ban(GOOD6, 22, 1))
    assert world.passing() == set(PEERS) - {BAD, GOOD, GOOD6}

    def ended() -> bool:
        world.do(lambda: world.backend.tick(now()))
        return world.left().keys() == {GOOD}

    wait_until(ended, timeout=5, what="the end of two bans")
    assert world.passing() == set(PEERS) - {GOOD}


def test_removing_what_is_there_and_what_is_not(world: World) -> None:
    world.sync(ban(BAD), ban(BAD, 80), ban(GOOD, 0, 1), ban("10.0.0.0/8"))
    time_up = now() + SECOND
    wait_until(lambda: now() > time_up + SECOND // 10, timeout=3)
    world.apply(remove=(ban(BAD), ban(GOOD), ban(FAR), ban(BAD6, 22), ban("10.0.0.0/8"), ban("10.0.0.0/9")))
    assert world.left().keys() == {f"{BAD} 80"}
    assert world.passing(22) == set(PEERS)
    assert world.passing(80) == set(PEERS) - {BAD}


def test_extending_what_the_kernel_has_expired_already(world: World) -> None:
    world.sync(ban(BAD, 0, 1), ban("10.1.0.0/16", 0, 1))
    time_up = now() + SECOND
    wait_until(lambda: now() > time_up + SECOND // 10, timeout=3)
    world.apply(ban(BAD), ban("10.1.0.0/16"))
    _assert_near(world, {BAD: 300, "10.1.0.0/16": 300})
    assert world.passing() == set(PEERS) - {BAD, NEAR}


def test_reconciliation_leaves_what_is_right_and_mends_the_rest(world: World) -> None:
    stays = ban(BAD, 0, 300)
    world.sync(stays, ban(GOOD), ban("10.1.0.0/16"), ban(BAD6, 0, 30), ban(GOOD6, 22, None))
    # A new process knows nothing of what the former one did.
    world.backend = BACKENDS[world.kind](world.recorder)
    world.recorder.commands.clear()
    world.sync(stays, ban("10.0.0.0/8"), ban(BAD6, 0, 900), ban(GOOD6, 22, 50))
    _assert_near(world, {BAD: 300, "10.0.0.0/8": 300, BAD6: 900, f"{GOOD6} 22": 50})
    if world.kind != "iptables":
        assert not [command for command in world.recorder.commands if BAD in re.split(r"[\s,]+", command.script)]
    assert world.passing() == set(PEERS) - {BAD, NEAR, FAR, BAD6, GOOD6}
    world.apply(remove=(ban("10.0.0.0/8"),))
    assert world.passing() == set(PEERS) - {BAD, BAD6, GOOD6}
