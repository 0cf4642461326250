"""What the data plane goes by reaches another process as it is, whole or by difference."""

from __future__ import annotations

import asyncio
import random
from dataclasses import fields, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.control.registry import Publication
from gateway.policy.access import Rights
from gateway.policy.access_list import AccessList, IssuerBounds, Refused, Registered
from gateway.policy.principal import Kind
from gateway.policy.tokens import VerificationKey
from gateway.workers.channel import Channel, Message, pair
from gateway.workers.telling import A_MESSAGE, Hearer, Teller
from tests.local_node import until

#: Secrets with which nodes join stay with the first process.
NOT_TOLD = {"joining"}
KEY = VerificationKey("k1", "EdDSA", Ed25519PrivateKey.generate().public_key(), "gateway:here")
OTHER = VerificationKey("k2", "EdDSA", Ed25519PrivateKey.generate().public_key(), "idp")


class Told:
    """A teller, its channel, and the hearer at the other end."""

    def __init__(self) -> None:
        ours, theirs = pair()
        self.heard: list[Publication] = []
        self._hearer = Hearer(self.heard.append)
        self._channels = (
            Channel(ours, lambda message, _: None, self._nothing, lambda: None),
            Channel(theirs, lambda message, _: self._hearer.take(message), self._nothing, lambda: None),
        )
        self.teller = Teller(self._channels[0])

    async def _nothing(self, message: Message) -> None:
        raise LookupError

    async def tell(self, publication: Publication) -> Publication:
        before = len(self.heard)
        self.teller.publish(publication)
        await until(lambda: len(self.heard) > before)
        return self.heard[-1]

    def close(self) -> None:
        self.teller.stop()
        for channel in self._channels:
            channel.close()


def _same(heard: Publication, told: Publication) -> None:
    for field in fields(AccessList):
        if field.name not in NOT_TOLD:
            assert getattr(heard.access, field.name) == getattr(told.access, field.name), field.name
    assert [(key.kid, key.algorithm, key.issuer) for key in heard.keys] == [
        (key.kid, key.algorithm, key.issuer) for key in told.keys
    ]
    assert heard.subjects == told.subjects


def _device(number: int) -> Registered:
    rights = Rights(("{sub}.*", f"s{number}"), ("*",))
    return Registered(Kind.DEVICE, number % 3 > 0, ("g",), (("room", str(number)),), rights)


async def test_everything_is_told() -> None:
    access = AccessList(
        devices={f"d{number}": _device(number) for number in range(2 * A_MESSAGE + 7)},
        tokens={"t1": 12.5, "t2": float("inf")},
        keys=frozenset({("idp", "bad"), ("gateway:here", "old")}),
        subjects={"d1": 99.0},
        issuers={"idp": IssuerBounds(frozenset({Kind.DEVICE, Kind.NODE}), Rights((), ("a.*",)), frozenset({"k2"}))},
        own_issuer="gateway:here",
        registered_only=True,
        joining={"j": (b"secret", 1.0)},
        enrolling={"e": (b"digest", 2.0)},
        elsewhere={("token", "t9"): (Refused("gateway:there", 0.0), Refused("", 5.0))},
    )
    told = Publication(access, (KEY, OTHER))
    assert all(getattr(access, field.name) for field in fields(AccessList)), "a new field is told, too"
    there = Told()
    try:
        heard = await there.tell(told)
        _same(heard, told)
        assert not heard.access.joining
        after = await there.tell(Publication(AccessList(own_issuer="gateway:here"), (KEY,)))
        _same(after, Publication(AccessList(own_issuer="gateway:here"), (KEY,)))
        # Keys that stay are the same objects: what was verified with them need not be verified again.
        assert after.keys[0] is heard.keys[0]
    finally:
        there.close()


async def test_any_row_of_changes_is_told() -> None:
    """Also where several come before the first of them has gone out."""
    dice = random.Random(7)
    access = AccessList(own_issuer="gateway:here")
    there = Told()
    try:
        changed: set[str] = set()
        for _ in range(60):
            devices, tokens = dict(access.devices), dict(access.tokens)
            touched = {f"d{dice.randrange(20)}" for _ in range(dice.randrange(1, 4))}
            for name in touched:
                if dice.random() < 0.4:
                    devices.pop(name, None)
                else:
                    devices[name] = _device(dice.randrange(100))
            if dice.random() < 0.3:
                tokens[f"t{dice.randrange(5)}"] = dice.random()
            elif tokens and dice.random() < 0.3:
                tokens.popitem()
            access = replace(access, devices=devices, tokens=tokens)
            publication = Publication(access, (KEY,), frozenset(touched))
            if dice.random() < 0.5:
                there.teller.publish(publication)
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
            else:
                await there.tell(publication)
            changed |= touched
        await until(lambda: there.heard and there.heard[-1].access.devices == access.devices)
        assert set().union(*(heard.subjects or () for heard in there.heard)) == changed
        assert there.heard[-1].access.tokens == access.tokens
    finally:
        there.close()
