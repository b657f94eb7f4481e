"""The control socket's requests: HTTP with JSON, checked and bounded, to the Control that the daemon is."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from aiohttp import web

from logguardd.errors import ConfigError, LogguarddError, UnavailableError
from logguardd.networks import WIDEST, network_text, unmapped
from logguardd.notation import LONGEST_BAN, MAX_PORT, duration, shown
from logguardd.records import SECOND, Network
from logguardd.web.control import BanRequest, Control, ProtectedError, ban_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from logguardd.web.followers import Followers

_LOG = logging.getLogger(__name__)

#: How long a ban lasts when the request does not say.
DEFAULT_BAN = "1h"
#: The longest body of a request, in bytes, and seconds that answering may take.
MAX_BODY = 64 * 1024
TIMEOUT = 30.0

_MAX_REASON = 256
_SLICE = 1000
_STATUS = {ProtectedError: 409, ConfigError: 400, UnavailableError: 503}
_BAN_KEYS = ("network", "port", "duration", "reason")


class ControlRoutes:
    """The handlers of the control socket."""

    def __init__(self, control: Control, followers: Followers, clock: Callable[[], int]) -> None:
        self._control = control
        self._followers = followers
        self._clock = clock

    def application(self) -> web.Application:
        """Return the application to serve on the control socket."""
        application = web.Application(client_max_size=MAX_BODY, middlewares=[json_errors])
        application.router.add_get("/status", self.status, allow_head=False)
        application.router.add_get("/bans", self.bans, allow_head=False)
        application.router.add_get("/why/{address:.+}", self.why, allow_head=False)
        application.router.add_post("/bans", self.ban)
        application.router.add_delete("/bans", self.unban)
        application.router.add_delete("/bans/{network:.+}", self.unban)
        application.router.add_get("/follow", self.follow, allow_head=False)
        application.router.add_post("/reload", self.reload)
        return application

    async def status(self, _request: web.Request) -> web.StreamResponse:
        """GET /status."""
        return answer(self._control.status())

    async def bans(self, request: web.Request) -> web.StreamResponse:
        """GET /bans: all in force, or with ``address`` those that overlap it, with ``all=true`` past ones too."""
        query = _query(request, "address", "all")
        past = _flag(query, "all")
        wanted = _network("address", query["address"]) if "address" in query else None
        now = self._clock()
        found = [ban for ban in self._control.bans(past=past) if wanted is None or _overlaps(ban.network, wanted)]
        parts = []
        for start in range(0, len(found), _SLICE):
            parts += [json.dumps(ban_json(ban, now), default=str) for ban in found[start : start + _SLICE]]
            await asyncio.sleep(0)
        return web.Response(text=f'{{"bans": [{", ".join(parts)}]}}\n', content_type="application/json")

    async def why(self, request: web.Request) -> web.StreamResponse:
        """GET /why/ADDRESS: what is known of an address, with ``port`` only of that destination port."""
        query = _query(request, "port")
        port = _port(query["port"]) if "port" in query else None
        network = _network("address", request.match_info["address"], allowed="one address")
        if network.prefixlen != network.max_prefixlen:
            raise ConfigError(f"address: {network_text(network)} is a network; allowed: one address")
        return answer(await self._control.why(str(network.network_address), port))

    async def ban(self, request: web.Request) -> web.StreamResponse:
        """POST /bans."""
        made = await self._control.ban(_ban_request(await _body(request)))
        return answer({"ban": ban_json(made, self._clock())}, 201)

    async def unban(self, request: web.Request) -> web.StreamResponse:
        """DELETE /bans/NETWORK: an address stands for every ban that covers it, a network for all bans within it."""
        query = _query(request, "port")
        port = _port(query["port"]) if "port" in query else None
        text = request.match_info.get("network")
        wanted = None if text is None else _network("network", text)
        ended = [
            ban
            for ban in self._control.bans()
            if (wanted is None or _meant(ban.network, wanted)) and port in (None, ban.port)
        ]
        if not ended and wanted is not None:
            on_port = "" if port is None else f" on port {port}"
            return answer({"error": f"{network_text(wanted)} is not banned{on_port}"}, 404)
        await self._control.unban(ended)
        now = self._clock()
        return answer({"unbanned": [ban_json(replace(ban, until=now), now) for ban in ended]})

    async def reload(self, _request: web.Request) -> web.StreamResponse:
        """POST /reload."""
        return answer({"message": await self._control.reload()})

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """GET /follow: the feed of logguardd.feed, until one side closes; HTTP/1.0 gets it without chunks."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        response.force_close()
        await response.prepare(request)
        await self._followers.follow(
            response.write, lambda: request.transport is None or request.transport.is_closing()
        )
        return response


