"""What a node does for firmware, scripted: an update for one device, chunks by credit, and links cut on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import tarfile
from base64 import urlsafe_b64encode
from typing import Any

from gateway.wire import frames
from tests.device.peer import Ended, Link, Peer, route_of
from tests.local_node import until

KEY = bytes(range(32))
#: Of a slow link, for each chunk: 200 KB take 12 seconds.
SLOW_S = 0.06
SECRET = urlsafe_b64encode(KEY).rstrip(b"=").decode()


def tar(files: dict[str, bytes]) -> bytes:
    """An image for two slots. A name that ends in a slash is a directory."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def manifest(
    image: bytes, version: str, *, ident: str = "fw-2", board: str = "host", key: bytes = KEY
) -> dict[str, Any]:
    digest = hashlib.sha256(image).hexdigest()
    text = f"gateway-firmware\n{ident}\n{board}\n{version}\n{len(image)}\n{digest}"
    mac = hmac.digest(key, text.encode(), "sha256").hex()
    return {"id": ident, "board": board, "version": version, "size": len(image), "sha256": digest, "mac": mac}


class FirmwareNode:
    """The script and its Peer. A connection is reset after ``cut_after`` bytes of the image, or ``cut_s`` seconds; then
    the link is slow, too."""

    def __init__(
        self, image: bytes, update: dict[str, Any], cut_after: int | None = None, cut_s: float | None = None
    ) -> None:
        self.image = image
        self.update = update
        self.cut_after = cut_after
        self.reports: list[dict[str, Any]] = []
        self.cut_s = cut_s
        self.cuts = 0
        self.sent = 0
        self.peer = Peer(self.serve)

    async def heard(self, state: str) -> None:
        """Wait until the device reported this state."""
        await until(lambda: self.states()[-1:] == [state], 30)

    def states(self) -> list[str]:
        """The states reported, each once in a row."""
        states = [report["state"] for report in self.reports]
        return [state for i, state in enumerate(states) if i == 0 or states[i - 1] != state]

    async def serve(self, link: Link) -> None:
        await link.accept()
        if self.cut_s is not None:
            asyncio.get_running_loop().call_later(self.cut_s, self._cut, link)
        stream = None
        left = self.cut_after
        while True:
            try:
                frame = await link.recv()
            except Ended:
                return
            if isinstance(frame, frames.KeepAlive):
                link.answer_keepalive(frame)
            elif isinstance(frame, frames.RequestResponse) and route_of(frame) == "gateway.firmware.report":
                answer = json.dumps(self.answer(json.loads(frame.data))).encode()
                link.send(frames.Payload(frame.stream_id, None, answer, complete=True, next=True))
            elif isinstance(frame, frames.RequestStream) and route_of(frame) == "gateway.firmware":
                wanted = json.loads(frame.data)
                assert wanted["id"] == self.update["id"]
                assert wanted["offset"] < self.update["size"]
                stream = [frame.stream_id, wanted["offset"], frame.initial_n, wanted["chunk"]]
            elif isinstance(frame, frames.RequestN) and stream and frame.stream_id == stream[0]:
                stream[2] += frame.n
            while stream and stream[2] > 0:
                ident, offset, credit, size = stream
                chunk = self.image[offset : offset + size]
                if left is not None:
                    left -= len(chunk)
                    if left < 0:
                        self._cut(link)
                        return
                if self.cut_s is not None:
                    await asyncio.sleep(SLOW_S)
                self.sent += len(chunk)
                offset += len(chunk)
                end = offset >= len(self.image)
                link.send(frames.Payload(ident, None, chunk, complete=end, next=True))
                stream = None if end else [ident, offset, credit - 1, size]

    def _cut(self, link: Link) -> None:
        if not link.writer.is_closing():
            self.cuts += 1
            link.reset()

    def answer(self, report: dict[str, Any]) -> dict[str, Any]:
        self.reports.append(report)
        over = report.get("id") == self.update["id"] and report["state"] not in ("downloading", "verified")
        return {"update": None if over else self.update, "check_s": 3600}
