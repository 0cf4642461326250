"""Until a device has a credential: ask for an enrolment line, by a file, the serial console, or a page of its own.

For MicroPython; a device with a shell is given the line by `device_sdk.provision.enrol`.
"""

import asyncio
import sys

from device_sdk import RSocketError
from device_sdk.provision import enrol, erase, save


class FirstBoot:
    """Takes an enrolment line from the file `enroll.txt`, the serial console, and the page (`portal.serve`).

    `net`: a Wifi; it and `settings["wifi"]` are given the name and key that a person enters. `device_id`:
    the id to take where the line leaves that open. `state` is a text for people: waiting, working, done, or what is
    wrong; `say` is called with each.
    """

    state = "waiting"

    def __init__(self, settings, net=None, device_id="", say=print):
        self.settings = settings
        self.net = net
        self.device_id = device_id
        self.say = say
        self.done = asyncio.Event()
        self._lock = asyncio.Lock()

    async def run(self, name="", key="", port=80):
        """Return when there is a credential. Whoever calls it resets the board then.

        With a `key` of 8 characters or more, as on the device's label, there is an access point `name` with a page.
        """
        server = None
        if key:
            from portal import access_point, serve

            server = await serve(self, name, access_point(name, key), port)
        try:
            with open("enroll.txt") as f:
                await self.take(f.read())
        except OSError:
            pass
        reading = asyncio.create_task(self._read())
        await self.done.wait()
        reading.cancel()
        if server:
            server.close()

    async def take(self, line, ssid="", key=""):
        """Try a line, with the Wi-Fi that leads to the node. Returns the state."""
        async with self._lock:
            if self.done.is_set():
                return self.state
            self._now("working")
            try:
                if ssid:
                    self._wifi(ssid, key)
                if self.net:
                    await self.net.ensure_up()
                await enrol(line, self.device_id)
                if ssid:
                    save(wifi=[ssid, key])
                self._now("done")
                self.done.set()
            except RSocketError as e:
                self._now("refused: " + e.text)
            except ValueError as e:
                self._now("wrong: " + str(e))
            except (OSError, EOFError, asyncio.TimeoutError) as e:
                self._now("no way to the gateway: " + repr(e))
            return self.state

    def _wifi(self, *login):
        self.settings["wifi"] = login
        if self.net and tuple(self.net.login) != login:
            self.net.login = login
            # It may be in another one by now.
            self.net.wlan.active(False)

    def _now(self, state):
        self.state = state
        self.say(state)

    async def _read(self):
        """The console's words: `wifi NAME KEY`, `erase`, or a line."""
        self._now("waiting")
        reader = asyncio.StreamReader(sys.stdin)
        while True:
            line = (await reader.readline()).decode()
            words = line.split()
            if not line:
                return
            if words == ["erase"]:
                erase()
                self._now("erased")
            elif words and words[0] == "wifi" and len(words) == 3:
                self._wifi(*words[1:])
                save(wifi=words[1:])
                self._now("wifi " + words[1])
            elif words:
                await self.take(line)
