"""The data plane: connections, the streams that cross between them, and what waits to leave. See ARCHITECTURE.md."""

from importlib.util import find_spec


def _compiled() -> bool:
    """Whether the hot path runs as extension modules; looks at the files and imports nothing."""
    spec = find_spec(f"{__name__}.connection")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


#: Same sources, same behaviour, another speed (docs/adr/0004).
COMPILED = _compiled()
