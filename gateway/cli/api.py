"""The admin API as a command sees it: documents in, documents out, problems as errors with a text for a person.

A data directory's own context signs in with a token that lives minutes and is signed with the node's key; others with
their API key. Must not know: what a document means.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.cli.contexts import Context
from gateway.cli.data_directory import BRIEF_S, OPERATOR
from gateway.cli.target import from_here
from gateway.control.runtime import Runtime
from gateway.errors import GatewayError

PREFIX = "/api/v1"
AUDIENCE = "gateway-admin"
PAGE = 200
TIMEOUT_S = 15.0
#: A stream of events has a heartbeat every 15 s.
SILENCE_S = 60.0

Document = dict[str, Any]


class Problem(GatewayError):
    """The API said no. `slug` names the problem (`gateway explain SLUG`), `status` is that of HTTP."""

    def __init__(self, status: int, document: Document) -> None:
        self.status = status
        self.slug = str(document.get("type", "")).rpartition("/")[2]
        title, detail = str(document.get("title", "")), str(document.get("detail", ""))
        lines = [f"{title}: {detail}" if title and detail else title or detail or f"HTTP status {status}"]
        for error in document.get("errors") or ():
            what = error.get("detail") or error.get("source") or ""
            code = f"{error['code']} " if error.get("code") else ""
            if code or what not in lines[0]:
                lines.append(f"  {error.get('document', '')}{error.get('pointer', '')}: {code}{what}")
        if self.slug:
            lines[0] += f" (more: gateway explain {self.slug})"
        super().__init__("\n".join(lines), reason="problem")


class Api:
    """One signed-in client; close it. Methods raise `Problem`, and GatewayError (unreachable) where no answer comes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.url = context.admin
        ca = context.ca
        if context.data is not None:
            self.url, ca = _local_url(context.data), context.data / "identity" / "ca.pem"
        # Without TLS there is nobody to trust, and reading whom the system trusts takes longer than most commands.
        verify: Any = self.url.startswith("https:")
        if verify and ca is not None:
            try:
                verify = ssl.create_default_context(cafile=str(ca))
            except (OSError, ssl.SSLError) as error:
                raise GatewayError(f"{ca} cannot be used as an authority: {error}") from error
        credential = _credential(context)
        authorization = {"Authorization": f"Bearer {credential}"} if credential else {}
        self._client = httpx.Client(
            base_url=self.url,
            headers={"User-Agent": "gateway-cli", **authorization},
            timeout=httpx.Timeout(TIMEOUT_S),
            verify=verify,
            # A proxy for the world is none for a node.
            trust_env=False,
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        return self.ask("GET", path, params=params).json()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        dry_run: bool = False,
        match: str | None = None,
        content: bytes | Iterator[bytes] | None = None,
        media: str | None = None,
        **params: Any,
    ) -> Any:
        """Change something. `match` is an ETag, or `*` for whatever stands. Returns the answer's document, or None."""
        headers = {}
        if match is not None:
            headers["If-Match"] = match
        if media is not None:
            headers["Content-Type"] = media
        if dry_run:
            params["dry_run"] = "1"
        answer = self.ask(method, path, params=params, headers=headers, json=body, content=content)
        return answer.json() if answer.content else None

    def entries(self, path: str, limit: int = 0, **params: Any) -> Iterator[Document]:
        """The entries of a list, page by page, at most `limit` of them (0: all)."""
        left = limit or None
        cursor: str | None = None
        while True:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, limit=size, cursor=cursor, **params)
            yield from page["data"]
            cursor = page["meta"].get("next")
            if left is not None:
                left -= len(page["data"])
            if not cursor or left == 0:
                return

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request and its whole answer. `path` is below the API's prefix, unless it begins with a dot."""
        with self._told():
            answer = self._client.request(method, _full(path), **_cleaned(options))
            _check(answer)
            return answer

    def download(self, path: str, to: Path) -> None:
        """Write what is there into a new file, whole or not at all."""
        part = to.with_name(f".{to.name}.part")
        with self._told(), self._client.stream("GET", _full(path)) as answer:
            _check(answer)
            part.touch(mode=0o600)
            with part.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        part.rename(to)

    def events(self, path: str, **params: Any) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (kind, document), until the server ends them."""
        timeout = httpx.Timeout(TIMEOUT_S, read=SILENCE_S)
        options = _cleaned({"params": params})
        with self._told(), self._client.stream("GET", _full(path), timeout=timeout, **options) as answer:
            _check(answer)
            kind, data = "message", ""
            for line in answer.iter_lines():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if not line and data:
                    yield kind, json.loads(data)
                    kind, data = "message", ""
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one line what keeps an answer from coming."""
        try:
            yield
        except httpx.HTTPError as error:
            raise GatewayError(f"{self.url}: {_why(error)}", reason="unreachable") from error


def _why(error: httpx.HTTPError) -> str:
    """In the system's own words, not in those of the libraries between."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ProtocolError):
        return f"what is there is no admin API ({error})"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS is spoken there ({cause.reason})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or repr(error)


def _full(path: str) -> str:
    return path[1:] if path.startswith("./") else PREFIX + path


def _cleaned(options: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = {name: value for name, value in options.items() if value is not None}
    if "params" in cleaned:
        cleaned["params"] = {
            name.rstrip("_"): str(value).lower() if isinstance(value, bool) else value
            for name, value in cleaned["params"].items()
            if value is not None and value != ""
        }
    return cleaned


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    answer.read()
    try:
        document = answer.json()
    except ValueError:
        document = {}
    raise Problem(answer.status_code, document if isinstance(document, dict) else {})


def _local_url(data: Path) -> str:
    runtime = Runtime.read(data)
    if runtime is None or not runtime.admin:
        state = "no node runs on" if runtime is None else "the node has its admin API off (admin.listen) in"
        raise GatewayError(f"{state} {data}; start one with: gateway run --data {data}", reason="unreachable")
    return from_here(runtime.admin)


def _credential(context: Context) -> str:
    if context.data is None:
        return context.key
    from gateway.control.identity import Identity
    from gateway.policy.principal import Kind

    now = time.time()
    return Identity.open(context.data).mint(OPERATOR, Kind.ADMIN, (), ("*",), BRIEF_S, now, audience=AUDIENCE)
