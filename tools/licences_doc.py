"""Write docs/licences.md: whose work is shipped, and under which licence. With --check: only say whether it is current.

Either way it ends with 1 where a licence is not among those that are allowed here, with the reason for each.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import inventory

PAGE = inventory.ROOT / "docs" / "licences.md"
#: Licences under which parts may be shipped with an Apache-2.0 product, and what each asks for.
ALLOWED = {
    "Apache-2.0": "the product's own; the licence's text goes along",
    "BSD-2-Clause": "the notice goes along",
    "BSD-3-Clause": "the notice goes along; nobody is named as a supporter",
    "ISC": "the notice goes along",
    "MIT": "the notice goes along",
    "MIT-0": "asks for nothing",
    "MPL-2.0": "copyleft of the file: what is shipped is unchanged, and its source is on PyPI",
    "PSF-2.0": "that of Python; the notice goes along",
}
HEAD = """\
# Licences

<!-- Written by tools/licences_doc.py from deploy/components.json and tools/vendor. Change those, not this. -->

The gateway is under [Apache-2.0](../LICENSE). With it are shipped, unchanged, the works below. The texts of their
licences go along: those of Python packages are in `*.dist-info` beside each package, those of the dashboard's libraries
in `gateway/admin/dashboard/vendor/LICENSES.txt`.

`make lint` fails where something has a licence that is not in this list, until somebody has thought about it:

"""

OTHERS = """\
`A OR B` is taken under one that is in the list. Python itself, and the Debian packages of the image's base
(`{base}`), are under their own licences, GPL and LGPL among them: they lie in the image beside the
gateway, which is not made of them. Their texts are in `/usr/share/doc/*/copyright` of the image. The
[SBOM](release.md#what-is-in-it) in the image names each, and what is linked into the wheels: OpenSSL and Rust crates
above all.
"""


def main() -> int:
    bad = [
        f"{name}: {licence} is not allowed by tools/licences_doc.py"
        for name, licence in shipped()
        if not allowed(licence)
    ]
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(text(), "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text():
        bad.append(f"{PAGE} is not current: run {sys.argv[0]}")
    print("\n".join(bad), end="\n" if bad else "", file=sys.stderr)
    return 1 if bad else 0


def shipped() -> Iterator[tuple[str, str]]:
    """Name and licence of each work, as its author says it."""
    yield from ((name, record.licence) for name, record in inventory.records().items())
    yield from ((library.name, library.licence) for library in inventory.libraries())


def allowed(expression: str) -> bool:
    """Whether an SPDX expression of AND, OR and parentheses can be kept to: OR leaves the choice, AND asks for both."""
    words = re.findall(r"[()]|[^\s()]+", expression)

    def either() -> bool:
        good = both()
        while words[:1] == ["OR"]:
            words.pop(0)
            good = both() or good
        return good

    def both() -> bool:
        good = one()
        while words[:1] == ["AND"]:
            words.pop(0)
            good = one() and good
        return good

    def one() -> bool:
        if not words:
            return False
        word = words.pop(0)
        if word == "(":
            good = either()
            return words[:1] == [")"] and words.pop(0) == ")" and good
        return word in ALLOWED

    # What is left is no expression of this kind: WITH, or a slip of the pen.
    return either() and not words


def text() -> str:
    lines = [HEAD.rstrip("\n"), "", "| licence | |", "|---|---|"]
    lines += [f"| {name} | {reason} |" for name, reason in sorted(ALLOWED.items())]
    lines += ["", OTHERS.format(base=inventory.base_image()), "## Python packages", ""]
    lines += ["| package | version | licence |", "|---|---|---|"]
    lines += [
        f"| {name} | {record.version} | {record.licence} |" for name, record in sorted(inventory.records().items())
    ]
    lines += ["", "## Libraries of the dashboard", "", "| package | version | licence | in |", "|---|---|---|---|"]
    lines += [
        f"| {library.name} | {library.version} | {library.licence} | {', '.join(map('`{}`'.format, library.files))} |"
        for library in inventory.libraries()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
