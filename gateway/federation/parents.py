"""An edge's parents: one in use, a second one warm, the rest known by their addresses.

Failing over is a change of the table: the warm parent is connected, has heard this node's routes, and is told that they
count from now on. The choice goes by latency and is sticky: a parent in use stays so until it goes, or asks to be left.
A parent that cannot be had is tried again after a time drawn from all of an interval that doubles (full jitter), so
that the edges of a central that is back do not all come at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from gateway.errors import FederationError
from gateway.federation.dialling import LinkDialler
from gateway.federation.federation import Federation
from gateway.federation.link import Link
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.links import UPLINK
from gateway.observe.loggers import structlog

#: Links that are kept where there are as many parents: one in use, one warm.
LINKS: Final = 2
#: How long a parent is left alone that has sent this node away, in seconds, as long as there is another.
LEFT_S: Final = 30.0

_log = structlog.get_logger("gateway.federation")


class Parent:
    """`link`: to it, while there is one. `retry_at`: when it may be tried again, by the loop's clock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.link: Link | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.failures = 0
        self.retry_at = 0.0
        self.rtt_s = float("inf")
        self.error = ""


class Parents:
    """Keeps the uplink of one node up."""

    def __init__(self, federation: Federation, dialler: LinkDialler, urls: Sequence[str]) -> None:
        self._federation = federation
        self._dialler = dialler
        self._loop = federation.loop
        self._random = federation.plane.random
        self.parents = {url: Parent(url) for url in urls}
        federation.parents = bool(urls)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._keep(), name="uplink")

    async def stop(self) -> None:
        tasks = [parent.dialling for parent in self.parents.values() if parent.dialling is not None]
        for task in (self._task, *tasks):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def set(self, urls: Sequence[str]) -> None:
        """There are other parents from now on. One that is none any more is left."""
        for url in [url for url in self.parents if url not in urls]:
            parent = self.parents.pop(url)
            if parent.dialling is not None:
                parent.dialling.cancel()
            if parent.link is not None:
                parent.link.connection.close(CloseReason.DRAINED, "it is no parent any more")
        for url in urls:
            self.parents.setdefault(url, Parent(url))
        self._federation.parents = bool(urls)
        self._changed.set()

    def lost(self, link: Link, text: str) -> None:
        """A link is gone, or its parent wants to be left."""
        for parent in self.parents.values():
            if parent.link is link:
                parent.link = None
                parent.error = text
                pause = 0.0 if link.connection.closed else LEFT_S
                parent.retry_at = self._loop.time() + pause + self._jitter(0)
                if not link.connection.closed and not link.connection.draining:
                    link.connection.drain()
        if self._federation.uplink is link:
            self._choose()
        if not self._live():
            # The pauses were for as long as there was another: who could not be had, or was stopped, may be back.
            for parent in self.parents.values():
                parent.retry_at = min(parent.retry_at, self._loop.time() + self._jitter(0))
        self._changed.set()

    def move(self) -> bool:
        """Go to the warm parent. Returns whether there is one."""
        before = self._federation.uplink
        others = [link for link in self._live() if link is not before]
        if not others:
            return False
        self._federation.use(min(others, key=lambda link: link.rtt_s))
        return True

    def _live(self) -> list[Link]:
        return [parent.link for parent in self.parents.values() if parent.link is not None and parent.link.usable]

    def _choose(self) -> None:
        uplink = self._federation.uplink
        live = self._live()
        if uplink in live:
            return
        chosen = min(live, key=lambda link: link.rtt_s, default=None)
        self._federation.use(chosen)
        if chosen is not None:
            _log.info("uplink in use", node=chosen.name, url=chosen.url, rtt_ms=round(chosen.rtt_s * 1000, 1))
        elif uplink is not None:
            _log.warning("no uplink: what is local goes on", parents=len(self.parents))

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            pause = self._dial_what_lacks()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def _dial_what_lacks(self) -> float | None:
        """Begin to dial as many parents as are missing. Returns when to look again, in seconds; None: when told."""
        now = self._loop.time()
        parents = self.parents.values()
        missing = min(LINKS, len(self.parents)) - len(self._live())
        missing -= sum(parent.dialling is not None for parent in parents)
        idle = [parent for parent in parents if parent.link is None and parent.dialling is None]
        due = [parent for parent in idle if parent.retry_at <= now]
        due.sort(key=lambda parent: (parent.failures, parent.rtt_s, self._random.random()))
        for parent in due[: max(missing, 0)]:
            parent.dialling = self._loop.create_task(self._dial(parent), name=f"dial {parent.url}")
        waiting = [parent.retry_at - now for parent in idle if parent.dialling is None]
        return max(min(waiting), 0.01) if waiting and missing > 0 else None

    async def _dial(self, parent: Parent) -> None:
        try:
            link = await self._dialler.connect(parent.url, UPLINK)
            twin = any(other.node == link.node for other in self._live())
            if twin:
                # Two addresses of one node are no two parents.
                link.connection.close(CloseReason.DRAINED, "it is linked already")
                parent.retry_at = self._loop.time() + LEFT_S
                return
            parent.link = link
            parent.failures = 0
            parent.error = ""
            parent.rtt_s = link.rtt_s
            self._choose()
        except FederationError as error:
            if parent.error != error.text:
                _log.warning("a parent cannot be had", why=error.text)
            parent.error = error.text
            parent.failures += 1
            parent.retry_at = self._loop.time() + self._jitter(parent.failures)
        finally:
            parent.dialling = None
            self._changed.set()

    def _jitter(self, failures: int) -> float:
        base, cap = self._federation.options.backoff_s
        return self._random.uniform(0, min(cap, base * 2.0 ** min(failures, 16)))
