"""What a device logged, through the admin API: as it says it, and what is no line of a log left out."""

from __future__ import annotations

import asyncio

from gateway.wire import frames
from tests.admin.api import Api, problem


async def test_lines(api: Api) -> None:
    """With the time of each, or how long the device had run where it has no clock."""
    await api.send("POST", "/devices", 201, json={"id": "lamp"})
    device = await api.local.client(subject="lamp", kind="device", serving=("lamp",))

    async def serve() -> None:
        request = await device.recv(30)
        assert isinstance(request, frames.RequestStream)
        for data in (b"3 12345 booted", b"4 1782907200250 on \xc3\xa9", b"no line", b"5 x y", b"\xff", b"6 7 "):
            device.send(frames.Payload(request.stream_id, None, data, next=True))
        device.send(frames.Payload(request.stream_id, None, b"", next=False, complete=True))

    serving = asyncio.create_task(serve())
    answer = await api.get("/devices/lamp/log")
    await serving
    assert (answer["outcome"], answer["error"]) == ("ok", None)
    assert answer["lines"] == [
        {"number": 3, "at": None, "up_ms": 12345, "text": "booted"},
        {"number": 4, "at": "2026-07-01T12:00:00.250000Z", "up_ms": None, "text": "on \u00e9"},
        {"number": 6, "at": None, "up_ms": 7, "text": ""},
    ]


async def test_a_device_that_is_not_there(api: Api) -> None:
    problem(await api.http.get("/api/v1/devices/nobody/log"), 404, "not-found")
    await api.send("POST", "/devices", 201, json={"id": "lamp"})
    answer = await api.get("/devices/lamp/log")
    assert (answer["outcome"], answer["lines"], answer["error"]["code"]) == ("error", [], "REJECTED")
