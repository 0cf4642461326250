import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.admin.exposition import Sources
from gateway.admin.telemetry import TelemetryServer
from gateway.errors import ConfigError
from gateway.observe.loop_lag import INTERVAL_SECONDS
from gateway.observe.metrics import Metrics
from tests.admin.http_exchange import ask


class Node:
    """What a telemetry server looks at, and the server."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.outbox_bytes = 0
        self.troubles: dict[str, str | None] = {"listeners": None, "storage": None}
        self.server = TelemetryServer(
            self.metrics,
            {"listeners": lambda: self.troubles["listeners"], "storage": lambda: self.troubles["storage"]},
            Sources(outbox_bytes=lambda: self.outbox_bytes, routes=lambda: 3),
            "127.0.0.1",
            0,
        )
        self.port = 0


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    node.port = await node.server.start()
    yield node
    await node.server.stop()


async def test_metrics_are_prometheus_text_of_this_moment(node: Node) -> None:
    node.metrics.counters.frames_in += 5
    node.outbox_bytes = 4096
    answer = await ask(node.port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert values["gateway_frames_total", "received"] == 5
    assert values["gateway_outbox_bytes",] == 4096
    assert values["gateway_routes",] == 3
    assert values["gateway_info", __version__] == 1

    node.metrics.counters.frames_in += 1
    assert 'gateway_frames_total{direction="received"} 6.0' in (await ask(node.port, "/metrics")).text


async def test_many_scrapes_at_once_are_all_answered(node: Node) -> None:
    for number in range(50):
        node.metrics.service_stats(f"service-{number}", by_device=False).observe(0.001)
    answers = await asyncio.gather(*(ask(node.port, "/metrics") for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert all(answer.text.count("gateway_request_duration_seconds_count{") == 50 for answer in answers)


async def test_no_device_id_is_shown(node: Node) -> None:
    node.metrics.service_stats("thermostat-4711", by_device=True).ok += 1
    text = (await ask(node.port, "/metrics")).text
    assert "4711" not in text
    assert 'gateway_requests_total{outcome="ok",service="(devices)"} 1.0' in text


async def test_the_loop_s_lag_is_measured_while_it_serves() -> None:
    measured = asyncio.Event()

    class Watched(Metrics):
        def loop_lag(self, seconds: float) -> None:
            super().loop_lag(seconds)
            measured.set()

    server = TelemetryServer(Watched(), {}, Sources(lambda: 0, lambda: 0), "127.0.0.1", 0)
    await server.start()
    async with asyncio.timeout(30):
        await measured.wait()
    await server.stop()
    measured.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.2 * INTERVAL_SECONDS):
            await measured.wait()


async def test_live(node: Node) -> None:
    node.troubles["storage"] = "disk full"
    answer = await ask(node.port, "/livez")
    assert (answer.status, answer.text) == (200, "ok\n")


async def test_ready_says_which_check_fails_and_recovers(node: Node) -> None:
    answer = await ask(node.port, "/readyz")
    assert (answer.status, answer.text) == (200, "ok\n")
    node.troubles["storage"] = "disk full"
    answer = await ask(node.port, "/readyz")
    assert (answer.status, answer.text) == (503, "not ready: storage\n")
    node.troubles["storage"] = None
    assert (await ask(node.port, "/readyz")).status == 200


@pytest.mark.parametrize("query", ["?verbose=1", "?verbose", "?verbose=true"])
async def test_ready_verbosely_lists_each_check(node: Node, query: str) -> None:
    answer = await ask(node.port, f"/readyz{query}")
    assert (answer.status, answer.text) == (200, "listeners: ok\nstorage: ok\nok\n")
    node.troubles["listeners"] = "draining"
    answer = await ask(node.port, f"/readyz{query}")
    assert (answer.status, answer.text) == (503, "listeners: draining\nstorage: ok\nnot ready: listeners\n")


@pytest.mark.parametrize("query", ["?verbose=0", "?verbose=false", "?other=1"])
async def test_ready_tersely(node: Node, query: str) -> None:
    assert (await ask(node.port, f"/readyz{query}")).text == "ok\n"


async def test_a_check_that_raises_means_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise ZeroDivisionError("token=secret")

    server = TelemetryServer(
        Metrics(), {"broken": broken, "fine": lambda: None}, Sources(lambda: 0, lambda: 0), "127.0.0.1", 0
    )
    port = await server.start()
    with caplog.at_level(logging.ERROR):
        answer = await ask(port, "/readyz?verbose=1")
    await server.stop()
    assert answer.status == 503
    assert answer.text == "broken: the check raised ZeroDivisionError\nfine: ok\nnot ready: broken\n"
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_version(node: Node) -> None:
    answer = await ask(node.port, "/version")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {"name": "rsocket-edge-gateway", "version": __version__}


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/version"])
class TestEveryPath:
    async def test_head_is_get_without_the_body(self, node: Node, path: str) -> None:
        answer = await ask(node.port, path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 0

    async def test_nothing_can_be_written(self, node: Node, path: str) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
            answer = await ask(node.port, path, method)
            assert answer.status == 405, method
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}

    async def test_nothing_is_kept_by_caches(self, node: Node, path: str) -> None:
        headers = (await ask(node.port, path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers

    async def test_the_path_is_exact(self, node: Node, path: str) -> None:
        assert (await ask(node.port, f"{path}/")).status == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/../etc/passwd"])
async def test_there_is_nothing_else(node: Node, path: str) -> None:
    assert (await ask(node.port, path)).status == 404


async def test_a_taken_port_is_an_error_of_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = TelemetryServer(Metrics(), {}, Sources(lambda: 0, lambda: 0), "127.0.0.1", port)
        with pytest.raises(ConfigError, match=rf"^telemetry\.listen: cannot listen on 127\.0\.0\.1:{port}: Address"):
            await server.start()


async def test_starting_and_stopping_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    node = Node()
    port = await node.server.start()
    assert (await ask(port, "/readyz")).status == 200
    await node.server.stop()
    assert asyncio.all_tasks() == before
    with socket.create_server(("127.0.0.1", port)):
        pass
