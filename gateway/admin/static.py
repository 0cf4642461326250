"""The files of the dashboard and of the phone page, as they are in `dashboard/`: no build step, nothing from elsewhere.

`/` is the dashboard. What it loads is below `/ui/<digest>/`, where the digest is of all files together: browsers keep
them for a year and ask for new ones after an upgrade, and modules import each other by relative paths. `/phone/` has
fixed paths, because a service worker needs them. Everybody may read them: nothing of this node is in them.

Must not know: the API, who is asking.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

FOLDER: Final = Path(__file__).with_name("dashboard")
_INDEX: Final = "index.html"
#: Where `index.html` names the folder that its files are in.
_PLACE: Final = b"/ui/-/"
#: Of what others have made, the phone page needs this alone.
_SCANNER: Final = "vendor/jsqr.js"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_LOOK_AGAIN: Final = "no-cache"
_SMALL: Final = 1024

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src {to}; "
    "manifest-src 'self'; {more}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DASHBOARD_HEADERS: Final = MappingProxyType({"content-security-policy": _POLICY.format(to="'self'", more="")})
#: A phone connects to whichever node its credential names, and its camera reads the code.
PHONE_HEADERS: Final = MappingProxyType(
    {
        "content-security-policy": _POLICY.format(to="'self' ws: wss:", more="worker-src 'self'; "),
        "permissions-policy": "camera=(self)",
    }
)


@dataclass(frozen=True, slots=True)
class File:
    """What is answered to a GET; `packed` is the body in gzip, where that is smaller."""

    body: bytes
    packed: bytes | None
    headers: MappingProxyType[str, str]


class Static:
    """Serves `folder`. Files are read when they are first asked for, away from the event loop, and then kept."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, File] = {}

    def serves(self, path: str) -> bool:
        """Whether a path is of the dashboard rather than of the API."""
        return path == "/" or path.startswith(("/ui/", "/phone/")) or path in ("/phone", "/favicon.ico")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD of a path that it `serves`."""
        # Here, because the processes of a node that have no admin port take files from here, too.
        from starlette.datastructures import Headers
        from starlette.responses import Response

        path = scope["path"]
        if path in ("/phone", "/favicon.ico"):
            to = "phone/" if path == "/phone" else "phone/icon.svg"
            await Response(status_code=308, headers={"location": to})(scope, receive, send)
            return
        file = self._files.get(path) or await asyncio.to_thread(self.file, path)
        if file is None:
            text = "no such file: the node may have been upgraded since the page was loaded; load it again\n"
            await Response(text, 404, media_type="text/plain")(scope, receive, send)
            return
        await _response(file, Headers(scope=scope))(scope, receive, send)

    def file(self, path: str) -> File | None:
        """The file at a path of a URL, or None. Reads from disk."""
        name, headers = self._named(path)
        if not name or (found := self._at(name)) is None:
            return None
        body = found.read_bytes()
        if name == _INDEX:
            body = body.replace(_PLACE, f"/ui/{self.digest}/".encode())
        packed = gzip.compress(body, 9, mtime=0) if len(body) > _SMALL and found.suffix != ".png" else None
        kept = path.startswith("/ui/")
        all_headers = {
            "content-type": _TYPES.get(found.suffix, "application/octet-stream"),
            "cache-control": _IMMUTABLE if kept else _LOOK_AGAIN,
            "etag": f'"{hashlib.sha256(body).hexdigest()[:20]}"',
            "vary": "accept-encoding",
            **headers,
        }
        file = File(body, packed, MappingProxyType(all_headers))
        self._files[path] = file
        return file

    def below(self, prefix: str) -> Iterator[tuple[str, File]]:
        """The files of the phone page by path. Reads from disk."""
        own = self._folder / "phone"
        names = [path.relative_to(own).as_posix() for path in sorted(own.rglob("*"))]
        names += [path.relative_to(self._folder).as_posix() for path in sorted((self._folder / "client").rglob("*"))]
        for name in (*names, _SCANNER):
            path = prefix if name == _INDEX else prefix + name
            file = self.file(path)
            if file is not None:
                yield path, file

    @cached_property
    def digest(self) -> str:
        """Of all files, by name and content: 12 hexadecimal digits."""
        found = hashlib.sha256()
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                found.update(path.relative_to(self._folder).as_posix().encode() + b"\0")
                found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()[:12]

    def _named(self, path: str) -> tuple[str, MappingProxyType[str, str]]:
        if path == "/":
            return _INDEX, DASHBOARD_HEADERS
        if path == "/phone/":
            return "phone/index.html", PHONE_HEADERS
        if path.startswith("/phone/"):
            # These two are beside it in the folder; a service worker may only keep what is below its own path.
            shared = path.startswith(("/phone/client/", "/phone/vendor/"))
            return path.removeprefix("/phone/" if shared else "/"), PHONE_HEADERS
        digest, _, name = path.removeprefix("/ui/").partition("/")
        return (name if digest == self.digest else ""), DASHBOARD_HEADERS

    def _at(self, name: str) -> Path | None:
        path = self._folder / name
        # Nothing outside of the folder, by whatever dots or links.
        if "\0" in name or not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
            return None
        return path


def _response(file: File, asked: Headers) -> Response:
    from starlette.responses import Response

    headers = dict(file.headers)
    if headers["etag"] in asked.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in asked.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.packed, headers=headers)
    return Response(file.body, headers=headers)