def answer(content: Mapping[str, object], status: int = 200) -> web.Response:
    """Return a JSON response."""
    text = json.dumps(content, default=str) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


@web.middleware
async def json_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer errors in JSON, ``{"error": what}``, and give up on what takes too long."""
    limit = None if request.path == "/follow" else TIMEOUT
    try:
        return await asyncio.wait_for(handler(request), limit)
    except web.HTTPMethodNotAllowed as error:
        refusal = answer({"error": error.reason}, error.status)
        refusal.headers["Allow"] = ", ".join(sorted(error.allowed_methods))  # RFC 9110 section 15.5.6
        return refusal
    except web.HTTPException as error:
        return answer({"error": error.reason}, error.status)
    except TimeoutError:
        return answer({"error": f"no answer within {TIMEOUT:.0f} s"}, 503)
    except LogguarddError as error:
        return answer({"error": str(error)}, next((n for kind, n in _STATUS.items() if isinstance(error, kind)), 500))
    except ConnectionError:
        raise  # the other side has gone
    except Exception:  # noqa: BLE001 - a bug; logged, and answered like every error
        _LOG.exception("%s %s failed", request.method, request.path)
        return answer({"error": "internal error; the daemon's log says more"}, 500)


def _query(request: web.Request, *known: str) -> Mapping[str, str]:
    for name in request.query:
        if name not in known:
            raise ConfigError(f"parameter {shown(name)} is not known; allowed: {', '.join(known)}")
    return request.query


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise ConfigError(f"{name}: {shown(text)} is neither true nor false")
    return text == "true"


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except (ValueError, LookupError, RecursionError):
        raise ConfigError("the request's body is not JSON") from None
    if not isinstance(body, dict):
        raise ConfigError("the request's body is not a JSON object")
    for name in body:
        if name not in _BAN_KEYS:
            near = get_close_matches(name, _BAN_KEYS, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f'key {shown(name)} is not known, did you mean "{near}"?; allowed: {", ".join(_BAN_KEYS)}'
            )
    return body


def _ban_request(body: Mapping[str, Any]) -> BanRequest:
    reason = body.get("reason", "banned by an operator")
    if not isinstance(reason, str) or not 0 < len(reason) <= _MAX_REASON or not reason.isprintable():
        raise ConfigError(f"reason: allowed: up to {_MAX_REASON} printable characters")
    return BanRequest(
        _bannable("network", body.get("network")),
        _port(body.get("port", 0)),
        _duration(body.get("duration", DEFAULT_BAN)),
        reason,
    )


def _duration(raw: object) -> int | None:
    if raw is None:
        return None
    try:
        microseconds = duration(raw) if isinstance(raw, str) else 0
    except ValueError:
        microseconds = 0
    if not SECOND <= microseconds <= LONGEST_BAN:
        raise ConfigError(f'duration: {shown(raw)} is not allowed; allowed: "1s" to "36500d", or null for ever')
    return microseconds


def _network(key: str, raw: object, *, allowed: str = 'an address, or a network such as "192.0.2.0/24"') -> Network:
    try:
        if not isinstance(raw, str) or "%" in raw:
            raise ValueError(raw)  # noqa: TRY301
        network: Network = ip_network(raw, strict=False)
    except ValueError:
        what = shown(raw) if raw is not None else "it is missing"
        raise ConfigError(f"{key}: {what}; allowed: {allowed}") from None
    plain = unmapped(network)
    if plain is not network:
        what = f"an IPv4 {'address' if plain.prefixlen == plain.max_prefixlen else 'network'} in IPv6"
        raise ConfigError(f"{key}: {shown(raw)} is {what}; allowed: {network_text(plain)}")
    if ip_address(raw.partition("/")[0]) != network.network_address:
        raise ConfigError(f"{key}: {shown(raw)} has bits set after its prefix; allowed: {network}")
    return network


def _bannable(key: str, raw: object) -> Network:
    network = _network(key, raw)
    widest = WIDEST[network.version]
    if network.prefixlen < widest:
        raise ConfigError(f"{key}: {shown(raw)} is too wide; allowed: /{widest} or longer for IPv{network.version}")
    return network


def _port(raw: object) -> int:
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= len(str(MAX_PORT)):
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= MAX_PORT:
        raise ConfigError(f"port: {shown(raw)} is not a port; allowed: 0 (all ports) to {MAX_PORT}")
    return raw


def _overlaps(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _meant(banned: Network, wanted: Network) -> bool:
    """Whether "unban ``wanted``" means the ban of ``banned``."""
    if banned.version != wanted.version:
        return False
    if wanted.prefixlen == wanted.max_prefixlen:
        return wanted.network_address in banned
    return banned.subnet_of(wanted)  # type: ignore[arg-type]
