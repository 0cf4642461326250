"""The device's configuration from the gateway, and the last one that worked on flash."""

import asyncio
import json
import os


def load(path="config.json"):
    """What is on flash: {"version", "document"}; version 0 and None when there is nothing."""
    try:
        with open(path) as f:
            return json.load(f)
    except (OSError, ValueError):
        return {"version": 0, "document": None}


async def follow(device, apply, path="config.json", trial=20, pause_s=3):
    """Keep the device configured: a task that never ends.

    `await apply(document)` is called at once with the document on flash, or None; then with each new one. If it raises,
    or the gateway cannot be told in `trial` attempts `pause_s` apart, it is called with the last one that worked, and
    the gateway is told why. So it is if the device restarts before: what is being tried is in `path`.new.
    """

    async def attempt(config):
        try:
            await apply(config["document"])
        except Exception as e:
            return repr(e)

    new = path + ".new"
    good = load(path)
    why = await attempt(good)
    config = load(new)
    if config["version"]:
        why = "restart"
    else:
        config = good
    left = 0  # attempts; while a document is tried
    while True:
        said = json.dumps({"version": config["version"], "reason": why}).encode()
        try:
            await device.request_response("gateway.config.applied", said)
            if left:
                os.rename(new, path)
                good = config
                left = 0
            stream = device.request_stream("gateway.config", said, n=1)
            data = (await stream.__anext__())[0]
            # The next one is asked for when this one has worked or not: it is the newest then.
            await stream.cancel()
            with open(new, "wb") as f:
                f.write(data)
            config = json.loads(data)
            why = await attempt(config)
            left = trial
        except Exception:
            await asyncio.sleep(pause_s)
            if left > 1:
                left -= 1
            elif left:
                why = "link"
        if left and why:
            left = 0
            os.remove(new)
            await attempt(good)
