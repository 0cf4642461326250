"""The outbox's rules, on plain files: what leaves it other than by being sent, in which order, and what comes back."""

import asyncio
import os

from program import say

from device_sdk import RSocketError
from device_sdk.outbox import Outbox


class Gateway:
    """Answers as `answers` says, then with yes."""

    backoff_ms = (1, 2)

    def __init__(self, *answers):
        self.up = asyncio.Event()
        self.up.set()
        self.answers = list(answers)
        self.asked = []

    async def request_response(self, route, data, meta):
        self.asked.append((route, int(data), meta[:-8], meta[-8:-4], int.from_bytes(meta[-4:], "big")))
        answer = self.answers.pop(0) if self.answers else None
        if callable(answer):
            answer()
        if answer:
            raise answer
        return b"", None


def outbox(gateway, path, **settings):
    box = Outbox(gateway, path)
    box.retry_s = 0
    for name in settings:
        setattr(box, name, settings[name])
    return box


async def sent(box):
    """The numbers that come when the box is let go."""
    gateway = box.device
    box.start()
    box.start()
    await asyncio.wait_for(box.empty.wait(), 20)
    box.task.cancel()
    return [entry[1] for entry in gateway.asked]


def records(path):
    return sum([os.stat(path + "/" + name)[6] for name in os.listdir(path)])


async def order():
    """From flash and from memory, in the order of the posts; refusals leave, failures come again."""
    gateway = Gateway(None, OSError(104), RSocketError(0x202), RSocketError(0x203), None, RSocketError(0x201))
    box = outbox(gateway, "order")
    for n in range(30):
        await box.post("a.b", b"%d" % n)
        if n in (10, 11):
            assert box.flush()
    assert box.flush()
    assert box.flush()
    await box.post("a.b", b"30")
    say(numbers=await sent(box), lost=box.lost, files=os.listdir("order"))
    seqs = [entry[4] for entry in gateway.asked]
    assert seqs[:6] == [1, 2, 2, 2, 2, 3], seqs
    assert seqs[-1] == 31
    assert len({entry[3] for entry in gateway.asked}) == 1
    assert gateway.asked[0][2] == b"\x18message/x.gateway.post.v0\x00\x00\x08"


async def full(newest):
    path = "newest" if newest else "oldest"
    box = outbox(Gateway(), path, segments=2, newest=newest)
    for n in range(400):
        await box.post("a.b", b"%064d" % n)
    assert records(path) <= 8192
    assert len(b"".join(box.items)) <= box.page
    lost = box.lost
    numbers = await sent(box)
    first = 0 if newest else lost
    assert numbers == list(range(first, first + 400 - lost)), numbers
    say(full=path, lost=lost)


async def runs():
    """Three runs, the second of which ends in the middle of a write: each record under the epoch of its run."""
    path = "runs"
    box = outbox(Gateway(), path)
    for n in range(3):
        await box.post("a.b", b"%d" % n)
    box.flush()
    await box.post("a.b", b"99")  # the power goes before this is written
    box = outbox(Gateway(), path)
    for n in range(3, 6):
        await box.post("a.b", b"%d" % n)
    box.flush()
    torn = path + "/" + str(box.files[-1])
    with open(torn, "rb") as f:
        whole = f.read()
    with open(torn, "wb") as f:
        f.write(whole[:-1])
    box = outbox(Gateway(), path)
    await box.post("a.b", b"6")
    box.flush()
    box = outbox(Gateway(), path)
    say(numbers=await sent(box), epochs=len({entry[3] for entry in box.device.asked}))
    # A bit that has changed: it and what is behind it in its file are not believed.
    for n in range(3):
        await box.post("a.b", b"%d" % n)
    box.flush()
    name = path + "/" + str(box.files[0])
    with open(name, "rb") as f:
        data = bytearray(f.read())
    data[30] ^= 1
    with open(name, "wb") as f:
        f.write(data)
    box.device.asked.clear()
    box.empty.clear()
    say(damaged=await again(box))


async def again(box):
    box.task = None
    return await sent(box)


async def ages():
    """What is older than its ttl is not sent, whether the clock is set or not."""
    clock = [500]  # a board without a battery begins in 2000

    def box():
        box = outbox(Gateway(), "ages")
        box.clock = lambda: clock[0]
        box.now()
        return box

    first = box()
    await first.post("a.b", b"0", ttl_s=10)
    await first.post("a.b", b"1", ttl_s=100)
    await first.post("a.b", b"2")
    clock[0] += 50
    first.now()
    clock[0] = 830000000  # the clock is set: the first has run out before that
    await first.post("a.b", b"3", ttl_s=10)
    await first.post("a.b", b"4", ttl_s=100)
    clock[0] += 11
    say(numbers=await sent(first), lost=first.lost)
    await first.post("a.b", b"5", ttl_s=10)
    await first.post("a.b", b"6", ttl_s=1000)
    first.flush()
    clock[0] = 0
    later = box()
    await later.post("a.b", b"7", ttl_s=10)
    later.flush()

    def sets_the_clock():
        clock[0] = 830000100
        raise OSError(104)

    # Until the clock is set nobody knows for how long the board was off.
    later.device.answers = [sets_the_clock]
    say(later=await sent(later), lost=later.lost)


async def refused():
    """What is refused for the moment stays in memory until its time is over: not an erase for each try."""
    clock = [100]
    gateway = Gateway(*[RSocketError(0x202)] * 20)
    box = outbox(gateway, "refused", flush_s=1000)
    box.clock = lambda: clock[0]
    box.start()
    for n in range(5):
        await box.post("a.b", b"%d" % n)
    while len(gateway.answers) > 10:
        await asyncio.sleep(0)
    early = records("refused")
    clock[0] += 1000
    while gateway.answers:
        await asyncio.sleep(0)
    say(early=early, late=len(box.items), files=len(box.files))
    box.task.cancel()


async def main():
    await order()
    await full(False)
    await full(True)
    await runs()
    await ages()
    await refused()


asyncio.run(main())
