"""The files of the private authority: where they are, and when new ones are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from logguardd.errors import ConfigError
from logguardd.setup import files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from logguardd.config.settings import Tls
    from logguardd.pki import Authority


class Paths(NamedTuple):
    """PEM files in one folder: the authority's certificate and key, the server's certificate and key."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path


def paths(configuration: Path) -> Paths:
    """Return where the files of a configuration are: in ``tls`` beside it."""
    folder = configuration.parent / "tls"
    return Paths(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key")


def library() -> Any:
    """Return the module pki; ConfigError without the library that it needs."""
    try:
        from logguardd import pki  # noqa: PLC0415 - needed for certificates only, and not always installed
    except ImportError as error:
        raise ConfigError(
            f"certificates need the Python library cryptography ({error}); install the package python3-cryptography, "
            "or logguardd[setup] with pip"
        ) from None
    return pki


def authority(ca: Path, ca_key: Path) -> Authority:
    """Return the authority of two files; ConfigError naming them."""
    pki = library()
    try:
        found: Authority = pki.Authority.load(ca.read_bytes(), ca_key.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{ca}, {ca_key}: {error}") from None
    return found


def own(tls: Tls, place: Paths) -> bool:
    """Whether the configuration's certificate is one that an operator got elsewhere."""
    return bool(tls.certificate) and tls.certificate != str(place.server)


def ensure(place: Paths, names: Sequence[str], now: datetime, group: int | None) -> list[str]:
    """Make authority and server certificate where they are missing, for other names, or end soon; return what was done.

    Without names those of the certificate that is there stay. Raises ConfigError, and LogguarddError for files.
    """
    pki = library()
    names = [pki.canonical(name) for name in names]
    done: list[str] = []
    if place.ca.exists() != place.ca_key.exists():
        there, missing = (place.ca, place.ca_key) if place.ca.exists() else (place.ca_key, place.ca)
        raise ConfigError(
            f"{there} is there, but {missing} is not: put it back, or move {there} away for a new authority"
        )
    if place.ca.exists():
        signer = authority(place.ca, place.ca_key)
    else:
        signer = pki.Authority.create(f"logguardd CA of {names[0] if names else 'this host'}", now)
        files.folder(place.ca.parent, 0o750, group)
        # The key first: an authority without its key would be in the way.
        files.write(place.ca_key, signer.private_key, files.PRIVATE)
        files.write(place.ca, signer.certificate, files.PUBLIC)
        done.append(f"made a certificate authority, {place.ca}, until {signer.expires:%Y-%m-%d}")
    why = _due(pki, place, names, signer, now)
    if why:
        bears = names or (list(pki.describe(place.server.read_bytes()).names) if place.server.exists() else [])
        issued = signer.server(bears, now)
        files.write(place.server_key, issued.private_key, files.SHARED, group)
        files.write(place.server, issued.certificate, files.PUBLIC)
        done.append(f"made the server's certificate, {place.server}, for {', '.join(bears)} ({why})")
    return done


def _due(pki: Any, place: Paths, names: Sequence[str], signer: Authority, now: datetime) -> str:
    """Return why the server needs a new certificate, "" if it does not."""
    if not (place.server.exists() and place.server_key.exists()):
        return "there was none"
    found = place.server.read_bytes()
    if not signer.issued(found):
        return "there was one of another authority"
    described = pki.describe(found)
    if names and set(names) != set(described.names):
        return f"before for {', '.join(described.names)}"
    if described.expires - now < pki.RENEWAL and described.expires < signer.expires:
        return f"the one before ends at {described.expires:%Y-%m-%d}"
    return ""
