"""The power goes at one write after the other. Argument: at how many points of each scenario, about.

Says for each scenario at how many points the power went, and fails where a record that was on flash is lost, one comes
that nobody posted, or the next run does not start.
"""

import asyncio
import gc
import sys
from binascii import crc32

from flash import Flash, PowerCut
from program import say

import device_sdk.outbox
from device_sdk.outbox import Outbox

PATH = "/f"
#: Files that the power left open. The collector would close them, and say on stdout that it cannot.
left_open = []


class Opened:
    last = None


def opened(*args):
    Opened.last = open(*args)
    return Opened.last


device_sdk.outbox.open = opened


def payload(n, size):
    data = b"%06d" % n + bytes([n & 255]) * size
    return data + crc32(data).to_bytes(4, "big")


class Gateway:
    """Takes what is posted, each once, as a node does, and does not always get its answer through."""

    def __init__(self, loses=0, before=None):
        self.up = asyncio.Event()
        self.got = before.got if before else []
        self.last = before.last if before else {}
        self.asked = 0
        self.loses = loses

    async def request_response(self, route, data, meta):
        assert crc32(data[:-4]).to_bytes(4, "big") == data[-4:], "a damaged record was sent"
        assert route == "t.x"
        self.asked += 1
        epoch, seq = meta[-8:-4], int.from_bytes(meta[-4:], "big")
        if seq > self.last.get(epoch, 0):
            self.last[epoch] = seq
            self.got.append(int(data[:6]))
        if self.loses and self.asked % self.loses == 0:
            raise OSError(104)
        await asyncio.sleep(0)


class Life:
    def __init__(self, flash, gateway, full):
        self.flash = flash
        self.gateway = gateway
        self.safe = 0  # numbers below are on flash, or taken
        self.box = Outbox(gateway, PATH + "/outbox")
        self.box.page = 300
        self.box.retry_s = 0
        self.box.segments = 2 if full else 16

    async def run(self, records, size, drains):
        box = self.box
        box.start()
        for n in range(records):
            if drains and n % drains == 0:
                (self.gateway.up.clear if self.gateway.up.is_set() else self.gateway.up.set)()
            await box.post("t.x", payload(n, size))
            self.are_safe(n + 1)
            await asyncio.sleep(0)
        box.flush()
        self.are_safe(records)
        box.task.cancel()

    def are_safe(self, posted):
        if self.flash.dead:
            raise PowerCut
        self.safe = posted - len(self.box.items)


async def after(gateway):
    """The next run: everything that is left comes, and what is new as well."""
    box = Outbox(gateway, PATH + "/outbox")
    box.retry_s = 0
    await box.post("t.x", payload(999999, 1))
    box.start()
    gateway.up.set()
    await asyncio.wait_for(box.empty.wait(), 60)
    box.task.cancel()
    assert not box.lost, box.lost


def check(life, got, full):
    numbers = got[:-1]
    assert got[-1] == 999999
    assert len(set(numbers)) == len(numbers), "one was taken twice"
    assert numbers == sorted(numbers), numbers
    if full:
        # The oldest were dropped; from the first that is left on all that were safe are there.
        missing = set(range(numbers[0] if numbers else life.safe, life.safe)) - set(numbers)
        missing -= set(range(life.safe - life.box.lost))
    else:
        missing = set(range(life.safe)) - set(numbers)
    assert not missing, missing


def scenario(name, records, size, drains, full=False, loses=0):
    cuts, step = -1, 0
    cut = 1 << 30  # the first time it does not go: how many writes are there?
    while True:
        flash.data[:] = fresh
        flash.reboot(PATH)
        gc.collect()
        gateway = Gateway(loses)
        life = Life(flash, gateway, full)
        began = flash.writes
        flash.cut_after(cut)
        try:
            asyncio.run(life.run(records, size, drains))
        except PowerCut:
            left_open.append(Opened.last)
        over = not flash.dead
        cuts += 1
        wrote = flash.writes - began
        asyncio.new_event_loop()
        flash.reboot(PATH)
        later = Gateway(before=gateway)
        asyncio.run(after(later))
        asyncio.new_event_loop()
        check(life, later.got, full)
        if not step:
            step = max(1, wrote // points)
            cut = 0
        elif over:
            break
        cut += step
    say(scenario=name, cuts=cuts)


flash = Flash(16)
flash.format(PATH)
fresh = bytes(flash.data)
points = int(sys.argv[1])
scenario("posting without a link", 24, 64, 0)
scenario("posting and sending", 20, 500, 6, loses=5)
scenario("full, the oldest go", 24, 700, 0, full=True)
