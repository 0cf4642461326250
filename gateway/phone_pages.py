"""The phone page as the devices' port gives it: the same files as on the admin port."""

from __future__ import annotations

from typing import Final

from gateway.admin.static import Static
from gateway.transport.pages import Page, moved, page

PREFIX: Final = "/phone/"
_HEADERS: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def phone_pages() -> dict[str, Page]:
    """By path. Reads from disk."""
    files = {path: page(file.body, file.packed, {**file.headers, **_HEADERS}) for path, file in Static().below(PREFIX)}
    return {**files, PREFIX.removesuffix("/"): moved(PREFIX)} if files else {}
