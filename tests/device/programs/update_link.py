"""A device's link to a node with one update, without a network: for programs that cut the power."""

import asyncio
import json
from binascii import hexlify
from hashlib import sha256

from device_sdk.mac import mac

SECRET = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


class Node:
    """It is lost after every fifth chunk."""

    def __init__(self, new):
        self.up = asyncio.Event()
        self.up.set()
        self.wait_up = self.up.wait
        self.image = new
        self.over = None
        self.last = None
        digest = hexlify(sha256(new).digest()).decode()
        self.update = {"id": "2", "version": "b", "size": len(new), "sha256": digest, "board": "pc"}
        text = "gateway-firmware\n2\npc\nb\n%d\n%s" % (len(new), digest)
        self.update["mac"] = hexlify(mac(SECRET, text.encode())).decode()

    def on(self, route):
        return lambda handler: handler

    async def request_response(self, route, data):
        report = json.loads(data)
        over = report["state"] in ("confirmed", "failed", "rolled_back")
        if over:
            self.last = report
            self.over.set()
        return json.dumps({"update": None if over else dict(self.update), "check_s": 60}), None

    def request_stream(self, route, data, meta, n, timeout_ms):
        asked = json.loads(data)
        return Chunks(self, asked["offset"], asked["chunk"])


class Chunks:
    def __init__(self, node, at, size):
        self.node, self.at, self.size = node, at, size
        self.left = 5

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if self.at >= len(self.node.image):
            raise StopAsyncIteration
        if not self.left:
            self.node.up.clear()
            raise OSError(104)
        self.left -= 1
        data = self.node.image[self.at : self.at + self.size]
        self.at += self.size
        return data, None
