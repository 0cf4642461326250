"""The node's authority and its listeners' certificate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.control.certificates import is_host_name, issue_authority, issue_listener, needs_renewal, new_key
from gateway.errors import ConfigError

NOW = 1_800_000_000
DAY = 86_400
KEY = new_key()
AUTHORITY = issue_authority(KEY, "test CA")


def listener(*names: str, now: float = NOW) -> x509.Certificate:
    return issue_listener(new_key(), names, AUTHORITY, KEY, now)


def test_the_authority_signs_end_certificates_only() -> None:
    constraints = AUTHORITY.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = AUTHORITY.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_fault_92_the_authority_is_valid_whatever_the_clock_said_at_its_making() -> None:
    """Fault 92: a node without a clock must not make an authority that nobody can use later."""
    assert AUTHORITY.not_valid_before_utc == datetime(2020, 1, 1, tzinfo=UTC)
    assert AUTHORITY.not_valid_after_utc == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_a_listener_certificate_is_for_its_names_and_this_host() -> None:
    names = listener("gw.example", "192.0.2.1", "bücher.example", "*.plant.example", "gw.example", "localhost")
    found = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == [
        "localhost",
        "gw.example",
        "xn--bcher-kva.example",
        "*.plant.example",
    ]
    assert [str(address) for address in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.1"]


def test_a_listener_certificate_lives_397_days_from_a_day_ago() -> None:
    certificate = listener()
    assert certificate.not_valid_before_utc.timestamp() == NOW - DAY
    assert certificate.not_valid_after_utc.timestamp() == NOW + 396 * DAY


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a..b", "-\n", "x" * 300, "a.*", "gw.example:7878", "\ud800"])
def test_what_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)
    with pytest.raises(ConfigError, match="is neither a host name nor an address"):
        listener(name)


@pytest.mark.parametrize(
    ("days", "due"), [(-2, True), (-1, False), (0, False), (365, False), (366.1, True), (396, True), (5000, True)]
)
def test_a_certificate_is_renewed_before_its_last_30_days_and_when_the_clock_is_before_it(
    days: float, due: bool
) -> None:
    assert needs_renewal(listener("gw"), ["gw"], AUTHORITY, NOW + days * DAY) is due


def test_a_certificate_is_renewed_when_its_names_change() -> None:
    certificate = listener("gw", "192.0.2.1")
    assert not needs_renewal(certificate, ["192.0.2.1", "gw"], AUTHORITY, NOW)
    assert not needs_renewal(certificate, None, AUTHORITY, NOW)
    assert needs_renewal(certificate, ["gw"], AUTHORITY, NOW)
    assert needs_renewal(certificate, ["gw", "192.0.2.1", "gw2"], AUTHORITY, NOW)


def test_a_certificate_of_another_authority_is_renewed() -> None:
    assert needs_renewal(listener(), None, issue_authority(new_key(), "other CA"), NOW)
    assert needs_renewal(listener(), None, issue_authority(new_key(), "test CA"), NOW)


def test_a_certificate_without_names_is_renewed() -> None:
    full = listener()
    bare = (
        x509.CertificateBuilder()
        .subject_name(full.subject)
        .issuer_name(full.issuer)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(full.not_valid_before_utc)
        .not_valid_after(full.not_valid_after_utc)
        .sign(KEY, hashes.SHA256())
    )
    assert needs_renewal(bare, [], AUTHORITY, NOW)
    assert not needs_renewal(bare, None, AUTHORITY, NOW)
