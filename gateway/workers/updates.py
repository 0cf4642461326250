"""The firmware of devices that are connected to a worker: it reads images itself, and asks the first process whose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from gateway.control.rollout_reports import Wanted
from gateway.updating.desk import UpdateDesk
from gateway.updating.downloads import Asker
from gateway.workers.channel import Channel, Message

_WHY_NOT = "there can be no firmware now"


class DistantDesk:
    """The first process' desk, as a worker has it (`updating.downloads.Desk`). `ask` raises RequestError."""

    def __init__(self, channel: Channel, ask: Callable[..., Awaitable[Any]]) -> None:
        self._channel = channel
        self._ask = ask

    async def report(self, asker: Asker, document: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask("firmware_report", _WHY_NOT, asker=asker.document(), document=document)
        assert isinstance(answer, dict)
        return answer

    async def download(self, asker: Asker, firmware_id: str, offset: int) -> Wanted:
        answer = await self._ask(
            "firmware_download", _WHY_NOT, asker=asker.document(), firmware=firmware_id, offset=offset
        )
        return Wanted(**answer)

    def received(self, asker: Asker, rollout_id: str, count: int) -> None:
        self._channel.send("firmware_received", asker=asker.document(), rollout=rollout_id, count=count)

    def damaged(self, sha256: str) -> None:
        self._channel.send("firmware_damaged", sha256=sha256)


async def answered(desk: UpdateDesk, message: Message) -> dict[str, Any]:
    """What the first process answers to a question of a worker. Raises RequestError."""
    asker = Asker(**message["asker"])
    if message["is"] == "firmware_report":
        return await desk.report(asker, message["document"])
    return asdict(await desk.download(asker, message["firmware"], message["offset"]))


def heard(desk: UpdateDesk, message: Message) -> None:
    """What a worker tells the first process."""
    if message["is"] == "firmware_received":
        desk.received(Asker(**message["asker"]), message["rollout"], message["count"])
    else:
        desk.damaged(message["sha256"])
