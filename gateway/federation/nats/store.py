"""The shared table's keys in a key-value bucket of NATS JetStream: `RouteStore` over `NatsClient`.

A key is a subject, a revision the stream's sequence, an age a header. Every write carries its age: one without takes
the age away. Writes go to the stream's leader and are in order; `read` asks the leader, too.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from gateway.errors import FederationError
from gateway.federation.nats.bucket import state, unfit
from gateway.federation.nats.client import NatsClient, NatsOptions, Refused
from gateway.federation.nats.watch import NatsWatch, gone_of
from gateway.federation.table.store import Entry, Follower, Put, RevisionConflict, Unavailable

#: The engine's codes (`err_code`).
WRONG_REVISION, NO_MESSAGE = (10071, 10164), 10037
#: For so long the engine remembers that a key was deleted.
TOMBSTONE_S = 600


class NatsStore:
    """As `RouteStore`. One node's."""

    def __init__(
        self,
        options: NatsOptions,
        *,
        alarm: Callable[[str, str], None] = lambda slug, text: None,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.client = NatsClient(options, alarm=alarm, random=random)
        self.watches: list[NatsWatch] = []
        self._options = options
        self._clock = clock
        self._random = random

    async def start(self) -> None:
        """Raises FederationError as `NatsClient.start`, and for a bucket that is missing or unfit."""
        await self.client.start()
        if not self.client.ready.is_set():
            return
        try:
            info = await state(self.client)
        except Unavailable:
            return
        except FederationError:
            await self.client.stop()
            raise
        faults = unfit(info["config"])
        if faults:
            await self.client.stop()
            raise FederationError(
                f"the bucket {self._options.bucket!r} cannot hold the shared table: {'; '.join(faults)}",
                reason="engine_unfit",
            )

    async def stop(self) -> None:
        for watch in self.watches:
            await watch.stop()
        await self.client.stop()

    async def read(self, key: str) -> Entry | None:
        subject = f"$KV.{self._options.bucket}.{key}"
        try:
            answer = await self.client.call(
                f"$JS.API.STREAM.MSG.GET.{self._options.stream}", json.dumps({"last_by_subj": subject}).encode()
            )
        except Refused as error:
            if error.code == NO_MESSAGE:
                return None
            raise Unavailable(error.text) from None
        message = answer["message"]
        headers = _headers(base64.b64decode(message.get("hdrs", "")))
        value = b"" if gone_of(headers) is not None else base64.b64decode(message.get("data", ""))
        return Entry(value, int(message["seq"]))

    async def put(self, put: Put) -> int:
        (answer,) = await self.put_all([put])
        if isinstance(answer, FederationError):
            raise answer
        return answer

    async def put_all(self, puts: Sequence[Put]) -> list[int | FederationError]:
        return await self._write([(put.key, put.value, _age(put.ttl_s, put.expected)) for put in puts])

    async def delete(self, key: str, expected: int | None = None) -> int:
        headers = {"KV-Operation": "DEL", **_age(TOMBSTONE_S, expected)}
        (answer,) = await self._write([(key, b"", headers)])
        if isinstance(answer, FederationError):
            raise answer
        return answer

    def watch(self, prefixes: Sequence[str], follower: Follower) -> NatsWatch:
        watch = NatsWatch(self.client, prefixes, follower, self._clock, self._random)
        self.watches.append(watch)
        watch.start()
        return watch

    async def _write(self, writes: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> list[int | FederationError]:
        bucket = self._options.bucket
        answers = await self.client.call_all([(f"$KV.{bucket}.{key}", value, head) for key, value, head in writes])
        return [_revision(answer) for answer in answers]


def _age(ttl_s: int, expected: int | None) -> dict[str, str]:
    headers = {"Nats-TTL": str(ttl_s)}
    if expected is not None:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
    return headers


def _revision(answer: dict[str, Any] | FederationError) -> int | FederationError:
    if isinstance(answer, Refused):
        if answer.code in WRONG_REVISION:
            return RevisionConflict(answer.text)
        return Unavailable(answer.text)
    return answer if isinstance(answer, FederationError) else int(answer["seq"])


def _headers(block: bytes) -> dict[str, str]:
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, found, value in (line.partition(":") for line in lines) if found}
