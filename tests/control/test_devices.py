"""Devices: made, changed, listed, forgotten; each change audited and published."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from gateway.control.devices import NewDevice
from gateway.control.plane import ControlPlane
from gateway.control.table import public
from gateway.errors import AlreadyExists, InvalidChange, NotFound, StaleVersion
from gateway.policy.principal import Kind
from tests.control.conftest import OPERATOR, Site
from tests.in_time import in_time


async def test_a_device_outlives_the_process(site: Site) -> None:
    control = await site.open()
    made = await control.devices.create(
        NewDevice("kitchen", profile="thermostat", labels={"floor": "1"}, groups=["home"]), by=OPERATOR
    )
    control = await site.open()
    assert await control.devices.get("kitchen") == made
    assert made.version == 1
    assert made.kind is Kind.DEVICE
    assert made.services == ("{sub}", "{sub}.*")


async def test_a_change_needs_the_version_that_was_read(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    changed = await control.devices.update("a", {"notes": "in the\ncellar"}, by=OPERATOR, expect=1)
    assert changed.version == 2
    with pytest.raises(StaleVersion):
        await control.devices.update("a", {"notes": ""}, by=OPERATOR, expect=1)
    with pytest.raises(StaleVersion):
        await control.devices.delete("a", by=OPERATOR, expect=1)


async def test_a_dry_run_checks_everything_and_leaves_nothing(site: Site) -> None:
    control = await site.open()
    await asyncio.sleep(0)
    published = len(site.published)
    would = await control.devices.create(NewDevice("a"), by=OPERATOR, dry_run=True)
    assert would.id == "a"
    with pytest.raises(NotFound):
        await control.devices.get("a")
    assert await control.audit.count() == 0
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    with pytest.raises(AlreadyExists):
        await control.devices.create(NewDevice("a"), by=OPERATOR, dry_run=True)
    await asyncio.sleep(0)
    assert len(site.published) == published + 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"id": "b"}, "/id"),
        ({"version": 9}, "/version"),
        ({"not_before": None}, "/not_before"),
        ({"enabled": "yes"}, "/enabled"),
        ({"kind": "admin"}, "/kind"),
        ({"labels": {"a": "\x1b[31m"}}, "/labels/a"),
        ({"groups": "home"}, "/groups"),
        ({"services": ["a", "$SYS.x"]}, "/services/1"),
        ({"routes": ["a\x00b"]}, "/routes/0"),
        ({"notes": "x" * 5000}, "/notes"),
    ],
)
async def test_what_cannot_be_changed_or_stored(
    control: ControlPlane, changes: dict[str, object], pointer: str
) -> None:
    """fault 98 (mass assignment), fault 65 (names that are patterns), fault 101 (control characters)"""
    await control.devices.create(NewDevice("a"), by=OPERATOR)
    with pytest.raises(InvalidChange) as refused:
        await control.devices.update("a", changes, by=OPERATOR)
    assert refused.value.pointer == pointer
    assert (await control.devices.get("a")).version == 1


@pytest.mark.parametrize("device_id", ["", "a/b", "a.b", "#", "+", "..", "$SYS", "a\x00", "ü", "x" * 65, "*", "{sub}"])
async def test_ids_that_could_be_read_as_patterns(control: ControlPlane, device_id: str) -> None:
    """fault 65"""
    with pytest.raises(InvalidChange):
        await control.devices.create(NewDevice(device_id), by=OPERATOR)


async def test_many_at_once_say_what_became_of_each(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("b"), by=OPERATOR)
    outcomes = await control.devices.create_many([NewDevice("a"), NewDevice("b"), NewDevice("c c")], by=OPERATOR)
    assert [type(outcome.error) for outcome in outcomes] == [type(None), AlreadyExists, InvalidChange]
    assert (await control.devices.get("a")).id == "a"


async def test_pages_go_on_where_the_last_one_ended(control: ControlPlane) -> None:
    await control.devices.create_many(
        [NewDevice(f"d{n:03}", profile=f"p{n % 3}", groups=["even"] if n % 2 == 0 else []) for n in range(25)],
        by=OPERATOR,
    )
    for sort in (*control.devices.SORTS, *(f"-{name}" for name in control.devices.SORTS)):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await control.devices.list(cursor=cursor, limit=7, sort=sort)
            seen += [device.id for device in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert sorted(seen) == [f"d{n:03}" for n in range(25)], sort
    assert await control.devices.count(profile="p1", group="even") == 4
    assert [d.id for d in (await control.devices.list(q="D01", limit=3, sort="-id")).items] == ["d019", "d018", "d017"]


@pytest.mark.parametrize("at_once", [1, 7, 24, 25, 26])
async def test_an_export_has_every_device_once_as_it_is(
    control: ControlPlane, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """SQLite writes the lines: whatever is in a text comes out as it went in."""
    monkeypatch.setattr("gateway.control.devices.EXPORTED_AT_ONCE", at_once)
    odd = 'a "b" \\ é 😀 , ;'
    for number in range(25):
        new = NewDevice(
            f"d{number:03}", labels={"k": odd}, groups=["g", odd], notes=f"{odd}\n{odd}", enabled=number % 2 == 0
        )
        await control.devices.create(new, by=OPERATOR)
    names = ("id", "kind", "labels", "groups", "notes", "enabled", "last_seen_at", "version")
    found = [json.loads(line) async for text in control.devices.export(names) for line in text.split("\n")]
    listed = (await control.devices.list()).items
    assert found == [{name: public(device)[name] for name in names} for device in listed]


async def test_a_cursor_of_another_list_is_refused(control: ControlPlane) -> None:
    await control.devices.create_many([NewDevice("a"), NewDevice("b")], by=OPERATOR)
    cursor = (await control.devices.list(limit=1)).next
    for options in (
        {"cursor": cursor, "sort": "-id"},
        {"cursor": "bm90aGluZw"},
        {"sort": "notes"},
        {"limit": 0},
        {"limit": 1001},
        {"colour": "red"},
    ):
        with pytest.raises(InvalidChange):
            await control.devices.list(**options)  # type: ignore[arg-type]


async def test_labels_are_found_by_name_and_by_value(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("a", labels={"floor": "1"}), by=OPERATOR)
    await control.devices.create(NewDevice("b", labels={"floor": "2"}), by=OPERATOR)
    assert await control.devices.count(label="floor") == 2
    assert await control.devices.count(label="floor=2") == 1


async def test_a_page_of_ten_thousand_devices_takes_less_than_50_ms(control: ControlPlane) -> None:
    await control.devices.create_many(
        [NewDevice(f"d{n:05}", profile=f"p{n % 7}", labels={"floor": str(n % 9)}) for n in range(10_000)], by=OPERATOR
    )
    for options in ({}, {"sort": "-last_seen_at"}, {"profile": "p3"}, {"q": "d0999"}, {"label": "floor=3"}):

        async def page(options: dict[str, str] = options) -> float:
            began = time.perf_counter()
            assert (await control.devices.list(limit=100, **options)).items  # type: ignore[arg-type]
            return time.perf_counter() - began

        await in_time(0.05, page)


async def test_last_seen_is_written_in_one_go(site: Site) -> None:
    control = await site.open()
    await control.devices.create_many([NewDevice("a"), NewDevice("b")], by=OPERATOR)
    control.seen("a", 5.0, "1.2.3")
    control.seen("a", 7.0)
    control.seen("stranger", 7.0)
    control = await site.open()
    device = await control.devices.get("a")
    assert (device.last_seen_at, device.firmware, device.version) == (7.0, "1.2.3", 1)
    assert (await control.devices.get("b")).last_seen_at is None
    assert [d.id for d in (await control.devices.list(seen_since=6.0)).items] == ["a"]


async def test_what_is_published_is_what_is_on_disk(site: Site) -> None:
    control = await site.open()
    await control.devices.create(NewDevice("a", groups=["home"]), by=OPERATOR)
    await control.devices.create(NewDevice("b"), by=OPERATOR)
    await control.devices.disable("b", by=OPERATOR)
    await control.devices.create(NewDevice("c"), by=OPERATOR)
    await control.devices.delete("c", by=OPERATOR)
    await asyncio.sleep(0)
    live = site.published[-1].access
    assert live.devices["a"].groups == ("home",)
    assert not live.devices["b"].enabled
    assert "c" not in live.devices
    assert live.subjects == {"c": site.clock.now}
    assert site.published[-1].subjects == {"c"}
    await site.open()
    assert site.published[-1].access == live
