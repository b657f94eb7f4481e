"""From root's terminal to an unprivileged daemon: open ports, drop privileges, detach, say when it is up.

The sockets are handed to the daemon as systemd would hand them (sd_listen_fds(3)), so there is one way for both.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import logging
import os
import pwd
import socket
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import DaemonContext
from daemon.daemon import DaemonError

from logguardd import exits, log, urls
from logguardd.archive import migrations
from logguardd.errors import ConfigError, LogguarddError
from logguardd.limiter.connection import script_text
from logguardd.listeners import sockets
from logguardd.listeners.activation import FIRST_FD, OWN, Inherited
from logguardd.listeners.udp import RECEIVE_BUFFER
from logguardd.lockfile import Lockfile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from logguardd.config.settings import Config

    #: Runs the daemon until it is told to end: calls its argument once it is up, returns the exit code.
    Main = Callable[[Config, Callable[[], None]], int]

_LOG = logging.getLogger(__name__)

_KINDS = {
    "udp": socket.SOCK_DGRAM,
    "tcp": socket.SOCK_STREAM,
    "tls": socket.SOCK_STREAM,
    "relp": socket.SOCK_STREAM,
}
_UP = b"up"
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Account:
    """Who to run as."""

    name: str
    uid: int
    gid: int
    home: str


def account(config: Config, user: str | None, group: str | None) -> Account:
    """Return the account of the options --user and --group, or else of the configuration; ConfigError if unknown."""
    name = user or config.user
    key = "--user" if user else config.where("user")
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        hint = f"an existing user; make this one with: useradd --system --user-group --shell /usr/sbin/nologin {name}"
        raise ConfigError(f'{key}: there is no user "{name}"; allowed: {hint}') from None
    gid = found.pw_gid
    if chosen := group or config.group:
        key = "--group" if group else config.where("group")
        try:
            gid = grp.getgrnam(chosen).gr_gid
        except KeyError:
            raise ConfigError(f'{key}: there is no group "{chosen}"; allowed: an existing group') from None
    return Account(name, found.pw_uid, gid, found.pw_dir)


def myself() -> Account:
    """Return the account that we run as already."""
    uid = os.geteuid()
    try:
        found = pwd.getpwuid(uid)
    except KeyError:  # a container's, for example
        return Account(str(uid), uid, os.getegid(), "/")
    return Account(found.pw_name, uid, os.getegid(), found.pw_dir)


def prepare_folders(config: Config, owner: Account) -> None:
    """Make the folders that the daemon writes to, where they are missing, and give them to ``owner``."""
    files = [config.http.control]
    files += [urls.sqlite_path(url) for url in (config.journal.url, config.archive.url) if url.startswith("sqlite:")]
    for folder in dict.fromkeys(Path(file).parent for file in files):
        if not folder.exists():
            folder.mkdir(mode=0o750, parents=True)
            os.chown(folder, owner.uid, owner.gid)


def bind(config: Config) -> tuple[Config, list[tuple[str, socket.socket]]]:
    """Open every listening socket; return them by name, and the configuration that takes them by these names."""
    opened: list[tuple[str, socket.socket]] = []
    named: dict[str, tuple[str, ...]] = {}
    for key, kind in _KINDS.items():
        specs = []
        for number, spec in enumerate(getattr(config.listen, key)):
            if spec.startswith("systemd:"):
                specs.append(spec)
                continue
            name = f"{OWN}{key}-{number}"
            found = sockets.bind(f"listen.{key}", [spec], kind, Inherited())
            for each in found:
                if kind == socket.SOCK_STREAM:
                    # Only a listening socket is recognised when it is taken over; the listener sets its own backlog.
                    each.listen()
                else:
                    # As root past net.core.rmem_max.
                    sockets.receive_buffer(each, RECEIVE_BUFFER)
            opened += [(name, each) for each in found]
            specs.append(f"systemd:{name}")
        named[key] = tuple(specs)
    udp, tcp, tls, relp = (named[key] for key in _KINDS)
    listen = replace(config.listen, udp=udp, tcp=tcp, tls=tls, relp=relp)
    return replace(config, listen=listen, written=config.listen), opened


def preload() -> None:
    """Load what the daemon will need when it is somebody else, who may not read our files: they may lie in root's home."""
    codecs = (f"encodings.{name}" for name in ("ascii", "idna", "latin_1", "unicode_escape"))
    for module in (*codecs, "importlib.readers"):
        import_module(module)
    for database in ("postgres", "sqlite"):
        migrations.load(database)
    for script in ("shared_bans.lua", "sliding_window.lua"):
        script_text(script)


