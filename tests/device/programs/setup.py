"""Connect twice with settings of every kind."""

from program import device, run


async def main():
    dev = device(services=("dev-1", "plant/7/thermo"), keepalive_ms=7000, lifetime_ms=30000)
    for _ in range(2):
        await dev.connect()
        await dev.close()
    try:
        device(no_such_setting=1)
    except AttributeError:
        return
    raise AssertionError


run(main)
