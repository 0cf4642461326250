"""Rollouts of firmware: who follows which, what a report means, and when one stops by itself."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.control import rollout_steps
from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.firmware import Firmware, NewFirmware, manifest
from gateway.control.plane import ControlPlane
from gateway.control.rollout_reports import Wanted, report_of
from gateway.control.rollout_steps import Phase, Rollout, Step, place_of
from gateway.control.rollouts import NewRollout
from gateway.errors import AlreadyExists, InvalidChange, NotAllowed, NotFound, StaleVersion
from tests.control.conftest import OPERATOR, Site

BOARD = "pico"


async def pieces(image: bytes) -> AsyncIterator[bytes]:
    yield image


async def add(control: ControlPlane, version: str = "2", image: bytes | None = None, **more: Any) -> Firmware:
    new = NewFirmware(BOARD, version, **more)
    return (await control.firmware.add(new, pieces(image or f"image {version}".encode()), by=OPERATOR))[0]


async def start(control: ControlPlane, firmware: Firmware, **more: Any) -> Rollout:
    return await control.rollouts.create(NewRollout(firmware.id, **more), by=OPERATOR)


async def say(
    control: ControlPlane, device: str, state: str = "idle", id: str = "", version: str = "1", **more: Any
) -> dict[str, Any] | None:
    """The update that a device gets when it says this."""
    document = {"board": BOARD, "version": version, "state": state, "id": id, **more}
    return await control.reports.report(device, report_of(document), by=Actor("device", device))


async def ask(control: ControlPlane, device: str, firmware: Firmware, offset: int = 0) -> Wanted:
    return await control.reports.download(device, firmware.id, offset, by=Actor("device", device))


async def devices(control: ControlPlane, *names: str, **more: Any) -> None:
    for name in names:
        await control.devices.create(NewDevice(name, **more), by=OPERATOR)


async def steps(control: ControlPlane, rollout: Rollout) -> dict[str, str]:
    return {each.device_id: each.state.value for each in (await control.rollouts.devices(rollout.id)).items}


def is_update(update: dict[str, Any] | None, firmware: Firmware) -> bool:
    return update is not None and update["id"] == firmware.id


# Firmware


async def test_a_firmware_is_what_it_is(control: ControlPlane) -> None:
    image = b"\x00\x01" * 5000
    made = await add(control, image=image, notes="better\nfaster")
    assert (made.size, made.sha256) == (len(image), hashlib.sha256(image).hexdigest())
    assert await control.firmware.get(made.id) == made
    again, new = await control.firmware.add(NewFirmware(BOARD, "2"), pieces(image), by=OPERATOR)
    assert (again, new) == (made, False)
    with pytest.raises(AlreadyExists):
        await add(control, image=b"another")
    assert [each.name for each in control.firmware.images.directory.iterdir()] == [made.sha256]
    (entry,) = (await control.audit.list(action="firmware.add")).items
    assert entry.object == f"firmware:{made.id}"


@pytest.mark.parametrize(
    ("new", "image"),
    [
        (NewFirmware("", "2"), b"x"),
        (NewFirmware("a b", "2"), b"x"),
        (NewFirmware(BOARD, "2\n3"), b"x"),
        (NewFirmware(BOARD, "2", sha256="ab"), b"x"),
        (NewFirmware(BOARD, "2", sha256="0" * 64), b"x"),
        (NewFirmware(BOARD, "2", publisher="a" * 43), b"x"),
        (NewFirmware(BOARD, "2", publisher="a" * 43, signature="a" * 86), b"x"),
        (NewFirmware(BOARD, "2", notes="\0"), b"x"),
        (NewFirmware(BOARD, "2"), b""),
    ],
)
async def test_what_is_no_firmware_leaves_nothing(control: ControlPlane, new: NewFirmware, image: bytes) -> None:
    with pytest.raises(InvalidChange):
        await control.firmware.add(new, pieces(image), by=OPERATOR)
    directory = control.firmware.images.directory
    assert not directory.exists() or list(directory.iterdir()) == []


async def test_a_dry_run_leaves_nothing(control: ControlPlane) -> None:
    made, new = await control.firmware.add(NewFirmware(BOARD, "2"), pieces(b"x"), by=OPERATOR, dry_run=True)
    assert new
    with pytest.raises(NotFound):
        await control.firmware.get(made.id)
    assert list(control.firmware.images.directory.iterdir()) == []


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_publisher_signs(control: ControlPlane) -> None:
    """Where keys are named, only what one of them has signed is taken."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def signed(by: Ed25519PrivateKey, version: str, image: bytes) -> NewFirmware:
        public = text(by.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        message = manifest(BOARD, version, len(image), hashlib.sha256(image).hexdigest())
        return NewFirmware(BOARD, version, publisher=public, signature=text(by.sign(message)))

    new = signed(key, "2", b"x")
    made, _ = await control.firmware.add(new, pieces(b"x"), by=OPERATOR)
    assert (made.publisher, made.signature) == (new.publisher, new.signature)
    control.firmware.publishers = lambda: (new.publisher,)
    for refused in (NewFirmware(BOARD, "3"), signed(other, "3", b"y")):
        with pytest.raises(NotAllowed):
            await control.firmware.add(refused, pieces(b"y"), by=OPERATOR)
    with pytest.raises(InvalidChange):
        await control.firmware.add(signed(key, "3", b"another"), pieces(b"y"), by=OPERATOR)
    await control.firmware.add(signed(key, "3", b"y"), pieces(b"y"), by=OPERATOR)
    await devices(control, "a")
    await start(control, made)
    update = await say(control, "a")
    assert update is not None
    assert (update["publisher"], update["signature"]) == (new.publisher, new.signature)


async def test_an_image_stays_as_long_as_somebody_has_it(control: ControlPlane) -> None:
    first, second = await add(control, "2", b"same"), await add(control, "3", b"same")
    rollout = await start(control, first)
    with pytest.raises(AlreadyExists):
        await control.firmware.delete(first.id, by=OPERATOR)
    await control.rollouts.abort(rollout.id, by=OPERATOR)
    await control.firmware.delete(first.id, by=OPERATOR)
    await control.firmware.check()
    assert (control.firmware.images.directory / second.sha256).exists()
    await control.firmware.delete(second.id, by=OPERATOR)
    assert list(control.firmware.images.directory.iterdir()) == []


# Who follows which


def test_a_share_grows_by_the_same_devices_and_more() -> None:
    names = [f"device-{number}" for number in range(4000)]
    tenth = {name for name in names if place_of("fw", name) < 10}
    half = {name for name in names if place_of("fw", name) < 50}
    assert tenth < half
    assert 300 < len(tenth) < 500
    assert 1800 < len(half) < 2200
    assert tenth != {name for name in names if place_of("another", name) < 10}


async def test_only_what_the_selector_fits_is_reached(control: ControlPlane) -> None:
    await devices(control, "in", labels={"ring": "1", "roof": "yes"}, groups=["eu"], profile="thermo")
    await devices(control, "ring2", labels={"ring": "2", "roof": "yes"}, groups=["eu"], profile="thermo")
    await devices(control, "bare", labels={"ring": "1"}, groups=["eu"], profile="thermo")
    await devices(control, "us", labels={"ring": "1", "roof": "yes"}, groups=["us"], profile="thermo")
    await devices(control, "lamp", labels={"ring": "1", "roof": "yes"}, groups=["eu"])
    made = await add(control)
    rollout = await start(control, made, labels=["ring=1", "roof"], groups=["eu"], profile="thermo")
    for name in ("in", "ring2", "bare", "us", "lamp", "nobody"):
        assert is_update(await say(control, name), made) == (name == "in")
    assert [name async for names in control.rollouts.reached(rollout) for name in names] == ["in"]
    assert await steps(control, rollout) == {"in": "offered"}
    other = report_of({"board": "esp32", "version": "1"})
    assert await control.reports.report("in", other, by=OPERATOR) is None


async def test_the_newest_rollout_wins(site: Site, control: ControlPlane) -> None:
    await devices(control, "a", labels={"ring": "1"})
    await devices(control, "b")
    old, new = await add(control, "2"), await add(control, "3")
    first = await start(control, old)
    assert is_update(await say(control, "a"), old)
    site.clock.now += 1
    second = await start(control, new, labels=["ring"])
    assert is_update(await say(control, "a"), new)
    assert is_update(await say(control, "b"), old)
    assert await steps(control, first) == {"b": "offered"}
    with pytest.raises(NotAllowed):
        await ask(control, "a", old)
    await control.rollouts.pause(second.id, by=OPERATOR)
    assert await say(control, "a") is None
    await control.rollouts.abort(second.id, by=OPERATOR)
    assert is_update(await say(control, "a"), old)


@pytest.mark.parametrize("how", ["aborted", "label gone", "both"])
async def test_what_a_device_has_got_no_older_rollout_undoes(site: Site, control: ControlPlane, how: str) -> None:
    await devices(control, "a", labels={"ring": "1"})
    old, new, newest = await add(control, "2"), await add(control, "3"), await add(control, "4")
    await start(control, old)
    site.clock.now += 1
    second = await start(control, new, labels=["ring"])
    await say(control, "a")
    await say(control, "a", "trial", new.id, "3")
    if how != "label gone":
        await control.rollouts.abort(second.id, by=OPERATOR)
    if how != "aborted":
        await control.devices.update("a", {"labels": {}}, by=OPERATOR)
    for state in ("trial", "confirmed", "confirmed"):
        assert await say(control, "a", state, new.id, "3") is None
    assert await say(control, "a", version="3") is None
    site.clock.now += 1
    await start(control, newest)
    assert is_update(await say(control, "a", "confirmed", new.id, "3"), newest)


async def test_a_device_that_begins_anew_is_updated_anew(control: ControlPlane) -> None:
    """Somebody has put the old version there by hand."""
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made)
    await say(control, "a", version="2")
    assert await say(control, "a", "rolled_back", made.id, "1") is None
    assert await steps(control, rollout) == {"a": "confirmed"}
    assert is_update(await say(control, "a", version="1"), made)
    assert await steps(control, rollout) == {"a": "offered"}


