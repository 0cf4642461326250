"""Send a request whose metadata and data are both longer than a frame."""

from program import device, run, say, text

from device_sdk.stream import entry


async def main():
    dev = device(max_tx_frame=256)
    await dev.connect()
    meta = entry(b"\x17application/octet-stream", b"m" * 300)
    data, _ = await dev.request_response("put", bytes(range(256)) * 4, meta)
    say(answer=text(data))
    await dev.close()


run(main)
