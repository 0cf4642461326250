"""The power goes at one write of an update after the other. Argument: at how many points, about.

Whenever the board starts, a whole application starts, the old or the new one; in the end it is the new one, confirmed.
"""

import asyncio
import gc
import os
import sys

import slots
from flash import Flash, PowerCut
from program import say
from update_link import SECRET, Node

from device_sdk.ota import ota

ROOT = "/f"
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
    task = asyncio.create_task(ota(node, slots.Slots(), "pc", Life.started[-1], SECRET))
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
