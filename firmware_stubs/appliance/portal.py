"""A page on the device's own access point, where a person enters Wi-Fi and enrolment line. Loaded at a first boot."""

import asyncio

PAGE = """HTTP/1.0 200 OK\r
Content-Type: text/html; charset=utf-8\r
Cache-Control: no-store\r
\r
<!doctype html><meta name=viewport content="width=device-width"><title>%s</title><h1>%s</h1><p>%s
<form method=post><p>Wi-Fi <input name=ssid> password <input name=key type=password>
<p>Enrolment line<br><textarea name=line rows=5 cols=40></textarea><p><button>Save</button></form>"""


def unquoted(text):
    """A value of a form as it was typed. ValueError."""
    first, *parts = text.replace("+", " ").encode().split(b"%")
    return (first + b"".join([bytes((int(part[:2], 16),)) + part[2:] for part in parts])).decode()


def access_point(ssid, key):
    """Open an access point with WPA2, `key` of 8 characters or more, and return its address."""
    import network

    ap = network.WLAN(network.AP_IF)
    ap.active(True)
    if hasattr(network, "AUTH_WPA2_PSK"):
        ap.config(ssid=ssid, key=key, security=network.AUTH_WPA2_PSK)
    else:  # a Pico W takes WPA2 as a matter of course
        ap.config(ssid=ssid, key=key)
    return ap.ifconfig()[0]


async def serve(boot, name, host, port):
    """Serve the page of a FirstBoot, `name` its title, and return the server."""

    async def answer(reader, writer):
        method = line = await reader.readline()
        length = 0
        while line.strip():
            line = (await reader.readline()).lower()
            if line[:15] == b"content-length:":
                length = int(line[15:])
        if method[:5] == b"POST " and length < 2048:
            form = (await reader.readexactly(length)).decode()
            form = dict([[unquoted(side) for side in pair.split("=")] for pair in form.split("&")])
            await boot.take(form["line"], form["ssid"], form["key"])
        title, state = [
            text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in (name, boot.state)
        ]
        writer.write((PAGE % (title, title, state)).encode())
        await writer.drain()

    async def page(reader, writer):
        try:
            # Who sends nothing must not keep one of the few sockets that there are.
            await asyncio.wait_for(answer(reader, writer), 60)
        except (OSError, EOFError, ValueError, KeyError, asyncio.TimeoutError):
            pass  # nobody is told what is wrong with such a request
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass

    return await asyncio.start_server(page, host, port)
