"""What the flow log is told of messages that wait: taken, delivered, lost. Called only while the node has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.errors import FrameError, GatewayError, StorageError
from gateway.forwarding.intake import Kept
from gateway.observe.flow_fields import EXPIRED, FORWARDED, QUEUED
from gateway.observe.flows import FlowRing
from gateway.spool.message import MessageId, Waiting
from gateway.spooling.envelope import unseal
from gateway.wire.metadata import decode_routing, iter_composite
from gateway.wire.mimetypes import ROUTING

if TYPE_CHECKING:
    from gateway.policy.principal import Principal

#: Records of one loss; the rest of a large one is in the counters.
MOST_LOST = 64


def queued(
    ring: FlowRing,
    now: float,
    spool: str,
    requests: Sequence[Kept],
    verdicts: Sequence[MessageId | GatewayError | None],
) -> None:
    """Requests are on disk; those that were not taken have been refused already."""
    target = spool.partition("/")[2]
    for request, verdict in zip(requests, verdicts, strict=True):
        if isinstance(verdict, GatewayError):
            continue
        _put(
            ring, QUEUED, now, now - request.stream.opened_at, request.interaction, request.principal, target,
            request.metadata, len(request.data), spool, "" if verdict is None else str(verdict), "",
        )  # fmt: skip


def delivered(ring: FlowRing, now: float, spool: str, messages: Iterable[Waiting]) -> None:
    """They have arrived where they were to go. Latency is how long they waited."""
    target = spool.partition("/")[2]
    for message in messages:
        with suppress(StorageError):
            envelope = unseal(message.payload)
            _put(
                ring, FORWARDED, now, message.age_s, envelope.interaction, envelope.principal, target,
                envelope.metadata, len(envelope.data), spool, str(message.id), "spool",
            )  # fmt: skip


def lost(ring: FlowRing, now: float, spool: str, reason: str, count: int) -> None:
    """So many will never be delivered; which ones is not known any more."""
    for _ in range(min(count, MOST_LOST)):
        _put(ring, EXPIRED, now, -1.0, 5, None, spool.partition("/")[2], b"", 0, spool, "", reason)


def _put(
    ring: FlowRing,
    verdict: int,
    now: float,
    latency_s: float,
    interaction: int,
    principal: Principal | None,
    target: str,
    metadata: bytes,
    size: int,
    spool: str,
    number: str,
    reason: str,
) -> None:
    ring.put(
        verdict, now, latency_s, interaction, 0, False, False, False, size, -1, 1, principal, target, None, None, None,
        _route(metadata), reason, None, None, None, (spool, number),
    )  # fmt: skip


@lru_cache(1024)
def _route(metadata: bytes) -> str:
    with suppress(FrameError):
        for entry in iter_composite(metadata, 0, len(metadata)):
            if entry.mime == ROUTING:
                tags = decode_routing(metadata[entry.content_start : entry.end])
                return tags[0] if tags else ""
    return ""
