"""One RSocket connection: rsocket-py's client, with the parts replaced that do not hold.

From rsocket-py: stream ids, the receive loop, requesters and responders, SETUP, keepalive sending. Replaced, because of
what rsocket 0.4.20 does: its unbounded send queue and sender task (frames go straight to ``BoundedTransport``), its
fragments and its frame log (``translation``), a liveness check that looks at KEEPALIVE only and every other lifetime,
its channel ends (P33: an ERROR ends both sides, a CANCEL by the requester too), a close that awaits itself.

Must not know: routes, reconnecting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from rsocket import frame as py
from rsocket.error_codes import ErrorCode as PyErrorCode
from rsocket.exceptions import RSocketProtocolError
from rsocket.handlers.request_cahnnel_common import RequestChannelCommon, StreamSubscriber
from rsocket.handlers.request_cahnnel_responder import RequestChannelResponder
from rsocket.handlers.request_channel_requester import RequestChannelRequester
from rsocket.handlers.request_response_requester import RequestResponseRequester
from rsocket.helpers import payload_from_frame, single_transport_provider
from rsocket.payload import Payload
from rsocket.request_handler import RequestHandler
from rsocket.rsocket_client import RSocketClient

from gateway.client.streams import Inbox, Source
from gateway.client.transport import BoundedTransport
from gateway.wire.frames import ErrorCode

SETUP_REFUSALS = frozenset((0x001, 0x002, 0x003, 0x004))
DRAIN_SECONDS = 30.0


class _Call(RequestResponseRequester):
    """Takes an answer that comes after the caller gave up for what it is: nothing."""

    def frame_received(self, frame: py.Frame) -> None:
        if self._future.done():
            self._finish_stream()
        else:
            super().frame_received(frame)


class _ChannelItems(StreamSubscriber):
    """Sends our items; our ERROR ends the peer's direction too."""

    def on_error(self, exception: Exception) -> None:
        super().on_error(exception)
        self._requester.remote_subscriber.on_error(exception)
        self._requester.mark_completed_and_finish(received=True)


class _Channel(RequestChannelCommon):
    def setup(self) -> None:
        self.subscriber = _ChannelItems(self.stream_id, self.socket, self)
        if self._publisher is not None:
            self._publisher.subscribe(self.subscriber)

    def stop_sending(self) -> None:
        if self._publisher is not None:
            self._publisher.cancel()
        self.mark_completed_and_finish(sent=True)

    def frame_received(self, frame: py.Frame) -> None:
        if isinstance(frame, py.CancelFrame):
            self.stop_sending()
        elif isinstance(frame, py.RequestNFrame) and self._publisher is None:
            pass
        else:
            super().frame_received(frame)
            if isinstance(frame, py.ErrorFrame):
                self.stop_sending()

    def dispose(self) -> None:
        self.stop_sending()


class _ChannelCall(_Channel, RequestChannelRequester):
    def cancel(self) -> None:
        """CANCEL by the requester ends both directions (P33)."""
        self.send_cancel()
        self.stop_sending()
        self.mark_completed_and_finish(received=True)


class _ChannelAnswer(_Channel, RequestChannelResponder):
    def frame_received(self, frame: py.Frame) -> None:
        super().frame_received(frame)
        if isinstance(frame, py.CancelFrame):
            self.remote_subscriber.on_complete()
            self.mark_completed_and_finish(received=True)

    def dispose(self) -> None:
        super().dispose()
        self.remote_subscriber.on_error(RSocketProtocolError(PyErrorCode.CONNECTION_ERROR, data="the connection ended"))


