"""The HMAC that MicroPython does not have."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

from tests.device.conftest import Start
from tests.device.interpreters import Interpreter


async def test_mac(interpreter: Interpreter, start: Start) -> None:
    key = bytes(range(224, 256))
    secret = urlsafe_b64encode(key).rstrip(b"=").decode()
    assert {"-", "_"} <= set(secret)
    program = await start(interpreter, "signs", secret)
    for n in (0, 1, 63, 64, 200):
        await program.expect(n=n, mac=hmac.digest(key, bytes(range(n)), "sha256").hex())
    await program.finish()
