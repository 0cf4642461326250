"""`gateway.firmware.report` and `gateway.firmware`: how a device learns of its update, and gets it.

`report` is a request/response, JSON both ways: the device says its board, its version and how far an update is; the
answer is `{"update": null | {"id", "board", "version", "size", "sha256", "mac"}, "check_s"}`. `gateway.firmware` is a
stream of the image: `{"id", "offset", "chunk"}` asks for the bytes from `offset` on, in pieces of `chunk`. The device's
credit sets the pace, and a broken link costs it nothing that it has.

The disk is read in one thread beside the loop, never more than AHEAD_BYTES for a device, and nothing is read before
what was read has left: a device that takes nothing holds that much, whatever credit it gave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from gateway.control.rollout_reports import Wanted
from gateway.errors import NotPermitted, Overloaded, RequestError, RequestInvalid, StorageError
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.observe.updates import UpdateCounters
from gateway.policy.principal import Kind
from gateway.replying import Replies
from gateway.storage.images import Image, Images
from gateway.wire.frames import FrameType

T = TypeVar("T")

#: What is read, and waits to leave, of one download.
AHEAD_BYTES: Final = 16 * 1024
MIN_CHUNK: Final = 256
MAX_CHUNK: Final = 4096
DEFAULT_CHUNK: Final = 1024
#: Downloads of one process at a time; others are REJECTED and try later.
MAX_OPEN: Final = 512
#: When it is looked whether a device has taken what it was sent: the first time and the longest pause, in seconds.
_LOOK_S: Final = (0.02, 0.32)


@dataclass(frozen=True, slots=True)
class Asker:
    """A device, and where it came from."""

    subject: str
    peer: str

    def document(self) -> dict[str, str]:
        return asdict(self)


class Desk(Protocol):
    """Who knows of rollouts; it may be another process. The questions raise RequestError."""

    async def report(self, asker: Asker, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to a report."""
        ...

    async def download(self, asker: Asker, firmware_id: str, offset: int) -> Wanted: ...

    def received(self, asker: Asker, rollout_id: str, count: int) -> None:
        """It was sent so many bytes from the beginning."""

    def damaged(self, sha256: str) -> None:
        """An image seems not to be what it was."""


