"""`esp32` for running firmware on a PC: the OTA partitions `ota_0` and `ota_1`, files of $HOST_STATE, and `otadata`.

`boot` is what the bootloader does at each start: an image that was set is started once to prove itself; when it was not
marked valid by the next start, the one before runs again.
"""

import json

import world

SIZE = 4096
BLOCKS = 64
MAGIC = 0xE9  # the first byte of an image
#: A test's: called before each write, whether the power lasts. When not, half of it is written.
power = None


class PowerCut(BaseException):
    pass


def _write(name, at, data):
    whole = not power or power()
    path = world.path(name)
    try:
        f = open(path, "r+b")
    except OSError:
        with open(path, "wb") as f:
            for _ in range(BLOCKS):
                f.write(b"\xff" * SIZE)
        f = open(path, "r+b")
    f.seek(at)
    f.write(data if whole else data[: len(data) // 2])
    f.close()
    if not whole:
        raise PowerCut


def _load():
    return json.loads(world.said("otadata") or '{"boot": "ota_0", "states": {"ota_0": "valid"}}')


def _save(data):
    """The real one is in two sectors, of which the older is written: it is there or it is not."""
    if power and not power():
        raise PowerCut
    world.do("otadata", json.dumps(data))


def boot():
    """Choose what runs; returns its label."""
    data = _load()
    states = data["states"]
    state = states.get(data["boot"])
    if state == "new":
        states[data["boot"]] = "pending"
        _save(data)
    elif state == "pending":
        states[data["boot"]] = "aborted"
        data["boot"] = "ota_1" if data["boot"] == "ota_0" else "ota_0"
        _save(data)
    Partition.running = data["boot"]
    return data["boot"]


class Partition:
    BOOT = 0
    RUNNING = 1
    TYPE_APP = 0
    running = "ota_0"

    def __init__(self, which):
        if which == self.BOOT:
            which = _load()["boot"]
        self.label = self.running if which == self.RUNNING else which

    def info(self):
        number = int(self.label[-1])
        return (self.TYPE_APP, 16 + number, (number * BLOCKS + 16) * SIZE, BLOCKS * SIZE, self.label, False)

    def get_next_update(self):
        return Partition("ota_1" if self.running == "ota_0" else "ota_0")

    def readblocks(self, block, buffer):
        with open(world.path(self.label), "rb") as f:
            f.seek(block * SIZE)
            buffer[:] = f.read(len(buffer))

    def ioctl(self, command, block):
        if command == 6:
            _write(self.label, block * SIZE, b"\xff" * SIZE)

    def writeblocks(self, block, data, offset):
        """With an offset, into what was erased before."""
        if block * SIZE + offset + len(data) > BLOCKS * SIZE:
            raise OSError(-0x104)  # ESP_ERR_INVALID_SIZE
        _write(self.label, block * SIZE + offset, data)

    def set_boot(self):
        first = bytearray(SIZE)
        self.readblocks(0, first)
        if first[0] != MAGIC:
            raise OSError(-0x1503)  # ESP_ERR_OTA_VALIDATE_FAILED
        data = _load()
        data["boot"] = self.label
        data["states"][self.label] = "new"
        _save(data)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        data = _load()
        data["states"][cls.running] = "valid"
        _save(data)
