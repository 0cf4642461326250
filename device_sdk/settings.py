"""Settings of one device: `device.json` next to main.py, and on a PC the environment. Loaded only by firmware."""

import json
import os


def load(path="device.json", **defaults):
    """The settings as a dict: `defaults`, then the file (`url`, `device_id`, `token`, `ca`, ...), then GATEWAY_URL,
    GATEWAY_DEVICE_ID and so on, where there is an environment. `ca` names a file and comes back as its bytes."""
    settings = defaults
    try:
        with open(path) as f:
            settings.update(json.load(f))
    except OSError:
        pass
    getenv = getattr(os, "getenv", None)  # boards have none
    if getenv:
        for name in ("url", "device_id", "token", "ca", "verbose"):
            value = getenv("GATEWAY_" + name.upper())
            if value:
                settings[name] = value
    if settings.get("ca"):
        with open(settings["ca"], "rb") as f:
            settings["ca"] = f.read()
    return settings
