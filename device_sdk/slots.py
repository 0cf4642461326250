"""Two applications in files, `app_a` and `app_b`, and which of them starts.

Stands alone: main.py is `from slots import boot; boot()`, before the application may bring an SDK of its own. Paths are
relative to where the board starts. Power may go at any write: `ota.json` is replaced whole, the last thing of all.
"""

import json
import os
import sys
from binascii import unhexlify
from hashlib import sha256


def clear(path):
    """Remove a file, or a directory with all that is in it. OSError when there is none."""
    try:
        os.remove(path)
    except OSError:
        for name in os.listdir(path):
            clear(path + "/" + name)
        os.rmdir(path)


class Slots:
    """A back-end of `ota`: the image, a tar, is kept as `ota.img` and unpacked when it is whole."""

    chunk = 1024  # bytes a payload
    tries = 3  # boots that an image has to be confirmed

    def __init__(self):
        self.file = None
        try:
            with open("ota.json") as f:
                self.state = json.load(f)
        except OSError:
            self.state = {"slots": ["app_a", "app_b"], "state": "idle", "left": None, "sha256": None}

    def keep(self, **changes):
        """Change the state, which holds what is reported."""
        self.state.update(changes)
        with open("ota.new", "w") as f:
            json.dump(self.state, f)
        os.rename("ota.new", "ota.json")

    def begin(self, size, sha):
        """Set `offset` to where to go on: what was written of the same image is still there."""
        if self.file:
            self.file.close()
        known = self.state["sha256"] == sha
        self.file = open("ota.img", "ab" if known else "wb")
        if not known:
            self.file.flush()
            self.keep(sha256=sha)
        self.state["offset"] = self.file.seek(0, 2)

    def write(self, data):
        self.file.write(data)
        if not self.file.tell() % 4096:
            self.file.flush()

    def finish(self):
        """Whether the image is what was announced; it is what starts next then."""
        self.file.close()
        state = self.state
        digest = sha256()
        with open("ota.img", "rb") as f:
            data = True
            while data:
                data = f.read(512)
                digest.update(data)
            good = digest.digest() == unhexlify(state["sha256"])
            if good:
                root = state["slots"][1]
                try:
                    clear(root)
                except OSError:
                    pass
                os.mkdir(root)
                f.seek(0)
                while True:
                    head = f.read(512)
                    name = head[:100].rstrip(b"\0").decode()
                    if not name:
                        break
                    name = root + "/" + name
                    if name[-1] != "/":
                        with open(name, "wb") as out:
                            for left in range(int(head[124:135], 8), 0, -512):
                                out.write(f.read(512)[:left])
                    elif name[-2] != ".":
                        os.mkdir(name[:-1])
                state["slots"].reverse()
                self.keep(state="trial", left=self.tries)
        os.remove("ota.img")
        return good

    def confirm(self):
        self.keep(state="confirmed", left=None)

    def rollback(self, reason):
        self.state["slots"].reverse()
        self.keep(state="rolled_back", left=None, reason=reason)
        self.reset()

    def reset(self):
        import machine

        machine.reset()


def boot():
    """Start `app.py` of the slot whose turn it is. One that is on trial has a boot less left, and none if it raises."""
    slots = Slots()
    left = slots.state["left"]
    if left:
        slots.keep(left=left - 1)
    elif left == 0:
        slots.rollback("not confirmed")
    sys.path.insert(0, slots.state["slots"][0])
    try:
        import app  # noqa: F401
    except Exception as e:
        slots = Slots()
        if slots.state["left"] is None:
            raise
        slots.rollback(repr(e))
