"""The daemon: wires the parts, starts and stops them in order, listens to signals, reloads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from logguardd import __version__, build, config, log, notation, notify, preflight, saved_bans, urls
from logguardd.allowlist import Allowlist
from logguardd.book import BanBook
from logguardd.consumers import ArchiveConsumer, DetectorConsumer, Reader
from logguardd.detection import Detector
from logguardd.enforcer import Enforcer
from logguardd.errors import ConfigError, UnavailableError
from logguardd.firewall.printing import Printing
from logguardd.jails import counts
from logguardd.journal.intake import Intake
from logguardd.judge import Judge
from logguardd.limiter.breaker import Breaker
from logguardd.listeners.activation import Inherited
from logguardd.listeners.tls import TlsListener
from logguardd.metrics import Metrics
from logguardd.outage import judge_held
from logguardd.upkeep import Upkeep
from logguardd.web import Web
from logguardd.web.followers import Followers
from logguardd.web.inquiry import Inquiry
from logguardd.web.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from logguardd.archive import Archive
    from logguardd.config.settings import Config
    from logguardd.journal import Journal
    from logguardd.limiter.memory import MemoryLimiter
    from logguardd.records import Ban, Network

_LOG = logging.getLogger(__name__)

#: Seconds that the first connection to the archive may hold up the start; it goes on in the background.
_FIRST_CONNECTION = 3.0
#: Seconds from the beginning of the end for journaling what was received and for the consumers to take it, and for every
#: part to close.
_LAST_ROUND, _CLOSE = 3.5, 1.0
#: What a reload cannot change, as the sections are in use.
_FIXED = ("listen", "journal", "archive", "limiter", "firewall", "http")


def run(settings: Config, *, on_ready: Callable[[], None]) -> int:
    """Run the daemon until SIGTERM or SIGINT; call ``on_ready`` once messages are received. Return the exit code.

    Raises errors.ConfigError, and errors.LogguarddError when it cannot start.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, on_ready))


