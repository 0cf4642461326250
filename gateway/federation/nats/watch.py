"""A watch of the bucket that loses nothing: an ordered consumer of our own.

The library's own watch says that it has told everything before it has, misses what a server loses at a fail-over, and
waits up to 15 s for a server that is frozen. Rules here:

* A session is a consumer with a name and an inbox of its own. It begins with the last value of every key, always: a
  store that lost its tail, or everything, needs no other case.
* The snapshot ends in two steps. What the stream had before the consumer was made is reached first; then the stream is
  asked again, because a key that is written meanwhile comes later, with its new revision.
* Every message has a number, and so has the heartbeat that follows it: a hole in either ends the session.
* No word for 2.5 s ends the session; heartbeats come every second. A session that ends is followed by another, after a
  pause that grows. Its consumer is deleted, where the engine can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from gateway.errors import FederationError
from gateway.federation.nats.client import NatsClient
from gateway.federation.table.following import SILENT_S
from gateway.federation.table.names import token
from gateway.federation.table.store import Change, Follower, Gone, Unavailable

HEARTBEAT_S = 1.0
#: The engine forgets a consumer that nobody listens to after so long.
ABANDONED_S = 10.0
RETRY_S = (0.1, 5.0)
_NS = 1_000_000_000


class _Broken(FederationError):
    reason = "watch_broken"


class NatsWatch:
    """Runs from `start` to `stop`. `sessions` counts snapshots begun, `gaps` what numbers have exposed."""

    def __init__(
        self,
        client: NatsClient,
        prefixes: Sequence[str],
        follower: Follower,
        clock: Callable[[], float],
        random: Random | None = None,
    ) -> None:
        self.sessions = 0
        self.gaps = 0
        self._client = client
        self._subject = f"$KV.{client.options.bucket}."
        self._filters = [f"{self._subject}{prefix}.>" for prefix in prefixes]
        self._follower = follower
        self._clock = clock
        self._random = random or Random()
        self._created = ""
        self._revision = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="nats: watch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        first, last = RETRY_S
        pause = first
        while True:
            await self._client.ready.wait()
            session = _Session(self)
            try:
                await session.run()
            except FederationError as error:
                self._follower.interrupted(error.text)
            except Exception as error:
                self._follower.interrupted(f"the watch failed: {error}")
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "the watch of the shared table failed, and is begun again", "exception": error}
                )
            finally:
                await session.close()
            pause = first if session.ended else min(pause * 2, last)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))

    # For the session at hand

    async def last_sequence(self) -> tuple[int, str]:
        """The stream's last sequence, and when the stream was made. Raises Unavailable or Refused."""
        info = await self._client.call(f"$JS.API.STREAM.INFO.{self._client.options.stream}")
        return int(info["state"]["last_seq"]), str(info.get("created", ""))

    def begin(self, last: int, created: str) -> None:
        """A snapshot of this stream begins."""
        reset = bool(self._created) and (created != self._created or last < self._revision)
        if reset:
            self._revision = 0
        self._created = created
        self.sessions += 1
        self._follower.snapshot_began(reset)


