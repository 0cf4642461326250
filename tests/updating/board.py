"""A device on CPython that updates itself as the protocol says, over the plain client, and a node with firmware."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from typing import Any

from gateway.client import ConnectionLost, RequestFailed, Service
from gateway.control.audit import Actor
from gateway.control.enrolments import Enrolled, NewEnrolment
from gateway.control.firmware import Firmware, NewFirmware
from gateway.control.plane import ControlPlane
from tests.local_node import LocalNode

OPERATOR = Actor("user", "alice")
BOARD = "esp32_thermostat"


def control_of(node: LocalNode) -> ControlPlane:
    assert node.node.control is not None
    return node.node.control


async def pieces(image: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for at in range(0, len(image), size):
        yield image[at : at + size]


async def firmware(control: ControlPlane, image: bytes, version: str = "1.1.0", **more: Any) -> Firmware:
    new = NewFirmware(more.pop("board", BOARD), version, **more)
    return (await control.firmware.add(new, pieces(image), by=OPERATOR))[0]


async def enrolled(control: ControlPlane, name: str = "dev-1", **more: Any) -> Enrolled:
    _, token = await control.enrolments.create(NewEnrolment(**more), by=OPERATOR)
    return await control.enrolments.redeem(token, device_id=name, ttl_s=3600, by=Actor("device", name))


class Board:
    """A device that has been enrolled. `flash` is what it has downloaded, `checked` how often it was told to ask."""

    def __init__(self, url: str, credential: Enrolled, version: str = "1.0.0", name: str = "dev-1") -> None:
        self.version = version
        self.flash = b""
        self.streams = 0
        self.checked = asyncio.Event()
        self._secret = urlsafe_b64decode((credential.secret or "") + "=")
        self.service = Service(url, credential.token, name=name, backoff=(0.01, 0.05))

        @self.service.fire_and_forget("firmware.check")
        async def check(data: bytes) -> None:
            self.checked.set()

    async def __aenter__(self) -> Board:
        await self.service.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.service.close()

    async def report(self, state: str = "idle", id: str = "", **more: Any) -> dict[str, Any] | None:
        """The update that it is told to take."""
        said = {"board": BOARD, "version": self.version, "state": state, **({"id": id} if id else {}), **more}
        answer = json.loads(await self.service.gateway.request("gateway.firmware.report", json.dumps(said)))
        assert answer["check_s"] > 0
        update: dict[str, Any] | None = answer["update"]
        return update

    def is_genuine(self, update: dict[str, Any]) -> bool:
        text = "\n".join(str(update[name]) for name in ("id", "board", "version", "size", "sha256"))
        mac = hmac.new(self._secret, f"gateway-firmware\n{text}".encode(), "sha256").hexdigest()
        return hmac.compare_digest(mac, update["mac"])

    async def download(self, update: dict[str, Any], *, n: int = 8, chunk: int = 1024) -> None:
        """Get all that is missing, over as many links as it takes. Raises RequestFailed when the node refuses."""
        while len(self.flash) < update["size"]:
            asked = {"id": update["id"], "offset": len(self.flash), "chunk": chunk}
            self.streams += 1
            try:
                async for piece in self.service.gateway.stream("gateway.firmware", json.dumps(asked), n=n):
                    assert len(piece) == min(chunk, update["size"] - len(self.flash))
                    self.flash += piece
            except ConnectionLost:
                continue
            except RequestFailed as failure:
                if failure.code != 0x101:
                    raise

    async def update(self, **more: Any) -> None:
        """From the offer to the confirmation."""
        update = await self.report()
        assert update is not None
        assert self.is_genuine(update)
        await self.download(update, **more)
        assert hashlib.sha256(self.flash).hexdigest() == update["sha256"]
        for state in ("verified", "trial", "confirmed"):
            if state == "trial":
                self.version = update["version"]
            await self.report(state, update["id"], offset=len(self.flash))
