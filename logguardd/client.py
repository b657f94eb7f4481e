"""Ask the daemon over its control socket: HTTP on a Unix socket, JSON both ways."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from logguardd.errors import ConfigError, LogguarddError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds to wait for an answer; longer than the daemon takes to give one up.
TIMEOUT = 40.0
#: The longest answer that is read, in bytes.
MAX_ANSWER = 1 << 30
_WRONG_REQUEST = 400


class Client:
    """Asks the daemon that listens at ``path``; one connection a question."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(
        self,
        method: str,
        *parts: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to a request for ``/parts[0]/parts[1]...``.

        Raises ConfigError if the daemon finds the request wrong, and LogguarddError, saying what to do, if it does
        not run, does not let us, refuses, or fails.
        """
        target = "/" + "/".join(quote(part, safe=":") for part in parts) + (f"?{urlencode(query)}" if query else "")
        connection = _Connection(self.path)
        try:
            connection.request(method, target, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            content = json.loads(answer.read(MAX_ANSWER))
        except (FileNotFoundError, ConnectionRefusedError):
            raise LogguarddError(
                f"logguardd does not run: nobody listens at {self.path}; start it, for example with "
                "`systemctl start logguardd`, or name its control socket with --socket"
            ) from None
        except PermissionError:
            raise LogguarddError(
                f"{self.path}: permission denied; allowed: root and the daemon's user and group (try sudo)"
            ) from None
        except TimeoutError:
            raise LogguarddError(f"{self.path}: no answer within {TIMEOUT:.0f} s") from None
        except OSError as error:
            raise LogguarddError(f"{self.path}: {error.strerror or error}") from None
        except (http.client.HTTPException, ValueError):
            raise LogguarddError(f"{self.path}: who listens there does not speak as logguardd does") from None
        finally:
            connection.close()
        if not isinstance(content, dict):
            raise LogguarddError(f"{self.path}: who listens there does not speak as logguardd does")
        if answer.status >= _WRONG_REQUEST:
            what = str(content.get("error", answer.reason))
            raise ConfigError(what) if answer.status == _WRONG_REQUEST else LogguarddError(what)
        return content


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)
