"""On how many examples a property is tried: a few, the same each time, in `make test`; many others in `make soak`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "many"

# A machine that does something else, too, is slow at making examples, which says nothing of them.
settings.register_profile(
    "few", max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "many", max_examples=500, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow]
)


def examples(few: int) -> int:
    """For a property that needs others than the usual number."""
    return few * 12 if MANY else few