async def test_a_smaller_share_takes_nobody_out(control: ControlPlane) -> None:
    names = [f"device-{number}" for number in range(20)]
    await devices(control, *names)
    made = await add(control)
    rollout = await start(control, made, percentage=50)
    inside = [name for name in names if is_update(await say(control, name), made)]
    assert inside == [name for name in names if place_of(made.id, name) < 50]
    await control.rollouts.update(rollout.id, {"percentage": 0.001}, by=OPERATOR)
    assert [name for name in names if is_update(await say(control, name), made)] == inside
    await control.rollouts.update(rollout.id, {"percentage": 100}, by=OPERATOR)
    assert all([is_update(await say(control, name), made) for name in names])


async def test_who_has_it_is_done(control: ControlPlane) -> None:
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made)
    assert await say(control, "a", version="2") is None
    assert await steps(control, rollout) == {"a": "confirmed"}


# What a report means


async def test_the_steps_of_an_update(site: Site, control: ControlPlane) -> None:
    await devices(control, "a")
    made = await add(control, image=b"x" * 1000)
    rollout = await start(control, made)
    assert is_update(await say(control, "a"), made)
    assert (await ask(control, "a", made, 10)).size == 1000
    with pytest.raises(InvalidChange):
        await ask(control, "a", made, 1001)
    await say(control, "a", "downloading", made.id, offset=700)
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert (progress.state, progress.received) == (Step.DOWNLOADING, 700)
    await control.rollouts.write_received()
    for state, version in (("verified", "1"), ("trial", "2"), ("confirmed", "2")):
        site.clock.now += 10
        assert (await say(control, "a", state, made.id, version, offset=1000) is None) == (state != "verified")
        assert await steps(control, rollout) == {"a": state}
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert progress.received == 1000
    assert progress.offered_at + 30 == (progress.trial_at or 0) + 20 == progress.ended_at
    with pytest.raises(NotAllowed):
        await ask(control, "a", made)
    (entry,) = (await control.audit.list(action="rollout.report")).items
    assert (entry.actor_type, entry.actor_id, entry.diff["state"]) == ("device", "a", "confirmed")


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        ([], {"state": "idle", "version": "2"}, "confirmed"),
        (["trial"], {"state": "idle", "version": "1"}, "rolled_back"),
        (["trial"], {"state": "idle", "version": "2"}, "confirmed"),
        (["trial"], {"state": "confirmed", "id": "it", "version": "1"}, "trial"),
        (["failed"], {"state": "downloading", "id": "it"}, "failed"),
        (["failed"], {"state": "idle", "version": "2"}, "confirmed"),
        (["rolled_back"], {"state": "rolled_back", "id": "it"}, "rolled_back"),
        (["verified"], {"state": "downloading", "id": "it"}, "downloading"),
        (["confirmed"], {"state": "rolled_back", "id": "it"}, "confirmed"),
    ],
)
async def test_reports_that_come_late_or_never(
    control: ControlPlane, before: list[str], said: dict[str, str], after: str
) -> None:
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made)
    await say(control, "a")
    for state in before:
        await say(control, "a", state, made.id, version="2" if state in ("trial", "confirmed") else "1")
    said = {name: made.id if value == "it" else value for name, value in said.items()}
    await say(control, "a", **said)
    assert await steps(control, rollout) == {"a": after}


