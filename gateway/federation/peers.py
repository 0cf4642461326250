"""The mesh of central nodes: each pair has one link, which the node with the lower id dials."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from gateway.errors import FederationError
from gateway.federation.dialling import LinkDialler
from gateway.federation.federation import Federation
from gateway.federation.link import Link
from gateway.forwarding.links import PEER
from gateway.observe.loggers import structlog

#: The longest pause before a central is dialled again, in seconds: one that has come back is to be in use before the
#: next one may go.
PAUSE_S: Final = 1.0

_log = structlog.get_logger("gateway.federation")


class Peers:
    """Dials the peers that are this node's to dial. `addresses`: by node id (16 bytes)."""

    def __init__(self, federation: Federation, dialler: LinkDialler) -> None:
        self._federation = federation
        self._dialler = dialler
        self._addresses: dict[bytes, str] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._lost: dict[bytes, asyncio.Event] = {}

    def set(self, addresses: Mapping[bytes, str]) -> None:
        """These are the other centrals now."""
        own = self._federation.plane.node_id
        wanted = {node: url for node, url in addresses.items() if own < node and url}
        for node in [node for node in self._tasks if wanted.get(node) != self._addresses.get(node)]:
            self._tasks.pop(node).cancel()
        self._addresses = wanted
        for node, url in wanted.items():
            if node not in self._tasks:
                self._lost[node] = asyncio.Event()
                self._tasks[node] = self._federation.loop.create_task(self._keep(node, url), name=f"peer {url}")

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    def lost(self, link: Link) -> None:
        event = self._lost.get(link.node)
        if event is not None:
            event.set()

    async def _keep(self, node: bytes, url: str) -> None:
        failures, said = 0, ""
        base, most = self._federation.options.backoff_s
        cap = min(most, PAUSE_S)
        lost = self._lost[node]
        while True:
            lost.clear()
            try:
                link = await self._dialler.connect(url, PEER)
                failures, said = 0, ""
                _log.info("link up", node=link.name, kind="peer", rtt_ms=round(link.rtt_s * 1000, 1))
                if link.usable:
                    await lost.wait()
            except FederationError as error:
                failures += 1
                if error.text != said:
                    said = error.text
                    _log.warning("a peer cannot be had", why=said)
            await asyncio.sleep(self._federation.plane.random.uniform(0, min(cap, base * 2.0 ** min(failures, 16))))
