"""`gateway.config` and `gateway.config.applied`: what a device is to be configured with, and what it says of that.

* `gateway.config`, request/stream. Ask with nothing, or with `{"version"}`: what the device has. Each item is
  `{"version", "document"}`: what holds now unless the device has it, then each change. A device that gives no credit
  misses those between; it gets the newest.
* `gateway.config.applied`, request/response. Ask with `{"version", "ok", "reason"}`, where `ok` may be left out: it is
  true when there is no reason. The answer is `{}`. Version 0 is that of a device that has none.

The service lives here, between the planes, like `renewal`: it answers on the data plane's side and asks the control
plane's disk, perhaps in another process. A connection that never asks costs nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from gateway.control.device_configs import MAX_REASON
from gateway.control.plane import ControlPlane
from gateway.errors import NotFound, NotPermitted, Overloaded, RequestError, RequestInvalid, StorageError
from gateway.forwarding.exchange import Exchange
from gateway.forwarding.services import NodeServices
from gateway.wire.frames import FrameType

#: Devices that are looked up at once, and how long others have the disk then, in seconds.
LOOKED_UP = 256
PAUSE_S = 0.01
_MAX_VERSION = 2**53


@dataclass(frozen=True, slots=True)
class Said:
    """What a device says of a version: that it took it, or why not."""

    device: str
    version: int
    ok: bool
    reason: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


#: What each of these devices is to have: (version, document as JSON), (0, "") for nothing, None for who is not
#: registered. Raises RequestError.
Look = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[Any] | None]]]
#: Keeps what a device says. Raises RequestError.
Keep = Callable[[Said], Awaitable[None]]


class Configuring:
    """The service, as a process offers it. `look` and `keep` may be asked in another one."""

    def __init__(self, services: NodeServices, look: Look, keep: Keep) -> None:
        self._look = look
        self._keep = keep
        self._followers: dict[str, list[_Follower]] = {}
        #: Whose document is to be looked up. A map for its order.
        self._due: dict[str, None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._saying: dict[str, asyncio.Task[None]] = {}
        services.offer("config", FrameType.REQUEST_STREAM, self._follow)
        services.offer("config.applied", FrameType.REQUEST_RESPONSE, self._applied)

    async def stop(self) -> None:
        tasks = [*self._saying.values(), *([] if self._looking is None else [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self, devices: Iterable[str] | None) -> None:
        """What these devices are to have may be something else now; None: any device."""
        if not self._followers:
            return
        self._due |= dict.fromkeys(self._followers if devices is None else self._followers.keys() & set(devices))
        self._look_up()

    # The stream

    def _follow(self, exchange: Exchange) -> None:
        subject = _subject(exchange)
        follower = _Follower(exchange, _asked(exchange).get("version", 0))
        self._followers.setdefault(subject, []).append(follower)

        def end() -> None:
            mine = self._followers[subject]
            mine.remove(follower)
            if not mine:
                del self._followers[subject]

        exchange.on_end = end
        exchange.on_credit = follower.pump
        self._due[subject] = None
        self._look_up()

    def _look_up(self) -> None:
        if self._due and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._answer(), name="device configuration")

    async def _answer(self) -> None:
        try:
            while self._due:
                devices = list(islice(self._due, LOOKED_UP))
                for device in devices:
                    del self._due[device]
                await self._tell(devices)
                await asyncio.sleep(PAUSE_S)
        finally:
            self._looking = None

    async def _tell(self, devices: Sequence[str]) -> None:
        found: Mapping[str, Sequence[Any] | None] = {}
        refusal: RequestError = NotPermitted("only registered devices have a configuration", reason="config_nobody")
        try:
            found = await self._look(devices)
        except RequestError as error:
            refusal = error
        for device in devices:
            wanted = found.get(device)
            for follower in list(self._followers.get(device, ())):
                if wanted is None:
                    follower.exchange.caller.plane.counters.refuse(refusal.reason)
                    follower.exchange.fail(refusal)
                else:
                    follower.tell(*wanted)

    # What devices say

    def _applied(self, exchange: Exchange) -> None:
        subject = _subject(exchange)
        asked = _asked(exchange)
        version, reason = asked.get("version", 0), asked.get("reason") or ""
        ok = asked.get("ok", not reason)
        if not isinstance(ok, bool) or not isinstance(reason, str):
            raise RequestInvalid("gateway.config.applied takes version, ok and a reason", reason="config_request")
        if not version:
            # It has none yet, and knows now that it is heard.
            exchange.reply(b"{}")
            return
        if subject in self._saying:
            raise Overloaded("one report of a device at a time; try again", reason="config_reports")
        said = Said(subject, version, ok, reason[:MAX_REASON])
        task = asyncio.get_running_loop().create_task(self._say(exchange, said), name="device configuration report")
        self._saying[subject] = task
        task.add_done_callback(lambda _: self._saying.pop(subject))

    async def _say(self, exchange: Exchange, said: Said) -> None:
        try:
            await self._keep(said)
        except RequestError as error:
            if exchange.open:
                exchange.caller.plane.counters.refuse(error.reason)
                exchange.fail(error)
            return
        exchange.caller.plane.counters.configuration("applied" if said.ok else "rejected")
        exchange.reply(b"{}")


class _Follower:
    """One stream: which version it was told, and what waits for its credit."""

    __slots__ = ("_version", "_waiting", "exchange")

    def __init__(self, exchange: Exchange, version: int) -> None:
        self.exchange = exchange
        self._version = version
        self._waiting: tuple[int, str] | None = None

    def tell(self, version: int, document: str) -> None:
        self._waiting = (version, document) if version and version != self._version else None
        self.pump()

    def pump(self) -> None:
        if self._waiting is not None and self.exchange.credit > 0 and self.exchange.open:
            (self._version, document), self._waiting = self._waiting, None
            self.exchange.caller.plane.counters.configuration("sent")
            self.exchange.send(f'{{"version":{self._version},"document":{document}}}'.encode())


class Configurations:
    """What the control plane says to it. `tell(kind, subject, **data)` is told of events."""

    def __init__(self, control: ControlPlane, tell: Callable[..., None]) -> None:
        self._configs = control.device_configs
        self._event = tell

    async def look(self, devices: Sequence[str]) -> Mapping[str, Sequence[Any] | None]:
        """See `Look`."""
        try:
            return await self._configs.wanted(devices)
        except StorageError as error:
            raise Overloaded("the configuration cannot be read now; try again", reason=error.reason) from error

    async def keep(self, said: Said) -> None:
        """See `Keep`."""
        try:
            new = await self._configs.report(said.device, said.version, said.ok, said.reason)
        except NotFound as error:
            text = "only registered devices have a configuration"
            raise NotPermitted(text, reason="config_nobody") from error
        except StorageError as error:
            raise Overloaded("the report cannot be stored now; try again", reason=error.reason) from error
        if new:
            kind = "device_config.applied" if said.ok else "device_config.rejected"
            self._event(kind, said.device, version=said.version, **({} if said.ok else {"reason": said.reason}))


def _subject(exchange: Exchange) -> str:
    principal = exchange.caller.principal
    if principal.renewal_only:
        raise NotPermitted("the token has run out; renew it first", reason="config_lapsed")
    return principal.subject


def _asked(exchange: Exchange) -> dict[str, Any]:
    """A JSON object whose version, if it has one, is a number that a version can be. Raises RequestInvalid."""
    try:
        asked = json.loads(exchange.data or b"{}")
    except (ValueError, RecursionError):
        asked = None
    version = asked.get("version", 0) if isinstance(asked, dict) else None
    if type(version) is not int or not 0 <= version <= _MAX_VERSION:
        text = f"{exchange.route} takes a JSON object with a version"
        raise RequestInvalid(text, reason="config_request")
    assert isinstance(asked, dict)
    return asked
