"""Posts that outlive the link and the power: kept in memory, then on flash, until the gateway has taken them.

A segment is a file of records: length u16, CRC-32 u32 (seeded with the epoch), seq u32, expiry u32, route, data. Its
name is a decimal number: its place << 32 | epoch. Each run is an epoch, because numbers that were lost with the memory
of one must not come again. An expiry is 0 (none) or by the clock of the board, set or not.
"""

import asyncio
import os
import time
from binascii import crc32

from . import RSocketError, const
from .stream import number, short

_SEGMENT = const(4096)
_LEAP = const(1 << 27)  # four years


class Outbox:
    """What `device` posts, kept in the directory `path`. The attributes below may be set before the first post."""

    page = 1024  # bytes in memory that go to flash
    flush_s = 60  # or what there is, when it cannot be sent for so long
    retry_s = 5  # after a failure
    segments = 16  # of 4 KB on flash; two or more
    newest = False  # when they are full, drop what comes; else the oldest segment
    lost = 0  # posts that were dropped, expired or refused
    seq = 0
    at = leap = 0  # when it was written last; the leap of the clock in this run
    end = 0  # of the last file, where it may go on
    index = 0  # of the first record in the first file
    task = None

    def __init__(self, device, path="outbox"):
        self.device = device
        try:
            os.mkdir(path)
        except OSError:
            pass
        self.path = path + "/"
        self.files = sorted(map(int, os.listdir(path)))
        self.name = (self.files or [0])[-1] >> 32 << 32 | number(os.urandom(4), 0)
        self.items = []  # records in memory
        self.clock = time.time
        self.time = int(time.time())
        self.some = asyncio.Event()
        self.empty = asyncio.Event()  # set while nothing waits

    def start(self):
        """Send from now on, whenever the device is up."""
        self.task = self.task or asyncio.create_task(self.send())

    async def post(self, route, data=b"", ttl_s=0):
        """Keep it and return at once."""
        self.seq += 1
        due = ttl_s and self.now() + ttl_s
        body = (self.seq << 32 | due).to_bytes(8, "big") + short(route) + data
        items = self.items
        items.append((len(body) << 32 | crc32(body, self.name)).to_bytes(6, "big") + body)
        while sum(map(len, items)) >= self.page and not self.flush():
            self.lost += 1
            items.pop(-self.newest)
        self.empty.clear()
        self.some.set()

    def flush(self):
        """Write what is in memory to flash. False: it could not, and stays in memory."""
        out = b"".join(self.items)
        if out:
            self.at = self.time
            end = self.end
            self.end = 0  # nothing goes behind a write that failed
            if not end or end + len(out) > _SEGMENT:
                end = 0
                while len(self.files) >= self.segments:
                    if self.newest:
                        return False
                    self.lost += 1
                    first = self.next()  # which may begin the next file
                    if self.files:
                        self.index += len(first) + 2
                self.name += 1 << 32
            try:
                with open(self.path + str(self.name), "ab") as f:
                    f.write(out)
                    if hasattr(os, "fsync"):
                        f.flush()
                        os.fsync(f.fileno())
            except OSError:
                return False
            if not end:
                self.files.append(self.name)
            self.end = end + len(out)
            self.items.clear()
        return True

    def now(self):
        """Seconds by the clock. When it is set it leaps by years: that is no time that has passed."""
        last = self.time
        self.time = int(self.clock())
        if self.time - last > _LEAP:
            self.leap = self.time - last
        return self.time

    def next(self):
        """The first record behind its epoch, or None. What is behind a damaged one is not believed."""
        while self.files:
            name = self.files[0]
            path = self.path + str(name)
            try:
                with open(path, "rb") as f:
                    f.seek(self.index)
                    head = f.read(6)
                    body = f.read(number(head, 0, 2))
                if body and crc32(body, name) == number(head, 2):
                    break
                os.remove(path)
            except OSError:
                pass
            self.index = 0
            self.files.pop(0)
            if not self.files:
                self.end = 0
        else:
            if not self.items:
                return
            name = self.name
            body = self.items[0][6:]
        return name.to_bytes(8, "big")[4:] + body

    async def send(self):
        while True:
            try:
                await asyncio.wait_for(self.device.up.wait(), self.flush_s)
                first = self.next()
                if not first:
                    self.empty.set()
                    self.some.clear()
                    await self.some.wait()
                    continue
                due = number(first, 8)
                late = self.now() - due
                at = 13 + first[12]
                try:
                    if due and (0 < late < _LEAP or 0 < late - self.leap < _LEAP):
                        raise RSocketError(0)
                    await self.device.request_response(
                        first[13:at].decode(), first[at:], b"\x18message/x.gateway.post.v0\0\0\x08" + first[:8]
                    )
                except RSocketError as e:
                    if e.code >> 1 == 0x101:  # REJECTED, CANCELED
                        raise
                    self.lost += 1
                if first == self.next():
                    if self.files:
                        self.index += len(first) + 2
                    else:
                        self.items.pop(0)
            except Exception:
                try:
                    if self.now() - self.at >= self.flush_s:
                        self.flush()
                except MemoryError:  # there may be room later; what is left undone here ends no task
                    pass
                await asyncio.sleep(self.retry_s)