async def test_what_fails_is_not_offered_again_unless_told(control: ControlPlane) -> None:
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made)
    await say(control, "a")
    assert await say(control, "a", "failed", made.id, reason="no\x07 room") is None
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert progress.reason == "no? room"
    assert await say(control, "a") is None
    await control.rollouts.resume(rollout.id, retry=True, by=OPERATOR)
    # Until it begins anew the device says what became of it the last time.
    for _ in range(2):
        assert is_update(await say(control, "a", "failed", made.id), made)
    await say(control, "a", "downloading", made.id)
    assert await say(control, "a", "failed", made.id) is None
    await control.rollouts.abort(rollout.id, by=OPERATOR)
    again = await start(control, made)
    for _ in range(2):
        assert is_update(await say(control, "a", "failed", made.id), made)
    assert await steps(control, again) == {"a": "offered"}


async def test_a_device_that_does_not_come_back(site: Site, control: ControlPlane) -> None:
    """It had verified the image, and restarted."""
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made, confirm_s=60)
    await say(control, "a")
    await say(control, "a", "verified", made.id)
    site.clock.now += 59
    await say(control, "a", "verified", made.id)
    assert await control.reports.sweep() == pytest.approx(1)
    site.clock.now += 1
    await control.reports.sweep()
    assert await steps(control, rollout) == {"a": "failed"}


