"""A node as a process: its loop, its signals, its end."""

from __future__ import annotations

import asyncio
import signal

from gateway import front
from gateway.config import Config, LiveSettings
from gateway.control import first_run
from gateway.control.users import ADMINISTRATOR
from gateway.node import Node
from gateway.observe.logging import configure


async def serve(settings: LiveSettings | Config) -> int:
    """Run a node until SIGTERM, SIGINT, its admin API or itself ends it; then a signal ends it at once. SIGHUP reads
    the certificate again. Returns the exit status."""
    loop = asyncio.get_running_loop()
    node = Node(settings)
    ends = (signal.SIGTERM, signal.SIGINT)
    for number in ends:
        loop.add_signal_handler(number, node.end)
    loop.add_signal_handler(signal.SIGHUP, node.reload_certificate)
    await node.start()
    await _first_run(node)
    await node.wait_for_end()
    for number in ends:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    await node.stop()
    return node.status


async def _first_run(node: Node) -> None:
    """Make an administrator where there is no user yet, and say so, once, on standard output."""
    password = None if node.control is None else await node.control.users.bootstrap()
    if password is not None:
        print(first_run.announce(node.config, node.addresses, ADMINISTRATOR, password), end="", flush=True)


def run(settings: LiveSettings | Config) -> int:
    """Block until the node has stopped; return the exit status. Raises ConfigError or StorageError at start."""
    config = settings.config if isinstance(settings, LiveSettings) else settings
    configure(config.log.level, config.log.format)
    return front.run(serve(settings))