def drop_privileges(owner: Account) -> None:
    """Become ``owner``, for good, if we are root; otherwise we must be it already (else LogguarddError)."""
    if os.geteuid() != 0:
        if os.geteuid() != owner.uid:
            raise LogguarddError(f'only root can become user "{owner.name}"; start as root or as that user')
        return
    os.initgroups(owner.name, owner.gid)
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    # libpq's ~/.pgpass is that user's.
    os.environ.update(HOME=owner.home, USER=owner.name, LOGNAME=owner.name)


def hand_over(opened: Sequence[tuple[str, socket.socket]]) -> None:
    """Put the sockets where sd_listen_fds(3) expects them and describe them in the environment of this process.

    Descriptors from 3 to 2 + len(opened) that are not theirs are lost.
    """
    above = FIRST_FD + len(opened)
    high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD_CLOEXEC, above) for _, each in opened]
    for _, each in opened:
        each.close()
    for number, descriptor in enumerate(high, FIRST_FD):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)
    os.environ.update(
        LISTEN_PID=str(os.getpid()),
        LISTEN_FDS=str(len(opened)),
        LISTEN_FDNAMES=":".join(name for name, _ in opened),
    )


def foreground(config: Config, owner: Account, main: Main) -> int:
    """Open the ports, become ``owner`` and run; return the exit code."""
    preload()
    prepare_folders(config, owner)
    config, opened = bind(config)
    drop_privileges(owner)
    hand_over(opened)
    return main(config, lambda: None)


def detached(config: Config, owner: Account, pidfile: str | None, main: Main) -> int:
    """Open the ports, become ``owner``, detach and run; return once the daemon is up, or with its error.

    Raises ConfigError and LogguarddError for what goes wrong before it detaches, a locked pid file among that.
    """
    preload()
    prepare_folders(config, owner)
    try:
        lock = Lockfile(pidfile) if pidfile else None
    except OSError as error:
        what = "a file that may be written, in a folder that is there"
        raise ConfigError(f"--pidfile: {pidfile}: {error.strerror}; allowed: {what}") from None
    try:
        config, opened = bind(config)
    except LogguarddError:
        if lock is not None:
            lock.release()
        raise
    above = FIRST_FD + len(opened)
    reading, writing = os.pipe()
    terminal = _Terminal(fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, above))
    os.close(writing)
    if lock is not None:
        lock.move(above)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _become(config, owner, main, opened=opened, lock=lock, terminal=terminal)
        finally:
            os._exit(exits.FAILED)  # not through the caller's clean-up
    terminal.close()
    for _, each in opened:
        each.close()
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(_LONGEST)
    os.waitpid(child, 0)
    if said == _UP:
        return exits.DONE
    if lock is not None:
        lock.release()  # it may lie where only root may remove it
    code, _, text = said.decode(errors="replace").partition("\n")
    exits.complain("logguardd", text or "it ended before it was up; the system log may say why")
    return int(code) if code.isdigit() else exits.FAILED


class _Terminal:
    """The way back to the process that waits at the terminal: a pipe, until the daemon is up."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def up(self) -> None:
        self._say(_UP)

    def failed(self, code: int, text: str) -> None:
        self._say(f"{code}\n{text}".encode()[:_LONGEST])

    def close(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def _say(self, what: bytes) -> None:
        if self.pipe >= 0:
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(self.pipe, what)
            self.close()


def _become(
    config: Config,
    owner: Account,
    main: Main,
    *,
    opened: Sequence[tuple[str, socket.socket]],
    lock: Lockfile | None,
    terminal: _Terminal,
) -> NoReturn:
    """Be the daemon; ends the process."""
    code = exits.FAILED
    try:
        # Before DaemonContext, whose own way leaves the group root's when it sets supplementary groups.
        drop_privileges(owner)
        preserve = [each for _, each in opened] + [terminal.pipe] + ([lock.fileno()] if lock else [])
        with DaemonContext(
            detach_process=True, working_directory="/", umask=0o027, signal_map={}, files_preserve=preserve
        ):
            if lock is not None:
                lock.write()
            hand_over(opened)
            log.configure(config.log_level, config.log_format, detached=True)
            code = main(config, terminal.up)
            terminal.failed(code, "")
    except (LogguarddError, OSError, DaemonError) as error:
        code = exits.WRONG if isinstance(error, ConfigError) else exits.FAILED
        terminal.failed(code, str(error))
        for line in str(error).split("\n"):
            _LOG.error("%s", line)
    except BaseException as error:  # noqa: BLE001 - a bug; the process ends here either way
        terminal.failed(code, f"{type(error).__name__}: {error}")
        _LOG.exception("logguardd failed")
    finally:
        if lock is not None:
            lock.release()
        os._exit(code)
