"""HMACs of messages of several lengths. Argument: the secret."""

import sys
from binascii import hexlify

from program import run, say

from device_sdk.mac import mac


async def main():
    for n in (0, 1, 63, 64, 200):
        say(n=n, mac=hexlify(mac(sys.argv[1], bytes(range(n)))).decode())


run(main)
