"""Numbers of connections: from one up in each process, and different in all processes that a node has had in one run.

A node's first process numbers from 1. A worker's begin with which start it is (of all workers) and which worker, so
that a number says where its connection is.
"""

from __future__ import annotations

#: Connections of one process in its life: more than ten thousand a second for a week.
_PROCESS = 10**10
_WORKERS = 100


def behind(index: int, start: int) -> int:
    """What connections of a worker are numbered from: the worker `index`, in the `start`th start of any."""
    return (start * _WORKERS + index) * _PROCESS


def process_of(number: int) -> int:
    """The index of the process that a connection is, or was, connected to; the first process is 0."""
    return number // _PROCESS % _WORKERS
