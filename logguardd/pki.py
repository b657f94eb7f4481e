"""A private certificate authority: its key, and certificates for the server and for the fleet's hosts (RFC 5280).

Keys are on P-256, signatures ECDSA with SHA-256, serial numbers random. Everything goes in and out as PEM; times are
aware datetimes, arguments like everything else. This is the only module that needs the library cryptography.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How long an authority lives, and a certificate that it signs: nobody renews either by itself.
AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=825)
#: A certificate that ends sooner is due for a new one.
RENEWAL = timedelta(days=60)
# Clocks of hosts that are set up for the first time may be behind.
_SKEW = timedelta(days=1)

# RFC 5280 appendix A: ub-common-name.
_LONGEST_COMMON_NAME = 64
_LONGEST_NAME = 253
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM; the key is not encrypted."""

    certificate: bytes
    private_key: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """What a certificate says: its names (DNS names before addresses), its end, and for what it may be used."""

    names: tuple[str, ...]
    expires: datetime
    server: bool
    client: bool


class Authority:
    """A certificate authority with its private key. ``create`` makes a new one, ``load`` takes one over."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, now: datetime) -> Authority:
        """Return a new authority; ``name`` is for people."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name[:_LONGEST_COMMON_NAME])
        built = _builder(subject, subject, key.public_key(), key.public_key())
        built = built.not_valid_before(now - _SKEW).not_valid_after(now + AUTHORITY_LIFETIME)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_key_usage(authority=True), critical=True)
        return cls(built.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, private_key: bytes) -> Authority:
        """Return the authority of a certificate and its key (PEM); raise ConfigError, naming neither file."""
        found = _read(certificate)
        try:
            key = serialization.load_pem_private_key(private_key, password=None)
        except TypeError:
            raise ConfigError("the key is encrypted; allowed: a key without a passphrase") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError("not a private key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("the key is not one of an elliptic curve; allowed: an authority that logguardctl made")
        if _spki(key.public_key()) != _spki(found.public_key()):
            raise ConfigError("the key does not belong to the authority's certificate")
        return cls(found, key)

    @property
    def certificate(self) -> bytes:
        """The authority's certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def private_key(self) -> bytes:
        """The authority's private key, PEM."""
        return _pem(self._key)

    @property
    def expires(self) -> datetime:
        """When the authority ends, and with it everything that it signed."""
        return _end(self._certificate)

    def server(self, names: Sequence[str], now: datetime) -> Issued:
        """Issue a server's certificate for names (DNS names or addresses); raise ConfigError for what is neither."""
        return self._issue(names, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def client(self, name: str, now: datetime) -> Issued:
        """Issue a client's certificate for the host of this name (or address); raise ConfigError for what is neither."""
        return self._issue([name], ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def issued(self, certificate: bytes) -> bool:
        """Return whether this authority signed a certificate (PEM)."""
        try:
            found = _read(certificate)
        except ConfigError:
            return False
        if found.issuer != self._certificate.subject or found.signature_hash_algorithm is None:
            return False
        try:
            self._key.public_key().verify(
                found.signature, found.tbs_certificate_bytes, ec.ECDSA(found.signature_hash_algorithm)
            )
        except InvalidSignature:
            return False
        return True

    def _issue(self, names: Sequence[str], purpose: x509.ObjectIdentifier, now: datetime) -> Issued:
        if not names:
            raise ConfigError("a certificate needs a name; allowed: names of hosts and addresses")
        if self.expires <= now:
            raise ConfigError(f"the authority's certificate ended at {self.expires:%Y-%m-%d}; make a new authority")
        alternatives = x509.SubjectAlternativeName(
            [_general_name(name) for name in dict.fromkeys(map(canonical, names))]
        )
        first = canonical(names[0])
        subject = _subject(first) if len(first) <= _LONGEST_COMMON_NAME else x509.Name([])
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(subject, self._certificate.subject, key.public_key(), self._key.public_key())
        # Nothing outlives who signed it.
        built = built.not_valid_before(now - _SKEW).not_valid_after(min(now + LIFETIME, self.expires))
        built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        built = built.add_extension(_key_usage(authority=False), critical=True)
        built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        # RFC 5280 section 4.2.1.6: critical where the subject is empty.
        built = built.add_extension(alternatives, critical=not list(subject))
        certificate = built.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def describe(certificate: bytes) -> Described:
    """Return what the first certificate of a PEM file says; raise ConfigError if there is none."""
    found = _read(certificate)
    names: list[str] = []
    uses = None
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        names += [str(part.value) for part in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        uses = set(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    return Described(
        tuple(names),
        _end(found),
        server=uses is None or ExtendedKeyUsageOID.SERVER_AUTH in uses,
        client=uses is None or ExtendedKeyUsageOID.CLIENT_AUTH in uses,
    )


def canonical(name: str) -> str:
    """Return a DNS name in lower case, or an address as RFC 5952 writes it; raise ConfigError for what is neither."""
    with contextlib.suppress(ValueError):
        # A zone (RFC 4007) is part of no certificate, and no DNS name either.
        return str(ip_address(name.strip("[]").replace("%", " ")))
    text = name.lower().rstrip(".")
    if len(text) > _LONGEST_NAME or not _DNS_NAME.fullmatch(text) or text.replace(".", "").isdecimal():
        raise ConfigError(f"{name[:80]!r} is neither the name of a host nor an address")
    return text


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Return a certificate without its validity, to be signed by the owner of the key ``signer``."""
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    built = built.serial_number(x509.random_serial_number())
    built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return built.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "logguardd"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _read(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise ConfigError("not a certificate in PEM") from None


def _end(certificate: x509.Certificate) -> datetime:
    try:
        return certificate.not_valid_after_utc
    except AttributeError:  # before cryptography 42
        return certificate.not_valid_after.replace(tzinfo=UTC)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _spki(key: object) -> bytes:
    found: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found
