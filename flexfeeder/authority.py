"""A private certificate authority, and the certificates of the servers that it vouches for.

Keys and certificates go in and out as PEM; the time is handed in.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LASTS = timedelta(days=3653)
"""Ten years."""

SERVER_LASTS = timedelta(days=825)
"""From beginning to end: the longest that Apple's systems take from any authority."""

CLOCKS_DIFFER = timedelta(hours=1)
"""Certificates are valid from so long before they were made: a meter's clock may be behind."""


class CertificateError(Exception):
    """What should be a certificate or its key cannot be used."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says: host names and addresses, and until when it holds."""

    names: frozenset[str]
    expires_at: datetime


def new_authority(now: datetime) -> Pair:
    """An authority of its own, which may sign servers and no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two of one name could not be told apart by whoever looks for the one that signed.
    name = _name(f"FlexFeeder authority {now:%Y-%m-%d %H:%M:%S}")
    certificate = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def new_server(authority: Pair, names: Collection[str], now: datetime) -> Pair:
    """A server that clients find under any of the host names and addresses.

    Raises:
        CertificateError: the authority cannot be used, or a name is none.

    """
    issuer, issuer_key = _certificate(authority.certificate), _key(authority.key)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is of another kind than those made here")
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now - CLOCKS_DIFFER + SERVER_LASTS, issuer.not_valid_after_utc)
    certificate = (
        _builder(_name("FlexFeeder server"), issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return _pair(certificate, key)


def read(certificate: bytes) -> Certificate:
    """What a certificate says.

    Raises:
        CertificateError: it is none.

    """
    found = _certificate(certificate)
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = frozenset(str(name.value) for name in extension.value)
    except x509.ExtensionNotFound:
        names = frozenset()
    return Certificate(names, found.not_valid_after_utc)


def belong_together(pair: Pair) -> bool:
    """True if the key is the certificate's.

    Raises:
        CertificateError: one of them cannot be read.

    """
    key = _key(pair.key).public_key()
    return _public(key) == _public(_certificate(pair.certificate).public_key())


def has_signed(authority: bytes, certificate: bytes) -> bool:
    """True if a certificate was signed by the authority whose certificate is given.

    Raises:
        CertificateError: one of them cannot be read.

    """
    try:
        _certificate(certificate).verify_directly_issued_by(_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCKS_DIFFER)
        .not_valid_after(until.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise CertificateError(f"{name!r} is no host name") from None


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateError("no certificate (PEM)") from None


def _key(pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: it wants a password
        raise CertificateError("no private key without a password (PEM)") from None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
