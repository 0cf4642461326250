"""Firmware updates from the gateway, pulled: verified, tried, confirmed or rolled back, and reported."""

import asyncio
import json
from binascii import unhexlify

from . import Busy, RSocketError
from .mac import mac


async def ota(dev, store, board, version, secret, healthy=None, trial_s=300, n=4):
    """Keep a device up to date, for ever: `asyncio.create_task(ota(dev, Slots(), "board", "1.2.0", secret))`.

    `secret` is the enrolment's. An image on trial is confirmed when the gateway was reached and the coroutine function
    `healthy` did not raise, and is rolled back after `trial_s`. `n` chunks are on their way at most.
    """
    state = store.state
    wake = asyncio.Event()

    async def check(data, meta):
        wake.set()

    async def ask(**more):
        text = json.dumps(dict(state, board=board, version=version, **more))
        return json.loads((await dev.request_response("gateway.firmware.report", text.encode()))[0])

    async def trial():
        await dev.wait_up()
        try:
            await ask()
        except Exception:
            pass  # there is a link
        if healthy:
            await healthy()

    dev.on("firmware.check")(check)
    if state["state"] == "trial":
        try:
            await asyncio.wait_for(trial(), trial_s)
            store.confirm()
        except Exception as e:
            store.rollback(repr(e))
    while True:
        wait = 60
        await dev.wait_up()
        try:
            answer = await ask()
            new = answer["update"]
            if new:
                new["board"] = board
                text = "gateway-firmware\n%(id)s\n%(board)s\n%(version)s\n%(size)d\n%(sha256)s" % new
                again = state["state"] == "downloading"
                state.update(state="downloading", id=new["id"])
                if mac(secret, text.encode()) != unhexlify(new["mac"]):
                    raise ValueError("signature")
                store.begin(new["size"], new["sha256"])
                if not again:
                    await ask()
                if state["offset"] < new["size"]:
                    text = json.dumps({"id": new["id"], "offset": state["offset"], "chunk": store.chunk})
                    async for data, _ in dev.request_stream("gateway.firmware", text.encode(), b"", n, 30000):
                        store.write(data)
                        state["offset"] += len(data)
                if not store.finish():
                    raise ValueError("image")
                try:
                    await ask(state="verified")
                finally:
                    store.reset()
            wait = answer["check_s"]
        except (RSocketError, Busy, asyncio.TimeoutError):
            pass  # no such service, or not now
        except Exception as e:
            wait = dev.up.is_set()  # if not, it was the link, whatever it raised
            if wait:
                store.keep(state="failed", reason=str(e))
        try:
            await asyncio.wait_for(wake.wait(), wait)
        except asyncio.TimeoutError:
            pass
        wake.clear()
