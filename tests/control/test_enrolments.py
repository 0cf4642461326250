"""One-time tokens and fleet keys: used as often as they say, by whom they are for, and for nothing else."""

from __future__ import annotations

import asyncio

import pytest

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.enrolments import REFUSED, NewEnrolment
from gateway.control.fleets import NewFleet
from gateway.control.plane import ControlPlane
from gateway.errors import EnrolmentRefused, InvalidChange, LoginRefused, NotFound, TokenError
from gateway.policy.tokens import TokenVerifier
from tests.control.conftest import OPERATOR, Site

DEVICE = Actor("device", "unknown", "192.0.2.9")


async def refusal(control: ControlPlane, token: str, **options: str) -> str:
    """The reason in the audit; the holder is told the same whatever it is."""
    with pytest.raises(EnrolmentRefused) as refused:
        await control.enrolments.redeem(token, by=DEVICE, **options)  # type: ignore[arg-type]
    assert refused.value.text == REFUSED
    (entry,) = (await control.audit.list(limit=1)).items
    assert (entry.outcome, entry.reason, entry.ip) == ("refused", refused.value.reason, "192.0.2.9")
    return entry.reason


async def test_a_device_gets_what_the_enrolment_says(site: Site) -> None:
    control = await site.open()
    enrolment, token = await control.enrolments.create(
        NewEnrolment(profile="thermostat", labels={"floor": "1"}, services=["{sub}.*"], routes=["api.*"]), by=OPERATOR
    )
    assert token.startswith(f"ge_{enrolment.id}_")
    enrolled = await control.enrolments.redeem(token, device_id="kitchen", firmware="1.0", by=DEVICE)
    device = enrolled.device
    assert (device.id, device.profile, device.labels, device.firmware) == (
        "kitchen",
        "thermostat",
        {"floor": "1"},
        "1.0",
    )
    principal = TokenVerifier(site.identity.verification_keys()).verify(enrolled.token, site.clock.now)
    assert (principal.subject, principal.services, principal.routes) == ("kitchen", ("{sub}.*",), ("api.*",))
    assert enrolled.expires_at == principal.expires_at
    assert enrolled.ca_pem.startswith("-----BEGIN CERTIFICATE")
    await asyncio.sleep(0)
    assert "kitchen" in site.published[-1].access.devices
    assert (await control.enrolments.get(enrolment.id)).used == 1


