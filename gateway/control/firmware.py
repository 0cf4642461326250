"""What devices can be updated to: records in the database, images as files beside it (`storage.images`).

A firmware never changes. Its id is made from what it is, so the same one uploaded again is the same one, which also is
how an image is put back that the disk has damaged. Backups hold the records and not the images: those come again from
wherever they were built.

What a device gets is the `manifest`, with an HMAC made with the device's own secret: a node that a device enrolled with
is the only one that can update it. A publisher may sign the same manifest with an Ed25519 key; where the settings name
publishers, nothing else is taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.control import validation
from gateway.control.audit import Actor, Audit
from gateway.control.changes import Change, Changes
from gateway.control.paging import Listing, exactly
from gateway.control.table import Readable, Table, public
from gateway.errors import AlreadyExists, InvalidChange, NotAllowed, StorageError
from gateway.storage.images import Images, Upload

DIRECTORY = "firmware"
ALARM = "firmware_damaged"
CONTEXT = "gateway-firmware\n"
MAX_FIRMWARE = 1000

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{86}")
_PUBLIC = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Firmware:
    """`size`: bytes. `publisher`, `signature`: base64url of an Ed25519 key and what it signed, or empty."""

    id: str
    board: str
    version: str
    size: int
    sha256: str
    notes: str
    publisher: str
    signature: str
    created_at: float
    created_by: str

    @property
    def manifest(self) -> bytes:
        return manifest(self.board, self.version, self.size, self.sha256)


@dataclass(frozen=True, slots=True)
class NewFirmware:
    """`sha256`: what the image must have; empty where nobody knows."""

    board: str
    version: str
    notes: str = ""
    sha256: str = ""
    publisher: str = ""
    signature: str = ""


def identity_of(board: str, version: str, size: int, sha256: str) -> str:
    """The id of a firmware: 16 hexadecimal digits."""
    return hashlib.sha256(f"{board}\n{version}\n{size}\n{sha256}".encode()).hexdigest()[:16]


def manifest(board: str, version: str, size: int, sha256: str) -> bytes:
    """What a device's HMAC and a publisher's signature are made of."""
    number = identity_of(board, version, size, sha256)
    return f"{CONTEXT}{number}\n{board}\n{version}\n{size}\n{sha256}".encode()


class Firmwares(Readable[Firmware]):
    """The firmware of one control plane. `publishers` gives the keys of which one must have signed; none: nobody."""

    def __init__(
        self,
        changes: Changes,
        audit: Audit,
        images: Images,
        wall: Callable[[], float],
        alarm: Callable[[str, str], None],
        calm: Callable[[str], None],
    ) -> None:
        self.images = images
        self.publishers: Callable[[], Sequence[str]] = tuple
        #: SHA-256 of images that are not there as they were written.
        self.damaged: dict[str, str] = {}
        self._changes = changes
        self._database = changes.database
        self._audit = audit
        self._wall = wall
        self._alarm = alarm
        self._calm = calm
        # What is kept is then named by a record; nobody removes it between the two.
        self._lock = asyncio.Lock()
        self._table = Table(
            Firmware,
            "firmware",
            Listing(
                "firmware",
                "id",
                {"created_at": "created_at", "id": "id", "board": "board", "size": "size"},
                {"board": exactly("board"), "version": exactly("version")},
                ("id", "board", "version", "notes"),
            ),
        )

    def require(self, connection: sqlite3.Connection, firmware_id: str) -> Firmware:
        """Raises NotFound."""
        return self._table.get(connection, firmware_id)

    def usable(self, firmware: Firmware) -> bool:
        """Whether its image is there, as far as is known."""
        return firmware.sha256 not in self.damaged

    async def add(
        self, new: NewFirmware, pieces: AsyncIterator[bytes], *, by: Actor, dry_run: bool = False
    ) -> tuple[Firmware, bool]:
        """Take an image as it comes; the firmware, and whether it is new. Nothing is left of one that is refused.

        Raises:
            InvalidChange: a value, the image's size, digest or signature is none.
            AlreadyExists: there is another image for this board and version.
            NotAllowed: nobody has signed it who may.
            StorageError: there is no room (`storage_full`), or the disk refuses.
        """
        _check(new)
        upload = await asyncio.to_thread(self.images.begin)
        try:
            async for piece in pieces:
                await asyncio.to_thread(upload.write, piece)
            await asyncio.to_thread(upload.finish)
            firmware = self._made(new, upload, by)
            async with self._lock:
                return await self._add(firmware, upload, by, dry_run)
        finally:
            # Not when whoever asked has gone: a thread may still be writing.
            await asyncio.shield(asyncio.to_thread(upload.discard))

    async def _add(self, firmware: Firmware, upload: Upload, by: Actor, dry_run: bool) -> tuple[Firmware, bool]:
        known = await self._database.read(lambda connection: self._table.find(connection, firmware.id))
        if known is None and not dry_run:
            await asyncio.to_thread(self.images.keep, upload)
        elif known is not None:
            if not self.usable(known) and not dry_run:
                await self._audit.record(by, "firmware.restore", f"firmware:{known.id}")
                await asyncio.to_thread(self.images.keep, upload)
                self._well(known.sha256)
            return known, False

        def work(connection: sqlite3.Connection) -> Change[Firmware]:
            (count,) = connection.execute("SELECT count(*) FROM firmware").fetchone()
            if count >= MAX_FIRMWARE:
                raise AlreadyExists(f"there are {count} already, which is as many as there may be: delete some")
            row = connection.execute(
                "SELECT id FROM firmware WHERE board = ? AND version = ?", (firmware.board, firmware.version)
            ).fetchone()
            if row is not None:
                what = f"{firmware.board} {firmware.version}"
                raise AlreadyExists(f"there is another image for {what} already ({row['id']}): a version never changes")
            self._table.insert(connection, firmware)
            return Change(firmware, f"firmware:{firmware.id}", after=public(firmware))

        try:
            added = await self._changes.make(by, "firmware.add", work, dry_run=dry_run)
        except BaseException:
            await self._drop(firmware.sha256)
            raise
        self._well(firmware.sha256)
        return added, True

    async def delete(self, firmware_id: str, *, by: Actor, dry_run: bool = False) -> None:
        """Raises NotFound, AlreadyExists when a rollout has it that is not aborted."""

        def work(connection: sqlite3.Connection) -> Change[Firmware]:
            firmware = self._table.get(connection, firmware_id)
            used = connection.execute(
                "SELECT id FROM rollouts WHERE firmware_id = ? AND state <> 'aborted'", (firmware_id,)
            ).fetchone()
            if used is not None:
                raise AlreadyExists(f"rollout {used['id']} has it: abort that first", reason="firmware_in_use")
            self._table.delete(connection, firmware_id)
            return Change(firmware, f"firmware:{firmware_id}", before=public(firmware))

        async with self._lock:
            firmware = await self._changes.make(by, "firmware.delete", work, dry_run=dry_run, reserve=True)
            if not dry_run:
                await self._drop(firmware.sha256)
                self._well(firmware.sha256)

    async def check(self) -> None:
        """Look at every image, and remove what no record names. An alarm tells of those that are damaged."""
        async with self._lock:
            rows = await self._database.read(lambda c: c.execute("SELECT sha256, size FROM firmware").fetchall())
            wanted = {row["sha256"]: row["size"] for row in rows}
            await asyncio.to_thread(self.images.sweep, wanted)
        for sha256 in wanted:
            await self.look_at(sha256)

    async def look_at(self, sha256: str) -> None:
        """Read an image. One that is damaged is offered to nobody until it is uploaded again, and there is an alarm."""
        size_of = "SELECT size FROM firmware WHERE sha256 = ?"
        async with self._lock:
            row = await self._database.read(lambda connection: connection.execute(size_of, (sha256,)).fetchone())
            if row is None:
                # Its firmware was deleted meanwhile.
                return
            try:
                await asyncio.to_thread(self.images.check, sha256, row["size"])
            except StorageError as error:
                self.damaged[sha256] = error.text
                self._alarm(
                    ALARM, f"a firmware image is damaged ({error.text}). Upload it again, or delete the firmware."
                )

    def _well(self, sha256: str) -> None:
        if self.damaged.pop(sha256, None) is not None and not self.damaged:
            self._calm(ALARM)

    async def _drop(self, sha256: str) -> None:
        """Remove an image unless a record names it. The lock is held."""
        work = "SELECT count(*) FROM firmware WHERE sha256 = ?"
        (named,) = await self._database.read(lambda connection: connection.execute(work, (sha256,)).fetchone())
        if not named:
            await asyncio.to_thread(self.images.remove, sha256)

    def _made(self, new: NewFirmware, upload: Upload, by: Actor) -> Firmware:
        if not upload.size:
            raise InvalidChange("an image has at least one byte", reason="image_empty")
        if new.sha256 and new.sha256 != upload.sha256:
            text = f"the image has the SHA-256 {upload.sha256}: it is damaged, or another one"
            raise InvalidChange(text, "/sha256", reason="image_digest")
        firmware = Firmware(
            id=identity_of(new.board, new.version, upload.size, upload.sha256),
            board=new.board,
            version=new.version,
            size=upload.size,
            sha256=upload.sha256,
            notes=new.notes,
            publisher=new.publisher,
            signature=new.signature,
            created_at=self._wall(),
            created_by=by.id,
        )
        allowed = self.publishers()
        if allowed and new.publisher not in allowed:
            text = "only what one of firmware.publishers has signed is taken: gateway firmware add --sign KEY"
            raise NotAllowed(text, reason="firmware_unsigned")
        if new.signature and not is_signed(firmware.manifest, new.publisher, new.signature):
            raise InvalidChange("this signature is not of this image by this key", "/signature", reason="signature")
        return firmware


def is_signed(message: bytes, publisher: str, signature: str) -> bool:
    """Whether an Ed25519 key (base64url of its 32 bytes) has made this signature."""
    try:
        Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(publisher + "=")).verify(
            urlsafe_b64decode(signature + "=="), message
        )
    except (ValueError, InvalidSignature):
        return False
    return True


def word(value: object, pointer: str) -> str:
    """A board or a version, which stand in manifests. Raises InvalidChange."""
    if not isinstance(value, str) or _WORD.fullmatch(value) is None:
        raise InvalidChange("this has 1 to 64 of A-Z a-z 0-9 . _ + -, and begins with a letter or digit", pointer)
    return value


def _check(new: NewFirmware) -> None:
    word(new.board, "/board")
    word(new.version, "/version")
    validation.text(new.notes, "/notes", most=validation.MAX_NOTES)
    if new.sha256 and _SHA256.fullmatch(new.sha256) is None:
        raise InvalidChange("a SHA-256 has 64 hexadecimal digits, in small letters", "/sha256")
    if bool(new.publisher) != bool(new.signature):
        raise InvalidChange("publisher and signature go together", "/signature")
    if new.publisher and (_PUBLIC.fullmatch(new.publisher) is None or _SIGNATURE.fullmatch(new.signature) is None):
        raise InvalidChange("publisher and signature are base64url of 32 and 64 bytes, without padding", "/signature")
