"""The power goes at one write of an update of partitions after the other: flash, file system, the bootloader's data.

Whatever starts is whole. A power cut in the one start that the bootloader gives a new image brings the old one back.
"""

import asyncio
import gc
import os
import sys

import esp32
import world
from flash import Flash
from partitions import Partitions
from program import say
from update_link import SECRET, Node

import device_sdk.slots
from device_sdk.ota import ota

ROOT = "/f"
left_open = []


class Opened:
    last = None


def opened(*args):
    Opened.last = open(*args)
    return Opened.last


class Reset(BaseException):
    pass


class Machine:
    @staticmethod
    def reset():
        raise Reset


def image(version):
    return b"\xe9" + version.encode() * 20000


def power():
    """Counts writes to partitions with those to the file system."""
    if not flash.dead:
        flash.writes += 1
        flash.dead = flash.writes == flash.cut_at
    return not flash.dead


def is_whole(label):
    with open(world.path(label), "rb") as f:
        data = f.read(20001)
    assert data in (image("a"), image("b")), label
    return chr(data[1])


async def update(node, version):
    node.over = asyncio.Event()
    task = asyncio.create_task(ota(node, Partitions(), "pc", version, SECRET))
    while not node.over.is_set():
        node.up.set()
        if flash.dead:
            raise esp32.PowerCut
        if task.done():
            await task  # raises why
        await asyncio.sleep(0)
    task.cancel()


def life(cut):
    flash.data[:] = fresh
    flash.reboot(ROOT)
    for name in ("ota_0", "ota_1", "otadata"):
        if name in os.listdir(world.path("")):
            os.remove(world.path(name))
    with open(world.path("ota_0"), "wb") as f:
        f.write(image("a"))
        f.write(b"\xff" * (esp32.SIZE * esp32.BLOCKS - 20001))
    gc.collect()
    os.chdir(ROOT)
    node = Node(new)
    began = flash.writes
    at = began + cut
    went = over = False
    while not over:
        if not went:
            flash.cut_after(at - flash.writes)
        try:
            version = is_whole(esp32.boot())
            asyncio.run(update(node, version))
            over = True
        except Reset:
            pass
        except BaseException:
            if not flash.dead:
                raise
            went = True
            left_open.append(Opened.last)
        asyncio.new_event_loop()
        os.chdir("/")
        flash.reboot(ROOT)
        os.chdir(ROOT)
    state = node.last["state"]
    assert (state, version) in (("confirmed", "b"), ("rolled_back", "a")), (node.last, version)
    assert went or state == "confirmed"
    os.chdir("/")
    return flash.writes - began, went, state == "rolled_back"


sys.modules["machine"] = Machine
device_sdk.slots.open = opened
esp32.power = power
new = image("b")
flash = Flash(8)
flash.format(ROOT)
fresh = bytes(flash.data)
writes = life(1 << 30)[0]
cuts = back = 0
for cut in range(1, writes + 1):
    _, went, rolled = life(cut)
    cuts += went
    back += rolled
say(writes=writes, cuts=cuts, back=back)