# When it stops by itself


async def test_too_many_failures_pause_it(control: ControlPlane) -> None:
    names = [f"device-{number}" for number in range(6)]
    await devices(control, *names)
    made = await add(control)
    changed: list[Rollout] = []
    control.rollouts.on_change = changed.append
    rollout = await start(control, made, max_failures=1)
    for name in names:
        await say(control, name)
    for name, state in zip(names[:4], ("failed", "rolled_back", "failed", "failed"), strict=True):
        await say(control, name, state, made.id)
        standing = await control.rollouts.get(rollout.id)
        assert standing.state is (Phase.RUNNING if name in (names[0], names[2]) else Phase.PAUSED)
        if name == names[1]:
            assert "2 devices have failed" in standing.reason
            assert await say(control, names[5]) is None
            # What has failed until now is forgiven: it takes as many more.
            await control.rollouts.resume(rollout.id, by=OPERATOR)
            assert is_update(await say(control, names[5]), made)
    assert [each.state for each in changed] == [Phase.RUNNING, Phase.PAUSED, Phase.RUNNING, Phase.PAUSED]
    pauses = (await control.audit.list(action="rollout.pause")).items
    assert {entry.actor_type for entry in pauses} == {"system"}
    assert (await control.audit.verify()).ok


async def test_a_trial_has_its_time(site: Site, control: ControlPlane) -> None:
    await devices(control, "a", "b")
    made = await add(control)
    rollout = await start(control, made, confirm_s=60, max_failures=0)
    for name in ("a", "b"):
        await say(control, name)
        await say(control, name, "trial", made.id, "2")
    assert await control.reports.sweep() == pytest.approx(60)
    await say(control, "b", "confirmed", made.id, "2")
    site.clock.now += 61
    assert await control.reports.sweep() is None
    assert await steps(control, rollout) == {"a": "failed", "b": "confirmed"}
    assert (await control.rollouts.get(rollout.id)).state is Phase.PAUSED
    # It was only late.
    await say(control, "a", "confirmed", made.id, "2")
    assert (await steps(control, rollout))["a"] == "confirmed"


