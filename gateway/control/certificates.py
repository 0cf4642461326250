"""The node's own certificate authority and the certificate of its listeners.

Both keys are EC P-256: every TLS 1.2 stack knows it, the ones on microcontrollers too. Builds and judges certificates;
touches no file and no clock (``now`` is passed in, seconds since the epoch). ``control.identity`` keeps the files.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.errors import ConfigError

LISTENER_DAYS = 397
RENEWAL_DAYS = 30
ALWAYS_NAMES = ("localhost", "127.0.0.1", "::1")

# A node may first start with its clock unset, and devices keep this certificate for their lifetime: so the authority's
# dates do not come from a clock. The end is the one that RFC 5280 (4.1.2.5) gives to certificates without one.
_AUTHORITY_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_AUTHORITY_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def new_key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


def issue_authority(key: EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """A self-signed authority that may sign end certificates and nothing else."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_AUTHORITY_FROM)
        .not_valid_after(_AUTHORITY_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def issue_listener(
    key: EllipticCurvePrivateKey,
    names: Iterable[str],
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    now: float,
    *,
    days: int = LISTENER_DAYS,
    dials: bool = False,
) -> x509.Certificate:
    """A server certificate for these host names and addresses, valid from a day ago (clocks differ) for so many days.

    `dials`: who holds it shows it as a client, too.

    Raises:
        ConfigError: a name is neither a host name nor an address.
    """
    start = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(dials)), critical=False)
        .add_extension(_alternative_names(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )


def needs_renewal(
    certificate: x509.Certificate, names: Iterable[str] | None, authority: x509.Certificate, now: float
) -> bool:
    """Whether a listener certificate should be issued anew.

    It should when it is not valid yet, has less than 30 days left, is another authority's, or is not for exactly these
    names; ``None`` leaves the names as they are.
    """
    moment = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= moment < certificate.not_valid_after_utc - timedelta(days=RENEWAL_DAYS):
        return True
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return True
    if names is None:
        return False
    try:
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return True
    return set(present) != set(_alternative_names(names))


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def is_host_name(name: str) -> bool:
    """Whether a certificate can be issued for this host name."""
    return _ascii_host(name) is not None


def _purposes(dials: bool) -> list[x509.ObjectIdentifier]:
    return [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if dials else [])]


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative_name(name) for name in dict.fromkeys((*ALWAYS_NAMES, *names))])


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    host = _ascii_host(name)
    if host is None:
        raise ConfigError(f"{name!r} is neither a host name nor an address, so no certificate can be issued for it")
    return x509.DNSName(host)


def _ascii_host(name: str) -> str | None:
    try:
        host = name.encode("idna").decode()
    except UnicodeError:
        return None
    return host if _HOST.fullmatch(host) else None


def fingerprint(ca_pem: str) -> str:
    """The hex SHA-256 of an authority's certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca_pem)).hexdigest()
