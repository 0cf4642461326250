"""The power goes at one write after the other while a configuration is taken: either the old one is there or the new.

Says at how many points the old one was there, at how many the new one, and how often that was not tried again.
"""

import asyncio
import gc
import json

from flash import Flash, PowerCut
from program import say

import device_sdk.config
from device_sdk.config import follow, load

PATH = "/f/config.json"
#: Files that the power left open. The collector would close them, and say on stdout that it cannot.
left_open = []


class Opened:
    last = None


def opened(*args):
    Opened.last = open(*args)
    return Opened.last


device_sdk.config.open = opened


class Over(BaseException):
    """All has been said."""


class Gateway:
    """Wants a device to have these documents, one after the other, and hears what it says of them."""

    def __init__(self, flash, wanted):
        self.flash = flash
        self.wanted = wanted
        self.said = {}

    async def request_response(self, route, data):
        if self.flash.dead:
            raise PowerCut
        said = json.loads(data)
        self.said[said["version"]] = said["reason"]

    def request_stream(self, route, data, n):
        has = json.loads(data)["version"]
        self.items = [version for version in self.wanted if version > has][:1]
        return self

    async def __anext__(self):
        if self.flash.dead:
            raise PowerCut
        if not self.items:
            raise Over
        return json.dumps({"version": self.items[0], "document": {"v": self.items[0], "x": "x" * 900}}).encode(), None

    async def cancel(self):
        pass


def life(flash, wanted):
    """What was given to the application, and what was said, until the power goes or there is nothing more."""
    gateway = Gateway(flash, wanted)
    given = []

    async def apply(document):
        given.append(document and document["v"])

    try:
        asyncio.run(follow(gateway, apply, PATH, pause_s=0))
    except Over:
        pass
    except PowerCut:
        left_open.append(Opened.last)
    asyncio.new_event_loop()
    return given, gateway.said


def main():
    flash = Flash(16)
    flash.format("/f")
    given, said = life(flash, (1,))
    assert given == [None, 1], given
    assert said == {0: None, 1: None}, said
    configured = bytes(flash.data)
    found = {1: 0, 2: 0}
    tried = 0
    while True:
        flash.data[:] = configured
        flash.reboot("/f")
        gc.collect()
        flash.cut_after(sum(found.values()) + 1)
        given, said = life(flash, (1, 2))
        assert given[0] == 1, given
        if not flash.dead:
            break
        flash.reboot("/f")
        version = load(PATH)["version"]
        found[version] += 1
        given, said = life(flash, (1, 2))
        assert given[0] == version, given
        # What was whole on flash and not known to work is not tried again by itself, and that is said.
        assert said[2] in (None, "restart"), said
        assert given[-1] == (1 if said[2] else 2), (given, said)
        tried += bool(said[2])
    say(old=found[1], new=found[2], restart=tried)


main()
