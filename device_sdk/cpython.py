"""What MicroPython has built in. Never loaded on a board."""

from time import monotonic


def const(value):
    return value


def ticks_ms():
    return int(monotonic() * 1000)


def ticks_add(ticks, delta):
    return ticks + delta


def ticks_diff(end, start):
    return end - start
