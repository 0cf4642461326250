from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.forwarding.plane_of import Site


@pytest.fixture
def site_with() -> Iterator[Callable[..., Site]]:
    """`site_with(max_streams=2)`: a site where every kind of principal has these limits."""
    made: list[Site] = []

    def make(**limits: int | float) -> Site:
        made.append(Site(**limits))
        return made[-1]

    yield make
    for site in made:
        site.finish()


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    return site_with()
