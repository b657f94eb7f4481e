"""HTTP of the daemon: health and metrics over TCP, control over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import generate_latest

from logguardd.errors import ConfigError, LogguarddError
from logguardd.lockfile import LockedError, Lockfile
from logguardd.notation import endpoint
from logguardd.web.control import BanRequest, Component, Control, Health, ProtectedError
from logguardd.web.control_routes import ControlRoutes, answer, json_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.metrics import Metrics
    from logguardd.web.followers import Followers

__all__ = ["BanRequest", "Component", "Control", "Health", "ProtectedError", "Web"]

_LOG = logging.getLogger(__name__)

#: Connections to the TCP listener at a time, and seconds that each may last: one request, one answer.
MAX_CONNECTIONS = 64
MAX_SECONDS = 60.0
# What generate_latest writes; the version that the library names itself differs from release to release.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN = 1.0
_BACKLOG = 128
_CONTROL_MODE = 0o660


class Web:
    """Both listeners. ``start`` and ``stop`` may be called once each."""

    def __init__(
        self,
        control: Control,
        followers: Followers,
        metrics: Metrics,
        *,
        listen: str,
        socket_path: str,
        clock: Callable[[], int],
    ) -> None:
        """``listen`` is http.listen ("" for none), ``socket_path`` http.control, ``clock`` gives microseconds."""
        self._control = control
        self._followers = followers
        self._metrics = metrics
        self._listen = listen
        self._path = socket_path
        self._clock = clock
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self._lock: Lockfile | None = None
        self._inode = 0

    async def start(self) -> None:
        """Open both; raise ConfigError naming the key if one cannot be, LogguarddError if another daemon runs."""
        try:
            bound = self._bind_control()
            try:
                await self._start_http()
                await self._start_control(bound)
            except BaseException:
                bound.close()
                raise
        except BaseException:
            await self.stop()
            raise

    async def _start_control(self, bound: socket.socket) -> None:
        # The last one: who is answered at the control socket finds everything else open.
        server = await self._serve(ControlRoutes(self._control, self._followers, self._clock).application())
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(server, sock=bound, backlog=_BACKLOG))

    async def _start_http(self) -> None:
        if not self._listen:
            return
        host, port = endpoint(self._listen)
        application = web.Application(client_max_size=1024, middlewares=[_one_request, json_errors])
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._serve_metrics)
        server = await self._serve(application)
        loop = asyncio.get_running_loop()
        try:
            self._servers.append(await loop.create_server(_Bounded(server), host, port, backlog=_BACKLOG))
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError(f"http.listen: cannot listen at {self._listen}: {cause}") from None

    @property
    def ports(self) -> list[int]:
        """The TCP ports that are open."""
        return [s.getsockname()[1] for server in self._servers for s in server.sockets if s.family != socket.AF_UNIX]

    async def stop(self) -> None:
        """Close everything, followers included, and remove the control socket."""
        for server in self._servers:
            server.close()
        self._followers.close()
        for runner in self._runners:
            await runner.shutdown()
            if runner.server is not None:
                await runner.server.shutdown(_SHUTDOWN)
            await runner.cleanup()
        self._servers.clear()
        self._runners.clear()
        self._release()

    def _release(self) -> None:
        """Remove the control socket, unless somebody else put another there since, and unlock it."""
        if self._lock is None:
            return
        path = Path(self._path)
        with contextlib.suppress(OSError):
            if path.stat().st_ino == self._inode:
                path.unlink()
        self._lock.release()
        self._lock = None

    async def _serve(self, application: web.Application) -> web.Server:
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        self._runners.append(runner)
        if runner.server is None:
            raise LogguarddError("aiohttp made no server")
        return runner.server

    def _bind_control(self) -> socket.socket:
        """Return the control socket, bound but not listening; a stale one is replaced, one that somebody listens at is not."""
        path = Path(self._path)
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            # With the lock, two daemons that start together cannot both find the socket stale.
            self._lock = Lockfile(f"{path}.lock")
            _remove_stale(path)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # unix(7): bind gives the file the socket's mode less the umask; so it is never open to more than these.
                os.fchmod(bound.fileno(), _CONTROL_MODE)
                bound.bind(str(path))
                path.chmod(_CONTROL_MODE)
                self._inode = path.stat().st_ino
                bound.settimeout(0)
            except BaseException:
                bound.close()
                raise
        except LockedError as error:
            raise LogguarddError(f"http.control: {path}: another logguardd (process {error.pid}) has it") from None
        except LogguarddError:
            self._release()
            raise
        except OSError as error:
            self._release()
            raise ConfigError(f"http.control: cannot listen at {path}: {error.strerror or error}") from None
        return bound

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        health = self._control.health()
        components = {name: {"state": c.state, "detail": c.detail} for name, c in health.components.items()}
        return answer({"ready": health.ready, "components": components}, 200 if health.ready else 503)

    async def _serve_metrics(self, _request: web.Request) -> web.StreamResponse:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": _METRICS_TYPE})


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"http.control: {path} exists and is not a socket; allowed: a path for a new socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise LogguarddError(f"http.control: {path}: another program listens there; is logguardd running?")


@web.middleware
async def _one_request(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
    """Close the connection after the answer: that makes MAX_SECONDS a deadline for a request."""
    response: web.StreamResponse = await handler(request)  # type: ignore[misc]
    response.force_close()
    return response


class _Bounded:
    """Makes a server's protocols, bounding their number and the life of each.

    Where there are too many, the oldest makes room: who asks and leaves is answered, however many only hold connections.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._opened: dict[web.RequestHandler, float] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        # One that was closed a moment ago is still among the server's.
        held = [each for each in self._server.connections if each in self._opened]
        if len(held) >= MAX_CONNECTIONS:
            oldest = min(held, key=self._opened.__getitem__)
            del self._opened[oldest]
            oldest.force_close()
        loop = asyncio.get_running_loop()
        protocol = self._server()
        self._opened[protocol] = loop.time()
        if self._sweep is None:
            self._sweep = loop.call_later(MAX_SECONDS / 10, self._look)
        return protocol

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        open_now = set(self._server.connections)
        for protocol, since in list(self._opened.items()):
            if loop.time() - since >= MAX_SECONDS:
                protocol.force_close()
            if protocol not in open_now:
                del self._opened[protocol]
        self._sweep = loop.call_later(MAX_SECONDS / 10, self._look) if self._opened else None
