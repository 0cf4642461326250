"""A collector of spans as tests need it: OTLP over HTTP, in a thread, read with the protocol's own definitions."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Written

WAIT_S = 30.0


class Seen(NamedTuple):
    """A span; ids in hex, `kind` as the protocol names it, `error` the text of a failed one."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    node: str
    attributes: dict[str, Any]
    error: str
    seconds: float


class Collector:
    """`refusing`: it answers 503."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.requests = 0
        self.refusing = False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.requests += 1
                if self.path != "/v1/traces" or collector.refusing:
                    self.send_error(404 if self.path != "/v1/traces" else 503)
                    return
                collector.spans += _read(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait(self, enough: Callable[[list[Seen]], bool]) -> list[Seen]:
        """The spans, when there are enough. Blocks."""
        until = time.monotonic() + WAIT_S
        while not enough(self.spans):
            assert time.monotonic() < until, self.spans
            time.sleep(0.01)
        return self.spans

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _read(body: bytes) -> list[Seen]:
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        node = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}
                found.append(
                    Seen(
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        Written.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                        node.get("service.instance.id", ""),
                        attributes,
                        span.status.message if span.status.code == 2 else "",
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    )
                )
    return found
