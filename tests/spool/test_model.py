"""A spool on a real file against a model that is a few lists: any sequence of what may be asked of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import SpoolFull
from gateway.spool.message import OVERHEAD_BYTES, Batch, Message
from gateway.spool.rules import SpoolRules, WhenFull
from tests.examples import examples
from tests.local_node import until
from tests.spool.conftest import Stores

SIZE = 10 + OVERHEAD_BYTES
ROOM = 12

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"), st.lists(st.tuples(st.sampled_from([0, 5, 9]), st.sampled_from("ab-")), max_size=4)
        ),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["settle", "acknowledge", "put_back"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["restart", "drop"]), st.just(0)),
    ),
    max_size=25,
)


class Model:
    """`waiting`: every message that is in the spool, by lane, in order. `out`: batches that were handed out."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        self.out: list[Batch] = []
        self.accepted = self.delivered = self.lost = 0

    @property
    def count(self) -> int:
        return sum(map(len, self.waiting.values()))

    def flying(self) -> set[bytes]:
        return {message.payload for batch in self.out for message in batch.messages}

    def remove(self, payloads: set[bytes]) -> int:
        before = self.count
        for lane in self.waiting:
            self.waiting[lane] = [one for one in self.waiting[lane] if one[1] not in payloads]
        return before - self.count

    def append(self, messages: list[Message], policy: WhenFull) -> bool:
        """Whether it is accepted."""
        excess = self.count + len(messages) - ROOM
        if excess > 0 and policy is WhenFull.REJECT:
            return False
        if excess > 0 and policy is WhenFull.DROP_OLDEST:
            flying = self.flying()
            lowest = min(message.priority for message in messages)
            victims = [
                payload
                for priority in (9, 5, 0)
                if priority >= lowest
                for _, payload in self.waiting[priority]
                if payload not in flying
            ]
            if len(victims) < excess:
                return False
            self.lost += self.remove(set(victims[:excess]))
        room = ROOM - self.count
        for message in messages:
            if room <= 0:
                self.lost += 1
                continue
            room -= 1
            self.waiting[message.priority].append((message.key, message.payload))
        return True


async def follow(directory: Path, policy: WhenFull, steps: list[tuple[str, object]]) -> None:
    stores = Stores(directory)
    rules = SpoolRules(when_full=policy, max_bytes=ROOM * SIZE, min_free=0.0)
    model = Model()
    number = 0
    try:
        spool = await (await stores.open()).spool("uplink", rules)
        for what, how in steps:
            if what == "append" and how:
                messages = []
                for priority, key in how:
                    key = b"" if key == "-" else key.encode()
                    messages.append(Message((b"%d" % number).ljust(10 - len(key)), key, priority))
                    number += 1
                accepted = model.append(messages, policy)
                try:
                    await spool.append(messages)
                    assert accepted
                except SpoolFull:
                    assert not accepted
            elif what == "take":
                batch = await spool.take(limit=how)
                busy = {message.key for one in model.out for message in one.messages if message.key}
                free = {
                    payload
                    for lane in model.waiting.values()
                    for key, payload in lane
                    if payload not in model.flying() and key not in busy
                }
                assert (batch is None) == (not free)
                if batch is not None:
                    payloads = [message.payload for message in batch.messages]
                    assert set(payloads) <= free
                    expected = [payload for _, payload in model.waiting[batch.priority] if payload in free]
                    of_epoch = expected[: len(payloads)]
                    assert payloads == of_epoch
                    model.out.append(batch)
            elif what in ("settle", "acknowledge", "put_back") and model.out:
                batch = model.out.pop(how % len(model.out))
                if what == "put_back":
                    spool.put_back(batch)
                elif what == "settle":
                    spool.settle(batch)
                    model.delivered += model.remove({message.payload for message in batch.messages})
                else:
                    # Cumulative: it settles what is in flight below it, too.
                    last = batch.messages[-1].id.seq
                    model.out.append(batch)
                    for one in list(model.out):
                        if one.epoch == batch.epoch:
                            model.out.remove(one)
                            done = {m.payload for m in one.messages if m.id.seq <= last}
                            model.delivered += model.remove(done)
                            left = tuple(m for m in one.messages if m.id.seq > last)
                            if left:
                                spool.acknowledge(batch.epoch, last)
                                spool.put_back(one)
                    spool.acknowledge(batch.epoch, last)
                await until(lambda spool=spool: spool.messages == model.count)
            elif what == "drop":
                flying = model.flying()
                rest = {payload for lane in model.waiting.values() for _, payload in lane if payload not in flying}
                dropped = model.remove(rest)
                model.lost += dropped
                assert await spool.drop() == dropped
            elif what == "restart":
                spool = await (await stores.reopen()).spool("uplink", rules)
                model.out.clear()
                model.delivered = 0
            assert spool.messages == model.count
            assert spool.size == model.count * SIZE
            assert sum(spool.status().lost.values()) == model.lost
            assert spool.status().delivered == model.delivered
        seen = [message.payload for message in await spool.peek(1000)]
        assert seen == [payload for lane in sorted(model.waiting) for _, payload in model.waiting[lane]]
    finally:
        await stores.close()


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([WhenFull.REJECT, WhenFull.DROP_OLDEST, WhenFull.DROP_NEWEST]), STEPS)
def test_it_does_what_the_model_does(policy: WhenFull, steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(follow(Path(directory), policy, steps))
