"""Files that the devices' port gives to browsers: whole HTTP answers, made once and kept.

Must not know: what is in them.
"""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import NamedTuple


class Page(NamedTuple):
    """Answers to a GET: as it is, for who takes gzip (None where that is no smaller), and for who has it."""

    plain: bytes
    packed: bytes | None
    unchanged: bytes
    etag: str

    def answer(self, accepts: str, has: str) -> bytes:
        """`accepts`, `has`: Accept-Encoding and If-None-Match."""
        if self.etag in has:
            return self.unchanged
        return self.packed if self.packed is not None and "gzip" in accepts else self.plain


def page(body: bytes, packed: bytes | None, headers: Mapping[str, str]) -> Page:
    """`packed` is the body in gzip; `headers` have an `etag`."""
    ok, same = http.HTTPStatus.OK, http.HTTPStatus.NOT_MODIFIED
    return Page(
        _head(ok, {**headers, "content-length": str(len(body))}) + body,
        None
        if packed is None
        else _head(ok, {**headers, "content-encoding": "gzip", "content-length": str(len(packed))}) + packed,
        _head(same, headers),
        headers["etag"],
    )


def moved(to: str) -> Page:
    """A page that is elsewhere now."""
    answer = _head(http.HTTPStatus.PERMANENT_REDIRECT, {"location": to, "content-length": "0"})
    return Page(answer, None, answer, "\0")


def _head(status: http.HTTPStatus, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n{lines}\r\n".encode()
