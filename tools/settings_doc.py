"""Write docs/settings.md from the settings that the program declares. With --check: only say whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Config, KindLimits, settings
from gateway.policy.limits import profile_for
from gateway.policy.principal import Kind

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Written by tools/settings_doc.py from gateway/config. Change the declarations there and run it. -->

A setting is `section.name` here, `name` in the table `[section]` of the TOML file, and `GATEWAY__SECTION__NAME` in the
environment. Strongest first: the command line, the environment, a file of that name in `/run/secrets`, the TOML file,
the default. A name that is no setting stops the start, and the message has the nearest real name. All are read once, at
the start.

```toml
[listen]
websocket = "0.0.0.0:7878"

[limits.device]
max_streams = 64
```

```sh
GATEWAY__LISTEN__WEBSOCKET=0.0.0.0:7878 GATEWAY__LIMITS__DEVICE__MAX_STREAMS=64 gateway run
```

`gateway run --dev` turns TLS off and listens on loopback; the table has both defaults where they differ.
"""

LIMITS = """
## limits.\\<kind\\>

Limits of one connection, by the kind in its token. `limits.device.max_streams = 64` changes one figure of one kind.

"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_sections()) + LIMITS + _kinds()


def _sections() -> Iterator[str]:
    for section, field in Config.model_fields.items():
        assert field.annotation is not None
        yield f"\n## {section}\n\n{(field.annotation.__doc__ or '').strip()}\n\n"
        yield "| setting | default | meaning |\n|---|---|---|\n"
        for setting in settings():
            if setting.path[0] == section and len(setting.path) == 2:
                yield f"| `{setting.dotted}` | {_default(setting.default, setting.dev)} | {setting.help} |\n"


def _default(default: str, dev: str | None) -> str:
    shown = default if " " in default else f"`{default}`" if default else "–"
    return shown if dev is None else f"{shown}; with `--dev` `{dev}`"


def _kinds() -> str:
    lines = [f"| setting | {' | '.join(Kind)} | meaning |", f"|---|{'---|' * len(Kind)}---|"]
    for name, field in KindLimits.model_fields.items():
        figures = " | ".join(f"{getattr(profile_for(kind), name):,}" for kind in Kind)
        lines.append(f"| `{name}` | {figures} | {field.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text() == page() else f"{PAGE} is not current: run {sys.argv[0]}")
    PAGE.write_text(page())
