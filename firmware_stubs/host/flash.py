"""Flash in memory for MicroPython on a PC: a block device for `vfs.VfsLfs2` that counts wear and loses its power.

    flash = Flash()
    flash.format("/f")              # a LittleFS, mounted there
    flash.cut_after(17)             # the 17th write from now on is done by half, and raises PowerCut
    flash.reboot("/f")              # as after a power cut: mounted again with what was written

NOR flash as it is: an erased byte is 0xFF, and a byte is written once between two erases.
"""

import vfs

SIZE = 4096


class PowerCut(BaseException):
    """The power is gone: whatever runs must end, and nothing is written any more until `reboot`. Closing the file that
    was written may turn it into an OSError: look at `Flash.dead`, too."""


class Flash:
    """`erases`: by block of 4 KB. `writes`: erases and programs, all told: the points where the power can go."""

    def __init__(self, blocks=64):
        self.data = bytearray(b"\xff" * (blocks * SIZE))
        self.erases = [0] * blocks
        self.writes = 0
        self.cut_at = 0
        self.dead = False
        self.fails = False  # as long as this is set, every write ends with EIO
        self._port = None

    @property
    def wear(self):
        return sum(self.erases)

    def format(self, at):
        vfs.VfsLfs2.mkfs(_Port(self))
        self._mount(at)

    def cut_after(self, writes):
        self.cut_at = self.writes + writes

    def reboot(self, at):
        """OSError when the file system is beyond repair."""
        self._port.flash = None
        vfs.umount(at)
        self._mount(at)

    def _mount(self, at):
        self.cut_at = 0
        self.dead = False
        self._port = _Port(self)
        vfs.mount(vfs.VfsLfs2(self._port), at)

    def write(self, at, data):
        if self.fails:
            raise OSError(5)
        if self.dead:
            raise PowerCut
        self.writes += 1
        self.dead = self.writes == self.cut_at
        if self.dead:
            data = data[: len(data) // 2]
        self.data[at : at + len(data)] = data
        if self.dead:
            raise PowerCut


class _Port:
    """What one mount talks to. Files that a power cut left open are closed by the garbage collector after the reboot,
    which has no memory to give: then (`flash` is None) nothing is written, raised or allocated."""

    def __init__(self, flash):
        self.flash = flash
        self.data = flash.data
        self.blocks = len(flash.erases)

    def readblocks(self, block, buffer, offset=0):
        at = block * SIZE + offset
        if self.flash is None:
            for i in range(len(buffer)):
                buffer[i] = self.data[at + i]
        else:
            buffer[:] = self.data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        if self.flash is None:
            return
        at = block * SIZE + offset
        free = self.flash.dead or self.data[at : at + len(buffer)] == b"\xff" * len(buffer)
        assert free, "written without an erase"
        self.flash.write(at, bytes(buffer))

    def ioctl(self, command, block):
        if command == 4:
            return self.blocks
        if command == 5:
            return SIZE
        if command == 6 and self.flash is not None:
            self.flash.erases[block] += 1
            self.flash.write(block * SIZE, b"\xff" * SIZE)
        return 0