class Downloads:
    """The two services, as a process offers them. `directory` has the images."""

    def __init__(self, services: NodeServices, desk: Desk, directory: Path, counters: UpdateCounters) -> None:
        self._desk = desk
        self._images = Images(directory)
        self._counters = counters
        # One: so what is done to one image is done in order, and the disk serves those who wait in turn.
        self._disk = ThreadPoolExecutor(1, "firmware")
        self._replies = Replies("firmware report")
        self._tasks: set[asyncio.Task[None]] = set()
        #: Downloads by device, each with its rollout as soon as that is known.
        self._open: dict[str, tuple[Exchange, list[str]]] = {}
        services.offer("firmware", FrameType.REQUEST_STREAM, self._download)
        services.offer("firmware.report", FrameType.REQUEST_RESPONSE, self._report)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._replies.stop()
        self._disk.shutdown(wait=False)

    def cut(self, rollout_id: str) -> None:
        """Break off what is under way of a rollout: it is paused or aborted."""
        for exchange, (*rollouts,) in list(self._open.values()):
            if rollout_id in rollouts:
                self._refuse(exchange, NotPermitted("this update is stopped; report", reason="firmware_not_offered"))

    def _report(self, exchange: Exchange) -> None:
        asker, document = _asker(exchange), _document(exchange.data)
        self._replies.begin(exchange, self._answer(asker, document))

    def _download(self, exchange: Exchange) -> None:
        asker, document = _asker(exchange), _document(exchange.data)
        firmware_id = document.get("id")
        offset, chunk = document.get("offset", 0), document.get("chunk", DEFAULT_CHUNK)
        if not isinstance(firmware_id, str) or not firmware_id:
            raise RequestInvalid("gateway.firmware takes the id of an update", reason="firmware_request")
        if not _is_count(offset, 0, 2**53) or not _is_count(chunk, MIN_CHUNK, MAX_CHUNK):
            text = f"offset is a number of bytes, chunk one from {MIN_CHUNK} to {MAX_CHUNK}"
            raise RequestInvalid(text, reason="firmware_request")
        earlier = self._open.get(asker.subject)
        if earlier is not None:
            # The link of that one may be gone without anybody having heard of it.
            self._refuse(earlier[0], NotPermitted("this device asks anew", reason="firmware_asked_again"))
        elif len(self._open) >= MAX_OPEN:
            raise Overloaded(f"{MAX_OPEN} downloads are under way; try later", reason="firmware_busy")
        self._open[asker.subject] = (exchange, [])
        self._counters.open = len(self._open)
        self._begin(self._send(exchange, asker, firmware_id, offset, chunk))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="firmware")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asker: Asker, document: dict[str, Any]) -> dict[str, Any]:
        answer = await self._desk.report(asker, document)
        self._counters.reports[str(document.get("state") or "idle")] += 1
        return answer

    async def _send(self, exchange: Exchange, asker: Asker, firmware_id: str, offset: int, chunk: int) -> None:
        outcome = "canceled"
        try:
            wanted = await self._desk.download(asker, firmware_id, offset)
            if not exchange.open:
                raise _Gone
            self._open[asker.subject][1].append(wanted.rollout_id)
            await self._stream(exchange, asker, wanted, offset, chunk)
            outcome = "complete"
        except RequestError as error:
            outcome = "refused"
            self._refuse(exchange, error)
        except _Gone:
            pass
        finally:
            if self._open.get(asker.subject, (None,))[0] is exchange:
                del self._open[asker.subject]
            self._counters.open = len(self._open)
            self._counters.downloads[outcome] += 1

    async def _stream(self, exchange: Exchange, asker: Asker, wanted: Wanted, offset: int, chunk: int) -> None:
        try:
            image = await self._beside(lambda: self._images.open(wanted.sha256, wanted.size))
        except StorageError as error:
            raise self._no_image(wanted, error) from error
        pace = _Pace(exchange)
        began = offset
        try:
            while offset < wanted.size:
                credit = await pace.room()
                data = await self._read(image, wanted, offset, min(credit, AHEAD_BYTES // chunk) * chunk)
                for at in range(0, len(data), chunk):
                    if not exchange.open:
                        raise _Gone
                    piece = data[at : at + chunk]
                    exchange.send(piece)
                    offset += len(piece)
                    self._counters.bytes += len(piece)
            if not exchange.open:
                raise _Gone
            exchange.complete()
        finally:
            # Behind whatever is still being read of it.
            self._disk.submit(image.close)
            if offset > began:
                self._desk.received(asker, wanted.rollout_id, offset)

    async def _read(self, image: Image, wanted: Wanted, offset: int, count: int) -> bytes:
        try:
            return await self._beside(lambda: image.read(offset, count))
        except StorageError as error:
            raise self._no_image(wanted, error) from error

    def _no_image(self, wanted: Wanted, error: StorageError) -> RequestError:
        self._desk.damaged(wanted.sha256)
        return NotPermitted("the image is damaged; an operator has to upload it again", reason=error.reason)

    async def _beside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    @staticmethod
    def _refuse(exchange: Exchange, error: RequestError) -> None:
        if exchange.open:
            exchange.caller.plane.counters.refuse(error.reason)
            exchange.fail(error)


class _Gone(Exception):
    """Nobody waits for the image any more."""


class _Pace:
    """When the next piece may go: there is credit, and what was sent before has left."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._news = asyncio.Event()
        exchange.on_credit = exchange.on_end = self._news.set

    async def room(self) -> int:
        """The credit, which is not 0. Raises _Gone."""
        exchange = self._exchange
        pause, longest = _LOOK_S
        while exchange.open:
            outbox = exchange.caller.outbox
            # Congested, too, where it keeps what was sent for a session that can be resumed.
            if outbox.size > AHEAD_BYTES or outbox.congested:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            elif exchange.credit > 0:
                return exchange.credit
            else:
                self._news.clear()
                await self._news.wait()
        raise _Gone


def _asker(exchange: Exchange) -> Asker:
    """Raises NotPermitted."""
    caller = exchange.caller
    principal = caller.principal
    if principal.kind is not Kind.DEVICE or principal.issuer != caller.plane.snapshot.access.own_issuer:
        raise NotPermitted("only devices of this node have updates here", reason="firmware_no_device")
    if principal.renewal_only:
        raise NotPermitted("renew the token first", reason="firmware_token")
    return Asker(principal.subject, caller.peer)


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RequestInvalid("gateway.firmware takes a JSON object", reason="firmware_request")
    return document


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
