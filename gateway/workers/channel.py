"""What the processes of one node say to each other: messages over a pair of Unix sockets, with descriptors beside them.

A message is a JSON object with its length before it. It may bring descriptors, and it may be a question: then its
answer comes back. The pair is made by one process and handed to another that it starts, so nobody else is at either
end, there is no address, and the end of one process is the end of the channel.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from gateway.errors import GatewayError, WorkerError

_LENGTH: Final = struct.Struct(">I")
_READ: Final = 256 * 1024
_MAX_DESCRIPTORS: Final = 16
#: Bytes that wait to be taken, above which what nobody has to have is left out, and who tells much waits.
MUCH: Final = 1024 * 1024

Message = dict[str, Any]
#: Answers a question; what it raises of `GatewayError` is told, of `LookupError` is "not there".
Answer = Callable[[Message], Awaitable[Any]]


class Channel:
    """One end. `heard(message, descriptors)` is called for what is no question; `ended()` once, when the other process
    has gone. Descriptors belong to whoever is called."""

    def __init__(
        self,
        end: socket.socket,
        heard: Callable[[Message, list[int]], None],
        answer: Answer,
        ended: Callable[[], None],
    ) -> None:
        end.setblocking(False)
        self._socket = end
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._answer = answer
        self._ended = ended
        self._read = bytearray()
        self._descriptors: deque[int] = deque()
        self._out: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._waiting = 0
        self._writing = False
        self._room = asyncio.Event()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._questions = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = True
        self._loop.add_reader(end.fileno(), self._readable)

    def close(self) -> None:
        """End it from this side; `ended` is not called."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._room.set()
        for descriptor in (*self._descriptors, *(each for _, mine in self._out for each in mine)):
            os.close(descriptor)
        for task in self._tasks:
            task.cancel()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(WorkerError("the process has gone"))
        self._asked.clear()

    # Telling

    @property
    def busy(self) -> bool:
        """Whether much waits to be taken."""
        return self._waiting > MUCH

    def send(self, what: str, descriptors: Sequence[int] = (), /, **content: Any) -> None:
        """Tell something. The descriptors are this channel's from now on, and closed when they are sent."""
        if descriptors:
            content["descriptors"] = len(descriptors)
        body = json.dumps({"is": what, **content}, separators=(",", ":")).encode()
        self._put(_LENGTH.pack(len(body)) + body, tuple(descriptors))

    async def room(self) -> None:
        """Wait until not much waits any more. Raises WorkerError."""
        await self._until(MUCH)

    async def empty(self) -> None:
        """Wait until everything is taken. Raises WorkerError."""
        await self._until(0)

    async def _until(self, most: int) -> None:
        while self._waiting > most and self.open:
            self._room.clear()
            await self._room.wait()
        if not self.open:
            raise WorkerError("the process has gone")

    async def ask(self, what: str, timeout_s: float, /, **content: Any) -> Any:
        """Ask something. Raises WorkerError."""
        if not self.open:
            raise WorkerError("the process has gone")
        self._questions += 1
        number = self._questions
        future = self._asked[number] = self._loop.create_future()
        self.send(what, question=number, **content)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise WorkerError(f"no answer within {timeout_s:g} s", reason="worker_silent") from None
        finally:
            self._asked.pop(number, None)

    def _put(self, data: bytes, descriptors: tuple[int, ...]) -> None:
        if not self.open:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        self._out.append((data, descriptors))
        self._waiting += len(data)
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                data, descriptors = self._out[0]
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                sent = self._socket.sendmsg([data], beside if descriptors else [])
                for descriptor in descriptors:
                    os.close(descriptor)
                self._waiting -= sent
                if sent == len(data):
                    self._out.popleft()
                else:
                    self._out[0] = (data[sent:], ())
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._socket.fileno(), self._flush)
            self._room.set()
            return
        except OSError:
            # The reader hears of the end, with whatever came before it.
            self._out.clear()
            self._waiting = 0
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())
        self._room.set()

    # Hearing

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors.extend(descriptors)
        if not data:
            self.close()
            self._ended()
            return
        self._read += data
        while self.open and len(self._read) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._read)[0]
            if len(self._read) < end:
                return
            message: Message = json.loads(self._read[_LENGTH.size : end])
            del self._read[:end]
            self._take(message)

    def _take(self, message: Message) -> None:
        if "answer" in message:
            future = self._asked.get(message["answer"])
            if future is not None and not future.done():
                if "error" in message:
                    future.set_exception(WorkerError(message["error"], reason=message["reason"], kind=message["kind"]))
                else:
                    future.set_result(message["result"])
        elif "question" in message:
            task = self._loop.create_task(self._reply(message), name="worker question")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            brought = [self._descriptors.popleft() for _ in range(message.get("descriptors", 0))]
            self._heard(message, brought)

    async def _reply(self, message: Message) -> None:
        number = message["question"]
        try:
            result = await self._answer(message)
        except GatewayError as error:
            self.send("answer", answer=number, error=error.text, reason=error.reason, kind=type(error).__name__)
        except LookupError as error:
            self.send("answer", answer=number, error=str(error), reason="not_found", kind="NotFound")
        else:
            self.send("answer", answer=number, result=result)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one channel, or of one link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