@pytest.mark.parametrize("uses", [1, 3])
async def test_of_many_that_come_at_once_as_many_get_through_as_it_says(control: ControlPlane, uses: int) -> None:
    """fault 64: one use, or N devices"""
    _, token = await control.enrolments.create(NewEnrolment(uses=uses), by=OPERATOR)
    outcomes = await asyncio.gather(
        *(control.enrolments.redeem(token, device_id=f"d{n}", by=DEVICE) for n in range(40)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == uses
    assert all(isinstance(outcome, EnrolmentRefused) for outcome in outcomes if isinstance(outcome, BaseException))
    assert await control.devices.count() == uses
    assert await control.audit.count(action="enrolment.redeem", outcome="refused") == 40 - uses


async def test_used_up_expired_revoked_unknown(site: Site) -> None:
    """fault 64: and the holder cannot tell which"""
    control = await site.open()
    _, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    await control.enrolments.redeem(token, by=DEVICE)
    assert await refusal(control, token) == "enrolment_used_up"
    _, token = await control.enrolments.create(NewEnrolment(ttl_s=60), by=OPERATOR)
    site.clock.now += 60
    assert await refusal(control, token) == "enrolment_expired"
    enrolment, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    await control.enrolments.revoke(enrolment.id, by=OPERATOR)
    assert await refusal(control, token) == "enrolment_revoked"
    assert await refusal(control, token[:-1] + ("A" if token[-1] != "A" else "B")) == "enrolment_unknown"
    for other in ("", "ge_", "x" * 10_000, token.replace("ge_", "gk_"), f"ge_{'0' * 16}_{'A' * 43}"):
        assert await refusal(control, other) == "enrolment_unknown"


async def test_it_is_for_its_device_and_takes_nobody_elses_place(control: ControlPlane) -> None:
    """fault 64: a claim that was caught does not open a device that exists"""
    await control.devices.create(NewDevice("kitchen"), by=OPERATOR)
    _, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    assert await refusal(control, token, device_id="kitchen") == "enrolment_device_exists"
    _, token = await control.enrolments.create(NewEnrolment(device_id="kitchen"), by=OPERATOR)
    assert await refusal(control, token, device_id="bath") == "enrolment_other_device"
    assert (await control.enrolments.redeem(token, by=DEVICE)).device.id == "kitchen"


async def test_enrolling_again_ends_what_the_device_had(site: Site) -> None:
    """Factory reset: who has the old credential has nothing."""
    control = await site.open()
    for _ in range(2):
        _, token = await control.enrolments.create(NewEnrolment(device_id="kitchen"), by=OPERATOR)
        enrolled = await control.enrolments.redeem(token, by=DEVICE)
    alive = (await control.credentials.list("kitchen", active=True)).items
    assert sorted(credential.type for credential in alive) == ["secret", "token"]
    (dead,) = (await control.credentials.list("kitchen", active=False, type="token")).items
    await asyncio.sleep(0)
    access = site.published[-1].access
    verifier = TokenVerifier(site.identity.verification_keys())
    principal = access.judge(verifier.verify(enrolled.token, site.clock.now), site.clock.now)
    assert principal.token_id != dead.token_id
    assert access.tokens[dead.token_id] <= site.clock.now


async def test_a_mistake_uses_nothing_up(control: ControlPlane) -> None:
    enrolment, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    for options in ({"device_id": "a/b"}, {"public_key": "no pem"}, {"ttl_s": 10**9}):
        with pytest.raises(InvalidChange):
            await control.enrolments.redeem(token, by=DEVICE, **options)  # type: ignore[arg-type]
    assert (await control.enrolments.get(enrolment.id)).used == 0
    await control.enrolments.redeem(token, device_id="a", by=DEVICE)


async def test_a_claim_opens_nothing_but_the_enrolment(site: Site) -> None:
    """fault 64: claim used for data"""
    control = await site.open()
    _, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    with pytest.raises(LoginRefused):
        await control.authenticate(token)
    with pytest.raises(TokenError):
        TokenVerifier(site.identity.verification_keys()).verify(token, site.clock.now)


@pytest.mark.parametrize(
    "new",
    [
        NewEnrolment(uses=0),
        NewEnrolment(uses=10_001),
        NewEnrolment(ttl_s=901),
        NewEnrolment(ttl_s=0),
        NewEnrolment(uses=2, ttl_s=8 * 86_400),
        NewEnrolment(device_id="a", uses=2),
        NewEnrolment(device_id="*"),
        NewEnrolment(services=["gateway/../x"]),
        NewEnrolment(kind="admin"),  # type: ignore[arg-type]
    ],
)
async def test_enrolments_that_cannot_be(control: ControlPlane, new: NewEnrolment) -> None:
    with pytest.raises(InvalidChange):
        await control.enrolments.create(new, by=OPERATOR)


async def test_no_secret_is_stored_or_audited(site: Site) -> None:
    """fault 101: a copy of the database opens nothing"""
    control = await site.open()
    _, token = await control.enrolments.create(NewEnrolment(), by=OPERATOR)
    enrolled = await control.enrolments.redeem(token, device_id="a", by=DEVICE)
    _, key = await control.fleets.create(NewFleet("f", ["s1"]), by=OPERATOR)
    password = await control.users.bootstrap()
    assert password is not None
    tokens = await control.sessions.login("admin", password, by=OPERATOR)
    await site.close()
    content = b"".join(path.read_bytes() for path in site.data.glob("gateway.db*"))
    assert enrolled.secret is not None
    for secret in (token, enrolled.token, enrolled.secret, key, password, tokens.access, tokens.refresh):
        # Its end, because what a secret begins with is an id.
        assert len(secret) >= 16
        assert secret[-16:].encode() not in content
    assert repr(enrolled).find(enrolled.token) < 0
    assert repr(tokens).find(tokens.refresh) < 0


# Fleets


async def claim_refusal(control: ControlPlane, key: str, serial: str) -> str:
    with pytest.raises(EnrolmentRefused) as refused:
        await control.fleets.claim(key, serial, by=DEVICE)
    assert refused.value.text == REFUSED
    (entry,) = (await control.audit.list(limit=1)).items
    assert (entry.action, entry.outcome, entry.diff["serial"]) == ("fleet.claim", "refused", serial[:64])
    return entry.reason


async def test_a_fleet_claims_each_serial_once(site: Site) -> None:
    """fault 64: allow-list, one device a serial, re-claim with an operator's consent"""
    control = await site.open()
    fleet, key = await control.fleets.create(NewFleet("pumps", ["s1", "s2"], profile="pump"), by=OPERATOR)
    outcomes = await asyncio.gather(
        *(control.fleets.claim(key, "s1", by=DEVICE) for _ in range(10)), return_exceptions=True
    )
    (enrolled,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert (enrolled.device.id, enrolled.device.profile) == ("s1", "pump")
    assert await claim_refusal(control, key, "s1") == "enrolment_serial_claimed"
    assert await claim_refusal(control, key, "s3") == "enrolment_serial_unknown"
    await control.fleets.add_serials(fleet.id, ["s3", "s1"], by=OPERATOR)
    await control.fleets.claim(key, "s3", by=DEVICE)
    counted = await control.fleets.get(fleet.id)
    assert (counted.serials, counted.claimed) == (3, 2)
    await control.fleets.release(fleet.id, "s1", by=OPERATOR)
    await control.fleets.claim(key, "s1", by=DEVICE)
    page = await control.fleets.serials(fleet.id, limit=2)
    assert [serial.serial for serial in page.items] == ["s1", "s2"]
    page = await control.fleets.serials(fleet.id, limit=2, cursor=page.next)
    assert [serial.serial for serial in page.items] == ["s3"]
    with pytest.raises(NotFound):
        await control.fleets.release(fleet.id, "s9", by=OPERATOR)


async def test_a_fleet_does_not_get_at_a_device_that_is_not_its_own(control: ControlPlane) -> None:
    await control.devices.create(NewDevice("s1"), by=OPERATOR)
    _, key = await control.fleets.create(NewFleet("pumps", ["s1"]), by=OPERATOR)
    assert await claim_refusal(control, key, "s1") == "enrolment_device_exists"


async def test_a_fleets_key_ends(site: Site) -> None:
    control = await site.open()
    _, key = await control.fleets.create(NewFleet("pumps", ["s1"], ttl_s=60), by=OPERATOR)
    site.clock.now += 60
    assert await claim_refusal(control, key, "s1") == "enrolment_expired"
    fleet, key = await control.fleets.create(NewFleet("pumps", ["s1"]), by=OPERATOR)
    await control.fleets.revoke(fleet.id, by=OPERATOR)
    assert await claim_refusal(control, key, "s1") == "enrolment_revoked"
    assert await claim_refusal(control, "gf_x", "s1") == "enrolment_unknown"
