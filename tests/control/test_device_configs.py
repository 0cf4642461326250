"""Configurations of devices at rest: which one holds for whom, versions, what devices say of them, and the audit."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.control import device_configs
from gateway.control.audit import Actor
from gateway.control.device_configs import Difference, differences, read_target
from gateway.control.devices import NewDevice
from gateway.control.fleets import NewFleet
from gateway.control.plane import ControlPlane
from gateway.errors import InvalidChange, NotFound, StaleVersion
from tests.control.conftest import Clock, Site

BY = Actor("user", "alice")


async def held(control: ControlPlane, device: str) -> Any:
    config, _, _ = await control.device_configs.of_device(device)
    return None if config is None else config.document


async def test_the_most_specific_document_holds_whole(control: ControlPlane) -> None:
    """A device's own, then more labels before fewer and among equals the first by its text, then its fleet's, then
    that of all. Nothing is merged, and what is withdrawn gives way to the next."""
    configs = control.device_configs
    _, key = await control.fleets.create(NewFleet("f", ["d-1"], labels={"site": "7", "hw": "b"}), by=BY)
    await control.fleets.claim(key, "d-1", by=Actor("device", "d-1"))
    fleet = (await control.fleets.list()).items[0].id
    await control.devices.create(NewDevice("other"), by=BY)
    order = ["device:d-1", "labels:hw=b,site=7", "labels:hw=b", "labels:site=7", f"fleet:{fleet}", "all"]
    for target in reversed(order):
        await configs.put(target, {target: 1}, by=BY)
        assert await held(control, "d-1") == {target: 1}
    assert await held(control, "other") == {"all": 1}
    await configs.put("labels:site=8", {"x": 1}, by=BY)
    for target, following in zip(order, [*order[1:], None], strict=True):
        assert await held(control, "d-1") == {target: 1}
        await configs.withdraw(target, by=BY)
        assert await held(control, "d-1") == (None if following is None else {following: 1})
    assert await configs.wanted(["d-1", "nobody"]) == {"d-1": (0, ""), "nobody": None}
    await control.devices.update("d-1", {"labels": {"site": "8"}}, by=BY)
    assert await held(control, "d-1") == {"x": 1}


async def test_versions_history_and_rollback(control: ControlPlane) -> None:
    configs = control.device_configs
    await control.devices.create(NewDevice("d-1"), by=BY)
    first = await configs.put("device:d-1", {"a": 1}, by=BY, comment="to begin with", expect=0)
    everybody = await configs.put("all", {"a": 0}, by=BY)
    second = await configs.put("device:d-1", {"a": 2}, by=BY, expect=first.version)
    assert first.version < everybody.version < second.version
    with pytest.raises(StaleVersion):
        await configs.put("device:d-1", {"a": 3}, by=BY, expect=first.version)
    with pytest.raises(StaleVersion):
        await configs.withdraw("device:d-1", by=BY, expect=first.version)
    with pytest.raises(NotFound):
        await configs.roll_back("device:d-1", everybody.version, by=BY)
    assert (await configs.roll_back("device:d-1", first.version, by=BY, dry_run=True)).document == {"a": 1}
    assert await held(control, "d-1") == {"a": 2}
    third = await configs.roll_back("device:d-1", first.version, by=BY)
    assert (third.document, third.comment) == ({"a": 1}, f"rollback to {first.version}")
    past = (await configs.history("device:d-1")).items
    assert [(each.version, each.standing) for each in past] == [
        (third.version, True),
        (second.version, False),
        (first.version, False),
    ]
    again = await configs.put("device:d-1", {"a": 1}, by=BY)
    assert again.version > third.version, "what is set again is told again"
    entries = [entry for entry in (await control.audit.list()).items if entry.action.startswith("device_config.")]
    assert [entry.action.removeprefix("device_config.") for entry in entries] == [
        "set",
        "roll_back",
        "set",
        "set",
        "set",
    ]
    assert entries[0].object == "device:d-1"
    assert entries[2].diff["document"] == [{"a": 1}, {"a": 2}]


async def test_a_version_is_not_given_twice(control: ControlPlane, site: Site) -> None:
    """Not when the last ones are gone with their device, and not when the clock went back."""
    await control.devices.create(NewDevice("d-1"), by=BY)
    first = (await control.device_configs.put("device:d-1", {}, by=BY)).version
    assert first == int(site.clock() * 1000)
    second = (await control.device_configs.put("device:d-1", {}, by=BY)).version
    await control.devices.delete("d-1", by=BY)
    site.clock.now -= 3600
    third = (await control.device_configs.put("all", {}, by=BY)).version
    assert (second, third) == (first + 1, first + 2)


async def test_only_so_many_versions_are_kept(control: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_configs, "KEPT_VERSIONS", 3)
    for number in range(5):
        await control.device_configs.put("all", {"a": number}, by=BY)
    assert [each.document["a"] for each in (await control.device_configs.history("all")).items] == [4, 3, 2]


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("all", "all"),
        ("device:d_1", "device:d_1"),
        ("labels:site=7,hw=b", "labels:hw=b,site=7"),
        ("fleet:ab12", "fleet:ab12"),
        *(
            (bad, None)
            for bad in ("", "d-1", "device:", "device:a b", "labels:", "labels:a", "labels:a=1,a=2", "labels:a=*")
        ),
    ],
)
def test_targets(target: str, kept: str | None) -> None:
    if kept is not None:
        assert read_target(target) == kept
        return
    with pytest.raises(InvalidChange):
        read_target(target)


async def test_what_a_device_could_not_read_is_refused(control: ControlPlane) -> None:
    configs = control.device_configs
    deep: Any = {}
    for _ in range(device_configs.MAX_DEPTH):
        deep = {"a": deep}
    for document in ({"a": "x" * device_configs.MAX_BYTES}, {"a": float("nan")}, deep, {"a": "\ud800"}):
        with pytest.raises(InvalidChange):
            await configs.put("all", document, by=BY)
    await configs.put("all", {"a": "x" * (device_configs.MAX_BYTES - 8)}, by=BY)
    await configs.put("all", deep["a"], by=BY)
    for target in ("device:nobody", "fleet:nobody"):
        with pytest.raises(NotFound):
            await configs.put(target, {}, by=BY)


async def test_selectors_are_bounded(control: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_configs, "MAX_SELECTORS", 1)
    await control.device_configs.put("labels:a=1", {}, by=BY)
    await control.device_configs.put("labels:a=1", {"b": 1}, by=BY)
    with pytest.raises(InvalidChange, match="selectors already"):
        await control.device_configs.put("labels:a=2", {}, by=BY)


async def test_reports(control: ControlPlane, site: Site) -> None:
    """A repeated one is no write; a refusal does not take away what was taken before."""
    configs, clock = control.device_configs, site.clock
    assert isinstance(clock, Clock)
    await control.devices.create(NewDevice("d-1"), by=BY)
    with pytest.raises(NotFound):
        await configs.report("nobody", 1, True, "")
    assert await configs.report("d-1", 1, True, "") is True
    clock.now += 5
    assert await configs.report("d-1", 1, True, "") is False
    assert await configs.report("d-1", 2, False, "no\n" + "x" * 300) is True
    _, _, report = await configs.of_device("d-1")
    assert report is not None
    assert (report.version, report.ok, report.applied, report.applied_at) == (2, False, 1, clock.now - 5)
    assert report.reason == "no " + "x" * (device_configs.MAX_REASON - 3)
    page, desired = await configs.reports(ok=False)
    assert [each.device_id for each in page.items] == ["d-1"]
    assert desired == {"d-1": 0}
    assert (await configs.reports(version=1))[0].items == ()


async def test_a_device_that_is_deleted_leaves_nothing(control: ControlPlane) -> None:
    configs = control.device_configs
    await control.devices.create(NewDevice("d-1"), by=BY)
    await configs.put("device:d-1", {"a": 1}, by=BY)
    await configs.report("d-1", 1, True, "")
    await control.devices.delete("d-1", by=BY)
    await control.devices.create(NewDevice("d-1"), by=BY)
    assert await configs.of_device("d-1") == (None, 0, None)


def test_differences() -> None:
    before = {"a": 1, "b": {"c": [1, 2], "d": 1}, "gone": None, "e/f": 1}
    after = {"a": 1, "b": {"c": [1], "d": 1, "new": 2}, "e/f": True}
    assert differences(before, after) == [
        Difference("/b/c", [1, 2], [1]),
        Difference("/b/new", None, 2),
        Difference("/e~1f", 1, True),
    ]