async def test_an_update_lasts(site: Site, control: ControlPlane) -> None:
    """Whatever is running goes on after the node was started again."""
    await devices(control, "a")
    made = await add(control)
    rollout = await start(control, made, percentage=100, labels=[], max_failures=0)
    await say(control, "a")
    await ask(control, "a", made, 5)
    control = await site.open()
    assert (await control.rollouts.get(rollout.id)) == rollout
    (progress,) = (await control.rollouts.devices(rollout.id)).items
    assert (progress.state, progress.received) == (Step.DOWNLOADING, 5)
    assert is_update(await say(control, "a"), made)


# What operators may


async def test_what_is_aborted_stays_so(control: ControlPlane) -> None:
    made = await add(control)
    rollout = await start(control, made)
    await control.rollouts.abort(rollout.id, by=OPERATOR)
    for change in (control.rollouts.pause, control.rollouts.resume, control.rollouts.abort):
        with pytest.raises(AlreadyExists):
            await change(rollout.id, by=OPERATOR)
    with pytest.raises(AlreadyExists):
        await control.rollouts.update(rollout.id, {"percentage": 5}, by=OPERATOR)
    await control.rollouts.prune(2e9)
    with pytest.raises(NotFound):
        await control.rollouts.get(rollout.id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"percentage": 0},
        {"percentage": 101},
        {"percentage": True},
        {"confirm_s": 0},
        {"max_failures": -1},
        {"labels": ["=x"]},
        {"labels": "ring"},
        {"groups": [""]},
        {"profile": "\n"},
    ],
)
async def test_a_rollout_that_makes_no_sense(control: ControlPlane, wrong: dict[str, Any]) -> None:
    made = await add(control)
    with pytest.raises(InvalidChange):
        await start(control, made, **wrong)
    with pytest.raises(NotFound):
        await control.rollouts.create(NewRollout("nothing"), by=OPERATOR)


async def test_changes_go_by_what_was_seen(control: ControlPlane) -> None:
    rollout = await start(control, await add(control))
    changed = await control.rollouts.update(rollout.id, {"confirm_s": 5}, by=OPERATOR, expect=1)
    assert (changed.version, changed.confirm_s) == (2, 5)
    with pytest.raises(StaleVersion):
        await control.rollouts.update(rollout.id, {"confirm_s": 6}, by=OPERATOR, expect=1)
    with pytest.raises(InvalidChange):
        await control.rollouts.update(rollout.id, {"state": "paused"}, by=OPERATOR)


async def test_thousands_of_devices_a_page_at_a_time(control: ControlPlane) -> None:
    names = [f"device-{number:05}" for number in range(3000)]
    await control.devices.create_many([NewDevice(name) for name in names], by=OPERATOR)
    rollout = await start(control, await add(control))
    now = control.now

    def offer(connection: Any) -> None:
        connection.executemany(
            "INSERT INTO rollout_devices VALUES (?, ?, ?, 0, '', ?, NULL, NULL, NULL, ?)",
            [(rollout.id, name, "offered" if at % 3 else "confirmed", now, now) for at, name in enumerate(names)],
        )

    await control.database.write(offer)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await control.rollouts.devices(rollout.id, cursor=cursor, limit=700)
        seen += [each.device_id for each in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == names
    confirmed = await control.rollouts.devices(rollout.id, limit=1000, state=Step.CONFIRMED)
    assert len(confirmed.items) == 1000
    counts = (await control.rollouts.counts([rollout.id]))[rollout.id]
    assert (counts["offered"], counts["confirmed"], counts["failed"]) == (2000, 1000, 0)
    assert [name async for some in control.rollouts.reached(rollout) for name in some] == names


def test_the_rules_are_pure() -> None:
    source = Path(rollout_steps.__file__).read_text()
    assert not [word for word in ("sqlite3", "asyncio", "time.", "Database") if word in source]