class Connection(RSocketClient):
    """An open connection. ``ended`` is set when it is over, with ``reason``; ``close`` must be called all the same."""

    def __init__(
        self,
        transport: BoundedTransport,
        handler: RequestHandler,
        setup: Payload,
        *,
        metadata_mime: str,
        data_mime: str,
        keepalive: float,
        lifetime: float,
    ) -> None:
        super().__init__(
            single_transport_provider(transport),
            handler_factory=lambda: handler,
            setup_payload=setup,
            metadata_encoding=metadata_mime.encode(),
            data_encoding=data_mime.encode(),
            keep_alive_period=timedelta(seconds=keepalive),
            max_lifetime_period=timedelta(seconds=lifetime),
        )
        self.transport = transport
        self._lifetime = lifetime
        self._tasks: set[asyncio.Task[Any]] = set()
        self._drain_listeners: list[Callable[[], None]] = []
        self.said: tuple[int, str] | None = None
        self.draining = False
        self._stream_ended = asyncio.Event()

    @property
    def ended(self) -> asyncio.Event:
        return self.transport.ended

    @property
    def reason(self) -> str:
        """Why it ended: the node's ERROR on stream 0 if there was one, else what the socket saw."""
        return self.said[1] if self.said is not None and self.said[1] else self.transport.reason

    @property
    def usable(self) -> bool:
        """Whether a new request may be sent."""
        return not self.draining and not self.ended.is_set()

    def on_drain(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when the node announces CONNECTION_CLOSE: streams may finish, requests go elsewhere."""
        self._drain_listeners.append(listener)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that is cancelled, and waited for, when the connection closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def writable(self) -> None:
        """Wait until the socket has room; returns at once when the connection has ended."""
        await self.transport.writable()

    def request_response(self, payload: Payload) -> asyncio.Future[Payload]:
        requester = _Call(self, payload)
        self.register_new_stream(requester).setup()
        answer: asyncio.Future[Payload] = requester.run()
        return answer

    def open_stream(self, payload: Payload, window: int) -> Inbox:
        """Send REQUEST_STREAM with a credit of `window` items."""
        inbox = Inbox(window, window)
        self.request_stream(payload).initial_request_n(window).subscribe(inbox)
        return inbox

    def open_channel(self, payload: Payload, source: Source | None, window: int) -> Inbox:
        """Send REQUEST_CHANNEL, whose payload is the first item; complete when there is no `source`."""
        inbox = Inbox(window, window)
        channel = _ChannelCall(self, payload, source)
        self.register_new_stream(channel)
        channel.initial_request_n(window).subscribe(inbox)
        return inbox

    async def close(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().close()
        self.transport.end("closed")

    # What rsocket-py's base class calls

    def send_frame(self, frame: py.Frame) -> None:
        self.transport.send(frame)
        if frame.sent_future is not None and not frame.sent_future.done():
            frame.sent_future.set_result(None)

    def finish_stream(self, stream_id: int) -> None:
        super().finish_stream(stream_id)
        self._stream_ended.set()

    def send_priority_frame(self, frame: py.Frame) -> None:
        self.send_frame(frame)

    def _start_tasks(self) -> None:
        self._receiver_task = self._start_task_if_not_closing(self._receiver)
        self._before_sender()

    async def _handle_next_frame(self, frame: py.Frame, handlers: Any) -> None:
        if frame.stream_id == 0 or isinstance(frame, py.initiate_request_frame_types):
            await self._handle_frame_by_type(frame, handlers)
        else:
            # P22: a frame for a stream that is over is nothing to speak of.
            self._stream_control.handle_stream(frame)

    async def _handle_frame_by_type(self, frame: py.Frame, handlers: Any) -> None:
        try:
            await super()._handle_frame_by_type(frame, handlers)
        except RSocketProtocolError as refusal:
            # A refused request is the caller's to know, and no error of this side for rsocket-py to log.
            self.send_error(frame.stream_id, refusal)

    async def handle_request_channel(self, frame: py.RequestChannelFrame) -> None:
        stream_id = frame.stream_id
        self._stream_control.assert_stream_id_available(stream_id)
        publisher, subscriber = await self._handler.request_channel(payload_from_frame(frame))
        channel = _ChannelAnswer(self, publisher)
        self._register_stream(stream_id, channel)
        channel.subscribe(subscriber)
        channel.frame_received(frame)

    async def handle_error(self, frame: py.ErrorFrame) -> None:
        code, text = int(frame.error_code), frame.data.decode("utf-8", "replace")
        if self.said is None:
            self.said = (code, text)
        if code == ErrorCode.CONNECTION_CLOSE:
            if not self.draining:
                self.draining = True
                self.spawn(self._drain(text))
                for listener in self._drain_listeners:
                    listener()
        else:
            self.transport.abort(text or f"the node ended the connection (0x{code:03x})")

    async def _keepalive_timeout_task(self) -> None:
        while True:
            silent = time.monotonic() - self.transport.last_received
            if silent >= self._lifetime:
                self.transport.abort(f"the node was silent for {silent:.1f} s")
                return
            await asyncio.sleep(self._lifetime - silent)

    async def _drain(self, text: str) -> None:
        """After CONNECTION_CLOSE streams may finish; then the connection has no more use."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._stream_control._streams:
                    self._stream_ended.clear()
                    await self._stream_ended.wait()
        except TimeoutError:
            pass
        self.transport.abort(text or "the node is closing")

    async def _on_connection_closed(self) -> None:
        self.stop_all_streams(PyErrorCode.CONNECTION_ERROR, self.reason.encode())
        await self._handler.on_close(self)
