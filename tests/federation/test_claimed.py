"""The names of principals and of what they serve, as the shared table has them."""

from __future__ import annotations

import pytest

from gateway.federation.claimed import claim_name, own_name, principal_of, shared_name
from gateway.federation.table.records import ShardRecord, served_otherwise


@pytest.mark.parametrize("kind", ["device", "service", "user", "node", "admin"])
@pytest.mark.parametrize("subject", ["lamp", "a/b", "device/lamp", "service/x", "/", "{sub}"])
def test_a_principal_is_read_back_from_its_name(kind: str, subject: str) -> None:
    assert principal_of(claim_name(kind, subject)) == (kind, subject)


def test_a_device_has_its_plain_name() -> None:
    assert claim_name("device", "lamp-1") == "lamp-1"


@pytest.mark.parametrize(
    ("service", "subject", "shared"),
    [
        ("lamp-1.on", "lamp-1", "{sub}.on"),
        ("lamp-1/on", "lamp-1", "{sub}/on"),
        ("lamp-1", "lamp-1", "{sub}"),
        ("lamp-10.on", "lamp-1", "lamp-10.on"),
        ("lamp", "lamp-1", "lamp"),
        ("lamp", "", "lamp"),
    ],
)
def test_a_service_without_the_name_of_its_device(service: str, subject: str, shared: str) -> None:
    assert shared_name(service, subject) == shared
    assert own_name(shared, subject) == service


def test_who_is_served_otherwise_in_a_shard() -> None:
    def record(*rows: tuple[str, int, int | tuple[int, ...]]) -> ShardRecord:
        return ShardRecord.decode(ShardRecord.encode(1, rows))

    one = record(("a", 1, 0), ("b", 1, 0))
    assert served_otherwise(one, record(("a", 2, 0), ("b", 1, 0), ("c", 3, 0))) == []
    assert served_otherwise(one, record(("a", 1, 0), ("b", 1, (0, 1)))) == ["b"]
    assert served_otherwise(one, record(("a", 1, 1), ("c", 1, 0))) == ["a"]
    mixed = record(("a", 1, 0), ("b", 1, 1))
    assert served_otherwise(mixed, record(("b", 1, 1), ("c", 1, 0))) == []