class _Session:
    """One consumer. `ended`: its snapshot was told whole."""

    def __init__(self, watch: NatsWatch) -> None:
        self.ended = False
        self._watch = watch
        self._client = watch._client
        self._options = watch._client.options
        self._name = f"{token(self._options.name)}-{self._random_name()}"
        self._subscription: Subscription | None = None
        self._made = False
        self._over = False
        self._failure: _Broken | None = None
        self._turn = asyncio.Event()
        self._position = 0
        self._delivered = 0
        self._idle = 0
        self._heard_at = watch._clock()
        self._skip = len(watch._subject)

    async def run(self) -> None:
        """Until it breaks. Raises FederationError."""
        watch = self._watch
        reached, created = await watch.last_sequence()
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox, self._on_message)
        self._heard_at = watch._clock()
        watch.begin(reached, created)
        await self._make(inbox)
        await self._reach(reached)
        reached, _ = await watch.last_sequence()
        await self._reach(reached)
        self.ended = True
        watch._follower.snapshot_ended()
        while True:
            await self._next()

    async def close(self) -> None:
        """Leaves nothing behind, as far as the engine can be asked."""
        self._over = True
        if self._subscription is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._subscription.unsubscribe()
        if self._made and self._client.ready.is_set():
            with contextlib.suppress(FederationError):
                await self._client.call(f"$JS.API.CONSUMER.DELETE.{self._options.stream}.{self._name}", seconds=1.0)

    async def _make(self, inbox: str) -> None:
        config = {
            "name": self._name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subjects": self._watch._filters,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * _NS),
            "inactive_threshold": int(ABANDONED_S * _NS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        # Made or not, if it is not answered: to delete it is harmless.
        self._made = True
        request: dict[str, Any] = {"stream_name": self._options.stream, "config": config, "action": "create"}
        await self._client.call(
            f"$JS.API.CONSUMER.CREATE.{self._options.stream}.{self._name}", json.dumps(request).encode()
        )

    async def _reach(self, sequence: int) -> None:
        """Until what the stream had at `sequence` was told: by that number, or because nothing more comes."""
        self._idle = 0
        # The last message may have run out since, and be none that is told: two heartbeats in a row say so, one does
        # when everything that was counted is here.
        while self._position < sequence and self._idle < (1 if self._position else 2):
            await self._next()

    async def _next(self) -> None:
        """Until something was told. Raises when the session has broken."""
        while not self._turn.is_set():
            left = self._heard_at + SILENT_S - self._watch._clock()
            if self._failure is not None:
                raise self._failure
            if not self._client.ready.is_set():
                raise Unavailable(f"the engine is not connected: {self._client.why}")
            if left <= 0:
                raise _Broken("the engine is silent")
            try:
                async with asyncio.timeout(min(left, HEARTBEAT_S / 2)):
                    await self._turn.wait()
            except TimeoutError:
                pass
        self._turn.clear()
        if self._failure is not None:
            raise self._failure

    async def _on_message(self, message: Msg) -> None:
        if self._over or self._failure is not None:
            return
        self._heard_at = self._watch._clock()
        headers = message.headers
        if headers and not message.data and headers.get("Status") == "100":
            await self._on_control(message, headers)
            return
        tokens = message.reply.split(".")
        at = 5 if len(tokens) == 9 else 7
        sequence, delivered = int(tokens[at]), int(tokens[at + 1])
        if delivered != self._delivered + 1:
            self._break(f"message {delivered} of the watch came after {self._delivered}")
            return
        self._delivered = delivered
        self._position = sequence
        self._idle = 0
        self._watch._revision = max(self._watch._revision, sequence)
        change = Change(message.subject[self._skip :], message.data, sequence)
        if headers:
            gone = gone_of(headers)
            if gone is not None:
                change = Change(change.key, None, sequence, gone)
        self._tell(self._watch._follower.changed, change)
        self._turn.set()

    async def _on_control(self, message: Msg, headers: dict[str, str]) -> None:
        if message.reply:
            await self._client.send(message.reply)
            return
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._client.send(stalled)
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != self._delivered:
            self._break(f"a heartbeat of the watch counts {last} messages where {self._delivered} came")
            return
        self._idle += 1
        self._tell(self._watch._follower.heard)
        self._turn.set()

    def _break(self, why: str) -> None:
        self._watch.gaps += 1
        self._failure = _Broken(why)
        self._turn.set()

    def _tell(self, tell: Callable[..., None], *what: object) -> None:
        try:
            tell(*what)
        except Exception as error:
            # A bug of ours: said once by the loop, and no reason to lose the changes that follow.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a change of the shared table could not be taken", "exception": error}
            )

    def _random_name(self) -> str:
        return f"{self._watch._random.getrandbits(64):016x}"


def gone_of(headers: dict[str, str]) -> Gone | None:
    """What a message without a value says: deleted, run out, or (None) nothing of the kind."""
    reason = headers.get("Nats-Marker-Reason")
    if reason is not None:
        return Gone.EXPIRED if reason == "MaxAge" else Gone.DELETED
    return Gone.DELETED if headers.get("KV-Operation") in ("DEL", "PURGE") else None
