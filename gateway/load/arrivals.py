"""Connections that come: how many a second are let in, and how long a whole fleet takes to be back.

A connection is ready when the broker has accepted its SETUP, token and registration included.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter, process_time

from gateway.load.crowd import OPEN_TIMEOUT_S, every, room_for
from gateway.load.endpoint import Endpoint
from gateway.load.histogram import Histogram
from gateway.load.opening import Refused, connect, setup_frame
from gateway.load.run import Run
from gateway.load.shape import Access, Latency, Result, Shape
from gateway.load.tally import Tally

_GIVE_UP_S = 120.0
_PAUSE_AFTER_REFUSAL_S = 0.05
_QUIET_S = 1.0
_AT_ONCE = 64


async def connects(access: Access, at_once: int, seconds: float, *, register: bool = True) -> Result:
    """Open a connection and close it when it is ready, over and over, `at_once` at a time.

    With `register` each serves a name of its own below the service's.
    """
    room_for(at_once * 2)
    framing = access.address.framing(access.mask)
    tally = Tally()
    tally.ending = True
    begun, cpu = perf_counter(), process_time()
    until = begun + seconds

    async def arrive(number: int) -> None:
        service = f"{access.service}.{number}" if register else None
        while (now := perf_counter()) < until:
            endpoint = Endpoint(tally, framing)
            try:
                setup = setup_frame(access.token, service, uuid.uuid4().bytes)
                await connect(access.address, setup, endpoint, OPEN_TIMEOUT_S)
            except Refused as refused:
                tally.fail(f"{refused.reason}: {refused}")
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)
                continue
            tally.latencies.record(perf_counter() - now)
            tally.operations += 1
            if endpoint.transport is not None:
                endpoint.transport.close()

    await every(arrive(number) for number in range(at_once))
    elapsed = perf_counter() - begun
    return Result(
        name="connect",
        shape=f"w={at_once}",
        unit="conn",
        operations=tally.operations,
        seconds=elapsed,
        latency=Latency.of(tally.latencies),
        errors=tally.errors,
        load=(process_time() - cpu) / elapsed,
        texts=tuple(tally.texts),
    )


@dataclass(frozen=True, slots=True)
class BackOff:
    """Full jitter: the n-th try waits anything from 0 to `first` doubled n times, at most `longest`; seconds."""

    first: float = 1.0
    longest: float = 30.0

    def pause(self, tries: int, random: Random) -> float:
        return random.uniform(0.0, min(self.longest, self.first * 2.0 ** min(tries, 30)))


async def storm(
    access: Access,
    tokens: Sequence[tuple[str, str]],
    back_off: BackOff,
    random: Random,
) -> Result:
    """Connect devices, drop them all at once, and see how long until the last one is ready again.

    `tokens` has one (subject, token) a device; each registers its subject as its service. A refused device tries
    again, not before the pause that it was asked for. Meanwhile one requester keeps a single request in flight:
    `healthy_p99_ms` is its p99, `quiet_p99_ms` what that was before. The latencies are those from the drop to ready.
    """
    room_for(2 * len(tokens))
    fleet = _Fleet(access, tokens)
    neighbour = Shape(in_flight=1)
    try:
        await fleet.come()
        async with Run(access, neighbour) as run:
            run.start()
            run.count()
            await asyncio.sleep(_QUIET_S)
            quiet = run.latency()
            run.count()
            fleet.drop()
            await fleet.come(back_off, random)
            run.stop()
            await run.drain()
            healthy = run.result()
    finally:
        fleet.drop()
    return Result(
        name="storm",
        shape=f"devices={len(tokens)}",
        unit="ready",
        operations=fleet.ready,
        seconds=healthy.seconds,
        latency=Latency.of(fleet.times),
        errors=healthy.errors,
        unfinished=len(tokens) - fleet.ready,
        load=healthy.load,
        texts=(*fleet.texts, *healthy.texts),
        more={
            "last_s": round(fleet.times.longest, 3),
            "tries": fleet.tries,
            **{f"refused_{reason}": count for reason, count in sorted(fleet.refusals.items())},
            "quiet_p99_ms": round(quiet.p99 * 1e3, 3),
            "healthy_p99_ms": round(healthy.latency.p99 * 1e3, 3),
        },
    )


class _Fleet:
    """Devices, each with a token of its own."""

    def __init__(self, access: Access, tokens: Sequence[tuple[str, str]]) -> None:
        self.access = access
        self.ready = 0
        self.tries = 0
        self.times = Histogram()
        self.refusals: Counter[str] = Counter()
        self.texts: list[str] = []
        self._tokens = tokens
        self._tally = Tally()
        self._tally.ending = True
        self._framing = access.address.framing(access.mask)
        self._endpoints: list[Endpoint] = []

    async def come(self, back_off: BackOff | None = None, random: Random | None = None) -> None:
        """Connect every device: a few at a time, or with a `back_off` all at once, each trying until it is in."""
        self.ready = self.tries = 0
        self.times.clear()
        self.refusals.clear()
        gate = asyncio.Semaphore(_AT_ONCE if back_off is None else len(self._tokens))
        begun = perf_counter()

        async def one(subject: str, token: str) -> None:
            tries = 0
            async with gate:
                while perf_counter() - begun < _GIVE_UP_S:
                    if back_off is not None and random is not None:
                        await asyncio.sleep(back_off.pause(tries, random))
                    tries += 1
                    try:
                        await self._connect(subject, token)
                        break
                    except Refused as refused:
                        if back_off is None:
                            raise
                        self._note(refused)
                        await asyncio.sleep(refused.retry_after)
                else:
                    return
            self.ready += 1
            self.times.record(perf_counter() - begun)

        await every(one(subject, token) for subject, token in self._tokens)

    def drop(self) -> None:
        """Close every connection at once."""
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            if endpoint.transport is not None:
                endpoint.transport.abort()

    async def _connect(self, subject: str, token: str) -> None:
        self.tries += 1
        endpoint = Endpoint(self._tally, self._framing)
        setup = setup_frame(token, subject, uuid.uuid4().bytes)
        await connect(self.access.address, setup, endpoint, OPEN_TIMEOUT_S)
        self._endpoints.append(endpoint)

    def _note(self, refused: Refused) -> None:
        self.refusals[refused.reason] += 1
        if self.refusals[refused.reason] == 1:
            self.texts.append(str(refused))
