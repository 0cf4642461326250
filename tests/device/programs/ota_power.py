"""The power goes at one write of an update after the other. Argument: at how many points, about.

Whenever the board starts, a whole application starts, the old or the new one; in the end it is the new one, confirmed.
"""

import asyncio
import gc
import json
import os
import sys
from binascii import hexlify
from hashlib import sha256

import slots
from flash import Flash, PowerCut
from program import say

import device_sdk.mac
import device_sdk.ota

ROOT = "/f"
SECRET = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#: Files that the power left open. The collector would close them, and say on stdout that it cannot.
left_open = []


class Opened:
    last = []


def opened(*args):
    Opened.last = Opened.last[-1:] + [open(*args)]  # no more than two are open at once
    return Opened.last[-1]


def entry(name, data=b"", kind=b"0"):
    head = bytearray(512)
    head[: len(name)] = name.encode()
    head[124:135] = b"%011o" % len(data)
    head[156:157] = kind
    return bytes(head) + data + bytes(-len(data) % 512)


def files(version):
    """What is in a slot. Starting it tells `life` which one it is."""
    return {"app.py": b"import life\nlife.started.append('%s')\n" % version, "lib/table": version.encode() * 1500}


def image(version):
    parts = [entry("./", kind=b"5"), entry("./lib/", kind=b"5")]
    parts += [entry("./" + name, data) for name, data in files(version).items()]
    return b"".join(parts) + bytes(1024)


class Node:
    """A device's link to a node with one update, which is lost after every fifth chunk."""

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
        self.update["mac"] = hexlify(device_sdk.mac.mac(SECRET, text.encode())).decode()

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


class Reset(BaseException):
    pass


class Machine:
    @staticmethod
    def reset():
        raise Reset


class Life:
    """What the application finds as `life`."""

    started = []


def is_whole(version, slot):
    for name, data in files(version).items():
        with open(slot + "/" + name, "rb") as f:
            assert f.read() == data, (version, slot, name)


def power():
    if flash.dead:
        raise PowerCut


async def update(node):
    """Until the device has said how it ended."""
    node.over = asyncio.Event()
    task = asyncio.create_task(device_sdk.ota.ota(node, slots.Slots(), "pc", Life.started[-1], SECRET))
    while not node.over.is_set():
        node.up.set()
        power()
        if task.done():
            await task  # raises why
        await asyncio.sleep(0)
    task.cancel()


def boots(node):
    """From one start of the board to the next. True when the update is over."""
    sys.modules.pop("app", None)
    sys.path[:] = path
    try:
        slots.boot()
        power()
        is_whole(Life.started[-1], sys.path[0])
        asyncio.run(update(node))
        return True
    except (Reset, PowerCut):
        return False
    except OSError:
        if not flash.dead:  # a file that could not be closed without power
            raise
        return False


def life(cut):
    """One update with a power cut at that write. How many writes there were, and whether the power went."""
    flash.data[:] = fresh
    flash.reboot(ROOT)
    os.chdir(ROOT)
    gc.collect()
    node = Node(new)
    began = flash.writes
    at = flash.writes + cut
    went = False
    Life.started.clear()
    for _ in range(12):
        if not went:
            flash.cut_after(at - flash.writes)
        over = boots(node)
        if flash.dead:
            went = True
            left_open.append(Opened.last)
        asyncio.new_event_loop()
        if over:
            break
        os.chdir("/")
        flash.reboot(ROOT)
        os.chdir(ROOT)
    assert over, Life.started
    assert node.last["state"] == "confirmed", node.last
    assert Life.started[0] == "a", Life.started
    assert Life.started[-1] == "b", Life.started
    return flash.writes - began, went


sys.modules["life"] = Life
sys.modules["machine"] = Machine
slots.open = opened
path = list(sys.path)
new = image("b")
flash = Flash(24)
flash.format(ROOT)
os.chdir(ROOT)
os.mkdir("app_a")
os.mkdir("app_a/lib")
os.mkdir("app_b")
for name, data in files("a").items():
    with open("app_a/" + name, "wb") as f:
        f.write(data)
with open("app_b/stale.py", "wb") as f:
    f.write(b"of the image before")
os.chdir("/")
fresh = bytes(flash.data)
writes, _ = life(1 << 30)
cuts = 0
for cut in range(1, writes + 1, max(1, writes // int(sys.argv[1]))):
    cuts += life(cut)[1]
say(writes=writes, cuts=cuts)