async def _run(settings: Config, on_ready: Callable[[], None]) -> int:
    daemon = Daemon(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        daemon.hurry()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    # Early ones wait: by its default, SIGHUP would end the daemon.
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    for number in (
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):  # of other daemons' log rotation, for example; they would end us, too
        loop.add_signal_handler(number, _LOG.info, "%s: there is nothing to do", number.name)
    try:
        await daemon.start()
        _spare_the_collector()
        loop.add_signal_handler(signal.SIGHUP, daemon.hang_up)
        if hung_up.is_set():
            daemon.hang_up()
        notify.ready(f"receiving at {daemon.places()}")
        on_ready()
        await stop.wait()
        _LOG.info("stopping")
        notify.stopping("stopping")
    finally:
        await daemon.stop()
    _LOG.info("stopped")
    return 0


def _spare_the_collector() -> None:
    """Let the cyclic garbage collector look seldom: records are tuples of text, made by the ten thousand, without cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def now() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


class Daemon:
    """All parts of one daemon. ``start`` and ``stop`` may be called once each."""

    def __init__(self, settings: Config) -> None:
        """Build the parts; raise errors.ConfigError for rules, jails or certificates that are no good."""
        self.settings = settings
        self.metrics = Metrics()
        rules, warnings = preflight.load(settings)
        for warning in [*warnings, *preflight.allow_connections(settings)]:
            _LOG.warning("%s", warning)
        jails = preflight.jails(settings)
        for jail in jails:
            self.metrics.bans.labels(jail.name)  # there from the start, so that its first ban is an increase
        self.journal = build.journal(settings)
        self.intake = Intake(self.journal, self.metrics, now)
        self._inherited = Inherited.from_environment()
        self.listeners = build.listeners(settings, self.intake, self.metrics, self._inherited)
        self.archive = build.archive(settings)
        self.limiter, self.shared = build.limiter(settings, self.metrics)
        self.book = BanBook()
        self.allowlist = Allowlist(**build.protected(settings))
        self.followers = Followers(self.book.snapshot, self.metrics, clock=now, software=f"logguardd {__version__}")
        self.follow_server = build.follow_server(settings, self.followers, self.metrics)
        printer = build.printer(settings)
        self.printing = Printing(printer, self.book.snapshot, now) if printer else None
        self.enforcer = Enforcer(self.book, self.allowlist, self.archive, self.metrics, clock=now, follow=self._follow)
        if self.shared is not None:
            self.enforcer.publishers.append(self.shared)
        self.reader = Reader(
            self.journal,
            rules,
            timezone=notation.zone(settings.listen.timezone),
            max_clock_skew=settings.detection.max_clock_skew,
        )
        self.archiver = ArchiveConsumer(
            self.journal, self.reader, self.archive, self.metrics, clock=now, on_connected=self.enforcer.connected
        )
        self.jails = jails
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading = asyncio.Lock()
        self._stopping = False
        self._patience: asyncio.Timeout | None = None
        self._hurried = False
        self._saved = Path(urls.sqlite_path(settings.journal.url)).with_name("bans.json")

    def _follow(self, add: Iterable[Ban], remove: Iterable[tuple[Network, int]]) -> None:
        add, remove = list(add), list(remove)
        self.followers.publish(add, remove)
        if self.printing is not None:
            self.printing.publish(add, remove)

    async def start(self) -> None:
        """Start everything; raise errors.ConfigError or LogguarddError if it cannot be."""
        await self.journal.open()
        self.judge = Judge(
            self.jails,
            detector=Detector(counts(self.jails)),
            limiter=self.limiter,
            allowlist=self.allowlist,
            book=self.book,
            enforcer=self.enforcer,
            metrics=self.metrics,
            journal_id=self.journal.id,
            clock=now,
        )
        self.detector = DetectorConsumer(self.journal, self.reader, self.judge.judge)
        self.operations = Operations(
            journal=self.journal,
            intake=self.intake,
            archive=self.archiver,
            detector=self.detector,
            judge=self.judge,
            book=self.book,
            enforcer=self.enforcer,
            inquiry=Inquiry(book=self.book, enforcer=self.enforcer, judge=self.judge, archive=self.archive, clock=now),
            followers=self.followers,
            printing=self.printing,
            shared=self.shared,
            breaker=self.limiter if isinstance(self.limiter, Breaker) else None,
            backend=self.settings.firewall.backend,
            listening=lambda: {each.transport: each.addresses for each in self.listeners},
            reload=self.reload,
            metrics=self.metrics,
            clock=now,
        )
        self.enforcer.restore(*saved_bans.load(self._saved))
        await self._connect_archive()
        http = self.settings.http
        self.web = Web(
            self.operations, self.followers, self.metrics, listen=http.listen, socket_path=http.control, clock=now
        )
        # Who is answered at the control socket finds the listeners open.
        if self.follow_server is not None:
            await self.follow_server.start()
        for listener in self.listeners:
            await listener.start()
        for name in self._inherited.unused():
            _LOG.warning("systemd passed a socket that no listen key takes: %s", name)
        await self.web.start()
        if self.shared is not None:
            self.shared.publish(self.book.snapshot())
            await self.shared.start(self.enforcer.foreign)
        upkeep = Upkeep(
            journal=self.journal,
            archive=self.archive,
            enforcer=self.enforcer,
            book=self.book,
            operations=self.operations,
            metrics=self.metrics,
            clock=now,
            saved=self._saved,
            protect=self.protect,
        )
        self._background(self.archiver.run(), "archive")
        self._background(self.detector.run(), "detector")
        self._background(judge_held(self.intake, self.reader, self.detector, self.judge.judge), "detector (outage)")
        self._background(self.enforcer.run(), "blacklist")
        if self.printing is not None:
            self._background(self.printing.run(), "print")
        self._background(upkeep.run(), "upkeep")
        if notify.watchdog_interval() is not None:
            self._background(notify.watch(), "watchdog")
        _LOG.info("logguardd %s is receiving at %s", __version__, self.places())

    def places(self) -> str:
        """Return where messages are received, for people."""
        return ", ".join(
            f"{each.transport} [{host}]:{port}" if ":" in host else f"{each.transport} {host}:{port}"
            for each in self.listeners
            for host, port in each.addresses
        )

    async def _connect_archive(self) -> None:
        """Try once: what an operator has to set right ends the start, a server that is away does not."""
        try:
            async with asyncio.timeout(0 if self._hurried else _FIRST_CONNECTION) as self._patience:
                await self.archive.open()
                await self.enforcer.connected()
            self.archiver.connected()
        except UnavailableError as error:
            _LOG.warning("archive: %s; starting without it", str(error).removeprefix("archive: "))
        except TimeoutError:
            if not self._hurried:
                _LOG.warning("archive: no answer within %.0f s; starting without it", _FIRST_CONNECTION)
        finally:
            self._patience = None

    def hurry(self) -> None:
        """Wait for no server any more: the end was asked for during the start."""
        self._hurried = True
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the daemon when a part of it died of a bug: half alive is worse, and systemd starts it again."""
        if task.cancelled():
            return
        _LOG.critical("the %s task ended; stopping", task.get_name(), exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)

    async def protect(self) -> None:
        """Ask again who is never banned, and end bans of who has come to be among them."""
        self.allowlist.protect(**await asyncio.to_thread(build.protected, self.settings))
        self.enforcer.recheck()

    def hang_up(self) -> None:
        """Answer SIGHUP."""
        task = asyncio.create_task(self._hang_up())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _hang_up(self) -> None:
        if self._stopping:
            return
        notify.reloading()
        try:
            _LOG.info("reloaded: %s", await self.reload())
        except ConfigError as error:
            for line in str(error).split("\n"):
                _LOG.error("%s", line)
            _LOG.error("reload: the old configuration stays in force")
        except Exception:  # noqa: BLE001 - a bug must not leave systemd waiting
            _LOG.exception("reload")
        finally:
            if not self._stopping:
                notify.ready(f"receiving at {self.places()}")

    async def reload(self) -> str:
        """Read configuration, rules and certificates again; return what is in force in a line.

        Raises errors.ConfigError, and then everything is as it was.
        """
        async with self._reloading:
            settings = await asyncio.to_thread(config.reload, self.settings)
            rules, warnings = await asyncio.to_thread(preflight.load, settings)
            jails = preflight.jails(settings)
            protected = await asyncio.to_thread(build.protected, settings)
            if settings.tls.certificate:
                if self.follow_server is not None:  # the stricter one first
                    self.follow_server.reload(build.tls_settings(settings))
                for listener in self.listeners:
                    if isinstance(listener, TlsListener):
                        listener.reload(build.tls_settings(settings))
            # Nothing below can fail.
            fixed = [name for name in _FIXED if getattr(settings, name) != getattr(self.settings, name)]
            for name in fixed:
                warnings.append(f"[{name}] has changed: that takes a restart")
            for warning in warnings:
                _LOG.warning("%s", warning)
            log.configure(settings.log_level, settings.log_format)
            self.reader.use(rules)
            self.judge.use(jails)
            self.allowlist.protect(**protected)
            self.enforcer.recheck()
            self.settings = settings
            return f"{len(rules.rules)} rules, {len(jails)} jails"

    async def stop(self) -> None:
        """Stop listening, take what was received, store what can be stored in time, close. Takes under 5 s."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAST_ROUND
        self._stopping = True
        await asyncio.gather(*(listener.stop() for listener in self.listeners))
        await self.intake.close(max(end - loop.time(), 0.0))  # not from outside: it says what it gives up
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await self._caught_up()
        if hasattr(self, "web"):
            await self.web.stop()
        if self.follow_server is not None:
            await self.follow_server.stop()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.shared is not None:
            await self.shared.stop()
        await asyncio.gather(*(self._close(part) for part in (self.limiter, self.archive, self.journal)))

    async def _close(self, part: MemoryLimiter | Breaker | Archive | Journal) -> None:
        with contextlib.suppress(TimeoutError, UnavailableError):
            async with asyncio.timeout(_CLOSE):
                await part.close()

    async def _caught_up(self) -> None:
        """Wait until both consumers have taken all that is in the journal, and the blacklist all bans."""
        while min(self.archiver.offset, self.detector.offset) < self.journal.head:  # noqa: ASYNC110 - at the end, once
            await asyncio.sleep(0.01)
        with contextlib.suppress(UnavailableError):
            await self.enforcer.store()
