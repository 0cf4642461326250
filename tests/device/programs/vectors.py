"""The golden vectors, as far as a device writes and reads them. Arguments: the directory, and each file's name."""

import asyncio
import json
import sys
from binascii import hexlify, unhexlify

from program import run, say

import device_sdk
from device_sdk import stream as codec
from device_sdk.connection import Connection

KINDS = {
    "REQUEST_RESPONSE": 4,
    "REQUEST_FNF": 5,
    "REQUEST_STREAM": 6,
    "REQUEST_CHANNEL": 7,
    "REQUEST_N": 8,
    "CANCEL": 9,
    "PAYLOAD": 10,
    "ERROR": 11,
    "KEEPALIVE": 3,
}


def load(name):
    """One vector at a time: a board has no room for all of them."""
    with open(sys.argv[1] + "/" + name) as f:
        for line in f:
            line = line.strip().rstrip(",")
            if line.startswith("{"):
                yield json.loads(line)


def un(text):
    return None if text is None else unhexlify(text)


def encode(v):
    kind = KINDS[v["type"]]
    flags = 0x80 * bool(v.get("follows")) | 0x40 * bool(v.get("complete")) | 0x20 * bool(v.get("next"))
    if kind == 3:
        flags = 0x80 * v["respond"]
        data = v["position"].to_bytes(8, "big") + un(v["data"])
        return codec.frame(kind, 0, flags, data)
    if kind == 11:
        return codec.frame(kind, v["stream_id"], 0, v["code"].to_bytes(4, "big") + v["text"].encode())
    n = v.get("n") or v.get("initial_n") or 0
    return codec.frame(kind, v["stream_id"], flags, un(v.get("data")) or b"", un(v.get("metadata")), n)


class Ear:
    """The reading half of a device, which keeps what it understood."""

    def __init__(self):
        self.asking = {}
        self.serving = {}
        self.services = ()
        self.max_serving = 99
        self.max_payload = 100000
        self._on = {}
        self.heard = None

    def post(self, *args):
        self.heard = ["post"] + list(args)

    def lose(self, why):
        self.heard = ["lose", why]

    def refuse(self, stream, code, text):
        self.heard = ["refuse", stream, code]


class Device(Ear, Connection):
    def __init__(self):
        super().__init__()
        self.up = asyncio.Event()


def heard(raw, sid, kind):
    """What the device makes of a frame on a stream where one of that kind may come."""
    dev = Device()
    stream = None
    if kind > 7 and sid:
        stream = codec.Stream(dev, dev.asking if sid & 1 else dev.serving, 6, sid)
        stream.rx = stream.tx = True
        stream.due = 1
    dev._frame(raw)
    return dev, stream


def check_frame(v):
    if v["type"] not in KINDS:
        return 0
    raw = unhexlify(v["hex"])
    if not v.get("decode_only"):
        assert encode(v) == raw, v["name"]
    kind = KINDS[v["type"]]
    dev, stream = heard(raw, v.get("stream_id", 0), kind)
    if kind == 3:
        if v["respond"]:
            assert dev.heard == ["post", 3, 0, 0, bytes(8) + un(v["data"])], v["name"]
    elif kind == 10 and stream and not v["follows"]:
        assert stream.queue == (((un(v["data"]), un(v["metadata"])),) if v["next"] else ()), v["name"]
        assert stream.rx != v["complete"], v["name"]
    elif kind == 11 and v["stream_id"]:
        assert stream.err.code == v["code"], v["name"]
        # What is not UTF-8 may read differently, but it must not end the connection.
        assert stream.err.text == v["text"] or v.get("decode_only"), v["name"]
    elif kind == 11 and v["code"] != 0x102:
        assert dev.heard[1].code == v["code"], v["name"]
    elif kind > 7 and not stream:
        assert not dev.heard, v["name"]  # P22: nobody's
    elif kind == 8:
        assert stream.credit == v["n"], v["name"]
    elif kind == 9:
        assert not stream.tx, v["name"]
    elif kind < 8 and not v["follows"]:
        assert dev.heard, v["name"]
        assert dev.heard[0] == "refuse", v["name"]
        assert dev.heard[1].credit == (v.get("initial_n") or 0), v["name"]
    return 1


def check_metadata(v):
    raw = unhexlify(v["hex"])
    if v["type"] == "routing" and not v.get("decode_only"):
        if v["tags"]:
            assert codec.routing(tuple(v["tags"])) == b"\xfe" + len(raw).to_bytes(3, "big") + raw, v["name"]
        return 1
    if v["type"] == "composite":
        route = ""
        for mime, content in v["entries"]:
            content = unhexlify(content)
            if mime == "message/x.rsocket.routing.v0" and not route:
                try:
                    route = content[1 : 1 + content[0]].decode()
                except IndexError:
                    route = None
        try:
            assert codec.route_of(raw) == route, v["name"]
        except IndexError:
            assert route is None, v["name"]
        return 1
    return 0


class Settings:
    device_id = "dev-1"
    token = "tok"
    services = ("pong",)
    keepalive_ms = 20000
    lifetime_ms = 90000


async def main():
    counts = {}
    for name, check in (("frames.json", check_frame), ("metadata.json", check_metadata)):
        counts[name] = 0
        for v in load(name):
            counts[name] += check(v)
    refused = 0
    for v in load("malformed.json"):
        raw = unhexlify(v["hex"])
        if v["kind"] == "composite":
            try:
                codec.route_of(raw)
            except (IndexError, ValueError):
                refused += 1
        elif v["kind"] == "frame" and len(raw) < 6:
            try:
                Device()._frame(raw)
            except IndexError:
                refused += 1
    say(counts=counts, refused=refused)
    say(setup=hexlify(codec.setup(Settings)).decode(), version=device_sdk.__name__)


run(main)
