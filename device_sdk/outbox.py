"""Posts that outlive the link and the power: kept in memory, then on flash, until the gateway has taken them.

A segment is a file of records: length u16, CRC-32 u32 (seeded with the epoch), seq u32, expiry u32, route, data. Its
name is a decimal number: its place << 32 | epoch. Each run is an epoch, because numbers that were lost with the memory
of one must not come again. An expiry is 0 (none), by the clock, or below `_CLOCK`: seconds since the start of a run.
"""

import asyncio
import os
import time
from binascii import crc32

from . import RSocketError, const, ticks_diff, ticks_ms
from .stream import number, short

_SEGMENT = const(4096)
_EPOCH = const(0xFFFFFFFF)
_CLOCK = const(0x10000000)


class Outbox:
    """What `device` posts, kept in the directory `path`. The attributes below may be set before the first post."""

    page = 1024  # bytes in memory that go to flash
    flush_s = 60  # or what there is, after so long without a link
    retry_s = 5  # after a failure
    max_bytes = 65536  # on flash, segments of 4 KB
    newest = False  # when that is full, drop what comes; else the oldest segment
    lost = 0  # posts that were dropped, expired or refused
    seq = ms = 0
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
        self.name = self.files[-1] if self.files else 0
        self.epoch = number(os.urandom(4), 0)
        self.items = []  # records in memory
        self.ticks = ticks_ms()
        self.some = asyncio.Event()
        self.empty = asyncio.Event()  # set while nothing waits

    def start(self):
        """Send from now on, whenever the device is up."""
        self.task = self.task or asyncio.create_task(self._send())

    async def post(self, route, data=b"", ttl_s=0):
        """Keep it and return at once."""
        self.seq += 1
        due = ttl_s and (self.clock() or self._now()) + ttl_s
        body = self.seq.to_bytes(4, "big") + due.to_bytes(4, "big") + short(route) + data
        items = self.items
        items.append(len(body).to_bytes(2, "big") + crc32(body, self.epoch).to_bytes(4, "big") + body)
        while sum(map(len, items)) >= self.page and not self.flush():
            self.lost += 1
            items.pop(-self.newest)
        self.empty.clear()
        self.some.set()

    def flush(self):
        """Write what is in memory to flash. False: it could not, and stays in memory."""
        files = self.files
        items = self.items
        if not items:
            return True
        out = b"".join(items)
        end = self.end
        self.end = 0  # nothing goes behind a write that failed
        if not end or end + len(out) > _SEGMENT:
            end = 0
            while len(files) >= self.max_bytes // _SEGMENT:
                if self.newest:
                    return False
                first = self._first()
                if len(files) >= self.max_bytes // _SEGMENT:
                    self.lost += 1
                    self.index += len(first[1]) + 6
            self.name = (self.name | _EPOCH) + 1 + self.epoch
        try:
            with open(self.path + str(self.name), "ab") as f:
                f.write(out)
                if hasattr(os, "fsync"):
                    f.flush()
                    os.fsync(f.fileno())
        except OSError:
            return False
        if not end:
            files.append(self.name)
        self.end = end + len(out)
        items.clear()
        return True

    def _now(self):
        ticks = self.ticks
        self.ticks = ticks_ms()
        self.ms += ticks_diff(self.ticks, ticks)
        return self.ms // 1000

    def clock(self):
        """Seconds that go on while the board is off; 0 while the clock is not set."""
        return time.gmtime()[0] > 2024 and int(time.time())

    def _first(self):
        """The first record's epoch and body, or None. What is behind a damaged one is not believed."""
        while self.files:
            path = self.path + str(self.files[0])
            epoch = self.files[0] & _EPOCH
            try:
                with open(path, "rb") as f:
                    f.seek(self.index)
                    head = f.read(6)
                    body = f.read(number(head, 0, 2))
                if body and crc32(body, epoch) == number(head, 2):
                    return epoch, body
                os.remove(path)
            except OSError:
                pass
            self.index = 0
            self.files.pop(0)
            if not self.files:
                self.end = 0
        if self.items:
            return self.epoch, self.items[0][6:]

    async def _send(self):
        device = self.device
        while True:
            try:
                await asyncio.wait_for(device.up.wait(), self.flush_s)
                first = self._first()
                if not first:
                    self.empty.set()
                    self.some.clear()
                    await self.some.wait()
                    continue
                epoch, body = first
                due = number(body, 4)
                at = 9 + body[8]
                try:
                    if due and due < (self.clock() if due > _CLOCK else self._now()):
                        raise RSocketError(0)
                    await device.request_response(
                        body[9:at].decode(),
                        body[at:],
                        b"\x18message/x.gateway.post.v0\0\0\x08" + epoch.to_bytes(4, "big") + body[:4],
                    )
                except RSocketError as e:
                    if e.code >> 1 == 0x101:  # REJECTED, CANCELED
                        raise
                    self.lost += 1
                if first == self._first():
                    if self.files:
                        self.index += len(body) + 6
                    else:
                        self.items.pop(0)
            except Exception:
                self.flush()
                await asyncio.sleep(self.retry_s)
