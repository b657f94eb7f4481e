"""Certificate files to an SSL context, with errors that name the file and what is wrong with it."""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from logguardd.errors import ConfigError
from logguardd.listeners.tls_peers import permitted_peer

_CERTIFICATE = re.compile(rb"^-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----", re.MULTILINE)
_KEY = re.compile(rb"^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----", re.MULTILINE)
_MAX_FILE = 1 << 20
# Days of a certificate that are too few, in seconds.
_SOON = 14 * 86400
# How OpenSSL says that a key is not the certificate's; the last one when it is of another type.
_OTHER_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The [tls] section: paths of PEM files, and who may connect.

    ``certificate`` holds the server's certificate and then those of its issuers; ``private_key`` "" means that the key
    is in the same file. ``client_ca`` makes client certificates required. ``permitted_peers`` are names,
    ``*.example.com`` wildcards or ``SHA1:``/``SHA256:`` fingerprints, one of which a client's certificate must have.
    """

    certificate: str
    private_key: str = ""
    client_ca: str = ""
    permitted_peers: tuple[str, ...] = ()


def build_context(settings: TlsSettings) -> tuple[ssl.SSLContext, list[str]]:
    """Return a server's context (TLS 1.2 and up, RFC 5425 with RFC 9662) and warnings for the operator.

    Raise ConfigError with a line for everything that is wrong, naming key, file and reason: missing, unreadable, not PEM,
    encrypted, key of another certificate, too weak for this OpenSSL.
    """
    context, errors, warnings = examine(settings)
    if not settings.certificate:
        errors.insert(0, "tls.certificate: not set; listen.tls needs the path of a PEM file")
    if errors:
        raise ConfigError("\n".join(errors))
    return context, warnings


def examine(settings: TlsSettings) -> tuple[ssl.SSLContext, list[str], list[str]]:
    """Return the context as far as it can be built, everything that is wrong, and warnings; what is empty is not needed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Senders often close without reading; a session ticket left unread would make that a reset and lose their last
    # messages.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    errors: list[str] = []
    warnings: list[str] = []
    if settings.certificate:
        try:
            _load_certificate(context, settings)
            warnings += _rehearse(context, settings.certificate)[0]
        except ConfigError as error:
            errors.append(str(error))
    if settings.client_ca:
        try:
            warnings += _load_client_ca(context, settings.client_ca)
        except ConfigError as error:
            errors.append(str(error))
    elif settings.permitted_peers:
        errors.append("tls.permitted_peers: needs tls.client_ca, since only that makes clients show a certificate")
    for peer in settings.permitted_peers:
        try:
            permitted_peer(peer)
        except ConfigError as error:
            errors.append(str(error))
    return context, errors, warnings


def certificate_end(context: ssl.SSLContext, path: str) -> float:
    """Return until when clients take the context's certificate, in seconds since 1970; 0 if they do not now.

    ``path`` is the file that the context was built from.
    """
    return _rehearse(context, path)[1]


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    certificate, key = settings.certificate, settings.private_key or settings.certificate
    key_name = "tls.private_key" if settings.private_key else "tls.certificate"
    if not _CERTIFICATE.search(_read("tls.certificate", certificate)):
        raise ConfigError(f"tls.certificate: {certificate}: not PEM: no line BEGIN CERTIFICATE")
    if not _KEY.search(_read(key_name, key)):
        hint = "" if settings.private_key else "; set tls.private_key if it is in another file"
        raise ConfigError(f"{key_name}: {key}: not PEM: no line BEGIN PRIVATE KEY{hint}")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        raise ConfigError(f"{key_name}: {key}: the key is encrypted; a daemon cannot ask for a passphrase") from None
    except ssl.SSLError as error:
        if error.reason in _OTHER_KEY:
            raise ConfigError(f"{key_name}: {key}: the key does not belong to the certificate {certificate}") from None
        at_fault = f"tls.certificate: {certificate}" if _is_certificates_fault(certificate) else f"{key_name}: {key}"
        raise ConfigError(f"{at_fault}: {reason(error)}") from None


def _load_client_ca(context: ssl.SSLContext, path: str) -> list[str]:
    if not _CERTIFICATE.search(_read("tls.client_ca", path)):
        raise ConfigError(f"tls.client_ca: {path}: not PEM: no line BEGIN CERTIFICATE")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(f"tls.client_ca: {path}: {reason(error)}") from None
    context.verify_mode = ssl.CERT_REQUIRED
    authorities = context.get_ca_certs()
    if not authorities:
        return [f"tls.client_ca: {path}: no certificate in it is of a certification authority (CA:TRUE)"]
    now = time.time()
    return [
        f"tls.client_ca: {path}: an authority's certificate expired at {authority['notAfter']}"
        for authority in authorities
        if ssl.cert_time_to_seconds(str(authority["notAfter"])) < now
    ]


def _read(key: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_FILE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {path}: {getattr(error, 'strerror', None) or error}") from None


def _is_certificates_fault(path: str) -> bool:
    """Whether OpenSSL cannot read the certificate alone: its error does not say which file it is about."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return True
    return False


def _rehearse(context: ssl.SSLContext, path: str) -> tuple[list[str], float]:
    """Return a warning if clients will refuse the certificate (expired, not yet valid, not one for servers), now or soon.

    And until when they will take it, in seconds since 1970; 0 if they do not now.

    A handshake with ourselves, in memory: OpenSSL then judges the certificate as a client's does that trusts its issuer.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(path)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up)
    server = context.wrap_bio(up, down, server_side=True)
    try:
        for side in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return [f"tls.certificate: {path}: clients will refuse it: {error.verify_message}"], 0.0
    except ssl.SSLError as error:
        return [f"tls.certificate: {path}: clients will refuse it: {reason(error)}"], 0.0
    shown = str((client.getpeercert() or {})["notAfter"])
    end = ssl.cert_time_to_seconds(shown)
    soon = end - time.time() < _SOON
    return [f"tls.certificate: {path}: it ends at {shown}: get a new one"] if soon else [], float(end)


class _EncryptedError(Exception):
    """OpenSSL asked for a passphrase."""


def _no_password() -> str:
    raise _EncryptedError


def reason(error: ssl.SSLError) -> str:
    """Say an OpenSSL error in words, without its file names and line numbers."""
    if not error.reason:
        return "what stands in its PEM is damaged" if "PEM lib" in str(error) else "OpenSSL gives no reason"
    return error.reason.replace("_", " ").lower()
