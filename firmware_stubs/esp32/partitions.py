"""Whole firmware images in the OTA partitions of an ESP32: a back-end of `device_sdk.ota`."""

from binascii import unhexlify
from hashlib import sha256

from esp32 import Partition

from device_sdk.slots import Slots


class Partitions(Slots):
    """`ota(dev, Partitions(), ...)`. The bootloader goes back from an image that its first start did not confirm."""

    def __init__(self):
        super().__init__()
        self.part = Partition(Partition.RUNNING).get_next_update()
        self.label = self.part.info()[4]
        # With two partitions the next one to write is the one that does not run.
        if self.state["state"] == "trial" and self.state["slots"] == self.label:
            self.keep(state="rolled_back", reason="not confirmed")

    def begin(self, size, sha):
        self.size = size
        if self.state["sha256"] != sha:
            self.keep(sha256=sha, offset=0)
        # Flash is erased by the block, and a block is begun anew.
        self.state["offset"] -= self.state["offset"] % 4096

    def write(self, data):
        block, at = divmod(self.state["offset"], 4096)
        if not at:
            self.part.ioctl(6, block)
            if not block % 16:
                self.keep()
        self.part.writeblocks(block, data, at)

    def finish(self):
        digest = sha256()
        block = bytearray(4096)
        for at in range(0, self.size, 4096):
            self.part.readblocks(at // 4096, block)
            digest.update(block[: self.size - at])
        good = self.state["offset"] == self.size and digest.digest() == unhexlify(self.state["sha256"])
        if good:
            self.keep(state="trial", slots=self.label)
            self.part.set_boot()
        else:
            self.keep(sha256=None)
        return good

    def confirm(self):
        Partition.mark_app_valid_cancel_rollback()
        self.keep(state="confirmed")

    def rollback(self, reason):
        self.keep(state="rolled_back", reason=reason)
        self.reset()  # and the bootloader goes back
