"""The telemetry port: ``/metrics``, ``/livez``, ``/readyz`` and ``/version`` for whoever watches the node.

Rules: read-only, and nothing here is a secret, because nobody logs in: no ids of devices or people, no settings, no
addresses; GET and HEAD only. ``/livez`` says that the event loop turns, ``/readyz`` that the node can do its work. Must
not know: what the checks look at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway import __version__
from gateway.admin import exposition
from gateway.admin.exposition import Sources
from gateway.admin.family import Reading
from gateway.admin.http_server import HttpServer
from gateway.observe.loop_lag import LoopLagProbe
from gateway.observe.metrics import Metrics

SETTING: Final = "telemetry.listen"

_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

_logger = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""None when all is well, else why not, in words that anyone may read. Called in the event loop; returns at once."""


class TelemetryServer:
    """Serves ``metrics`` and ``checks`` on ``host:port`` (0 for any free one) and measures the loop's lag meanwhile."""

    def __init__(
        self,
        metrics: Metrics,
        checks: Mapping[str, Check],
        sources: Sources,
        host: str,
        port: int,
        *,
        version: str = __version__,
        workers: Callable[[str], Awaitable[Sequence[tuple[str, Reading]]]] | None = None,
    ) -> None:
        """`workers` reads what the node's other processes have counted, where it has some."""
        self._metrics = metrics
        self._checks = checks
        self._sources = sources
        self._version = version
        self._workers = workers
        self._lag = LoopLagProbe(metrics.loop_lag)
        # Renderings share the loop with the data plane, a slice each; one at a time keeps that to one slice a turn.
        self._rendering = asyncio.Lock()
        app = Starlette(
            routes=[
                Route("/metrics", self._serve_metrics),
                Route("/livez", self._serve_livez),
                Route("/readyz", self._serve_readyz),
                Route("/version", self._serve_version),
            ]
        )
        app.router.redirect_slashes = False
        self._http = HttpServer(app, host, port, SETTING)

    async def start(self) -> int:
        """Listen and return the bound port. Raises ConfigError, naming setting and address, when that is impossible."""
        port = await self._http.start()
        self._lag.start()
        return port

    async def stop(self) -> None:
        self._lag.stop()
        await self._http.stop()

    async def _serve_metrics(self, request: Request) -> Response:
        async with self._rendering:
            workers = None if self._workers is None else await self._workers(self._version)
            body = await exposition.render(self._metrics, self._sources, self._version, workers)
        return Response(body, headers={"content-type": exposition.CONTENT_TYPE, **_HEADERS})

    async def _serve_livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_HEADERS)

    async def _serve_readyz(self, request: Request) -> Response:
        results = {name: _result(name, check) for name, check in self._checks.items()}
        failed = [name for name, why in results.items() if why is not None]
        lines = ["ok" if not failed else f"not ready: {', '.join(failed)}"]
        if request.query_params.get("verbose", "0") not in ("0", "false"):
            lines = [f"{name}: {why or 'ok'}" for name, why in results.items()] + lines
        return PlainTextResponse("\n".join(lines) + "\n", status_code=503 if failed else 200, headers=_HEADERS)

    async def _serve_version(self, request: Request) -> Response:
        return JSONResponse({"name": "rsocket-edge-gateway", "version": self._version}, headers=_HEADERS)


def _result(name: str, check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # a broken check must not hide what the others say
        _logger.exception("readiness check %s raised", name)
        return f"the check raised {type(error).__name__}"
