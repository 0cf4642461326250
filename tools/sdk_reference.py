"""Write docs/device/reference.md from the device SDK's docstrings. With --check: only say whether it is current."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "device" / "reference.md"

#: Modules that only the SDK itself uses.
INTERNAL = {"connection", "cpython", "fragment", "supervise", "ws"}
#: Of these the SDK itself uses most; what firmware meets.
NAMES = {"stream": {"Stream"}, "tls": {"certificates"}}
METHODS = {"Stream": {"send", "complete", "cancel"}}
#: Read in this order; whatever else there is comes behind them by name.
FIRST = ("__init__", "device", "stream", "settings", "provision", "tls")

HEAD = """\
# Device SDK reference

<!-- Written by tools/sdk_reference.py from the docstrings of device_sdk. Change them there and run it. -->

What each name does. How they go together is in [the guide](sdk.md).
"""

_ATTRIBUTE = re.compile(r"^    ((?:\w+ = )+)(.*?)(?:  # (.*))?$")


def page() -> str:
    """The whole page."""
    found = {path.stem: path for path in (ROOT / "device_sdk").glob("*.py") if path.stem not in INTERNAL}
    order = [name for name in FIRST if name in found] + sorted(set(found) - set(FIRST))
    firmware = sorted((ROOT / "firmware_stubs" / "appliance").glob("*.py"))
    sections = [_module(f"device_sdk.{name}".removesuffix(".__init__"), found[name]) for name in order]
    sections += [_module(path.stem, path) for path in firmware]
    return HEAD + "".join(sections)


def _module(name: str, path: Path) -> str:
    text = path.read_text()
    tree = ast.parse(text)
    parts = [f"\n## {name}\n\n{_prose(tree)}"]
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if node.name not in NAMES.get(path.stem, {node.name}) or ast.get_docstring(node) is None:
            continue
        if isinstance(node, ast.ClassDef):
            parts += _class(node, text)
        else:
            parts.append(f"\n### {_signature(node)}\n\n{_prose(node)}")
    return "".join(parts)


def _class(node: ast.ClassDef, text: str) -> Iterator[str]:
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    made = next((_arguments(each) for each in methods if each.name == "__init__"), "")
    yield f"\n### class {node.name}({made})\n\n{_prose(node)}"
    attributes = [] if node.name in METHODS else list(_attributes(node, text))
    if attributes:
        yield "\n| attribute | default | |\n|---|---|---|\n" + "".join(attributes)
    for each in methods:
        named = each.name in METHODS.get(node.name, {each.name}) and not each.name.startswith("_")
        if named and ast.get_docstring(each) is not None:
            yield f"\n#### {_signature(each)}\n\n{_prose(each)}"


def _attributes(node: ast.ClassDef, text: str) -> Iterator[str]:
    """Those that say what they are, on their own line."""
    lines = text.splitlines()
    for each in node.body:
        if isinstance(each, ast.Assign):
            match = _ATTRIBUTE.match(lines[each.lineno - 1])
            if match is not None and match[3]:
                names = ", ".join(f"`{name}`" for name in match[1].split(" = ")[:-1])
                yield f"| {names} | `{match[2]}` | {match[3]} |\n"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    await_ = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{await_}{node.name}({_arguments(node)})"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^self(, )?", "", ast.unparse(node.args)).replace("*", "\\*")


def _prose(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return (ast.get_docstring(node) or "").rstrip() + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text() == text
        if not current:
            print("docs/device/reference.md is not current: run tools/sdk_reference.py", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
