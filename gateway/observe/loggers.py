"""structlog, imported without rich, which it takes for a style of tracebacks that nobody here asks for.

rich and what it draws in are 4 MiB in every node. Whoever logs gets `structlog` from here.
"""

from __future__ import annotations

import sys

_RICH = "rich"

if _RICH in sys.modules:
    import structlog
else:
    # What cannot be imported: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules[_RICH] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules[_RICH]

__all__ = ["structlog"]
