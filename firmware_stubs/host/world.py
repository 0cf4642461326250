"""What a test says of the world around a device, and what the device does to it: small text files in $HOST_STATE.

Without $HOST_STATE there is a room with a heater, and Wi-Fi. See README.md for the names of the files.
"""

import os


def path(name):
    """Where the file is; None without $HOST_STATE."""
    state = os.getenv("HOST_STATE")
    return state + "/" + name if state else None


def said(name):
    """The text of a file that the test has written, stripped; None where it has not."""
    try:
        with open(path(name) or "") as f:
            return f.read().strip()
    except OSError:
        return None


def do(name, text):
    """Tell the test. Written beside and renamed, so that nobody reads half of it."""
    file = path(name)
    if file:
        with open(file + "~", "w") as f:
            f.write(str(text))
        os.rename(file + "~", file)
