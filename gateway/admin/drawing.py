"""QR codes as SVG. Drawn here, so that a page needs no library for them. Must not know: what the text means."""

from __future__ import annotations

import asyncio
import io

from gateway.admin.problem import Problem


async def drawn(text: str) -> bytes:
    """The SVG of a text of which a token is the longest part. Raises Problem (422) where it is too long."""
    return await asyncio.to_thread(_svg, text)


def _svg(text: str) -> bytes:
    # A megabyte that few nodes ever need.
    import segno

    out = io.BytesIO()
    try:
        segno.make(text, error="m").save(out, kind="svg", scale=4, xmldecl=False)
    except segno.DataOverflowError as error:
        raise Problem("invalid", errors=[{"pointer": "/token", "detail": "does not fit into a QR code"}]) from error
    return out.getvalue()
