"""Waiting for what other processes do."""

from __future__ import annotations

from functools import partial

from tests.local_node import until as until_within

until = partial(until_within, timeout=30)
