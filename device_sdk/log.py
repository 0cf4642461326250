"""The last lines that the device logged, served as the stream `<device>.log`."""

import asyncio


class Log:
    """`log = Log(device, clock)`, then `log("what happened")`. Keeps the last `size` lines; `clock` is a `Clock`."""

    n = 0
    lines = ()

    def __init__(self, device, clock, size=32):
        self.clock = clock
        self.size = size
        device.on_stream("log")(self.serve)

    def __call__(self, text):
        self.n += 1
        self.lines = (self.lines + ((self.n, self.clock.up(), text),))[-self.size :]

    async def serve(self, data, meta, out):
        """Each item is `<number> <Unix ms> <text>`. Ends after the last line; with data in the request it follows."""
        i = 0
        while True:
            # Lines are put elsewhere for each new one: who reads slowly has the old ones until here.
            for n, t, text in self.lines:
                if n > i:
                    i = n
                    await out.send(("%d %d %s" % (n, t + self.clock.base, text)).encode())
            if not data:
                break
            await asyncio.sleep(1)
