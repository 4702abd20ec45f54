"""Each framework, on a real server: every request is counted once, by route, and traced once, with its query."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.load import counted, settled
from tests.support.otlp import CLIENT, SERVER, Receiver, Span
from tests.support.servers import Server
from tests.system.apps.routes import EVERY_APP, App

CASES = [pytest.param(app, app.servers[0], id=f"{app.name}-{app.servers[0]}") for app in EVERY_APP]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("app", "server"), CASES)
def test_requests_are_counted_and_traced_once_by_route(
    serve: Callable[..., Server], otlp_http: Receiver, app: App, server: str
) -> None:
    running = serve(server, app.target, env=otlp_http.env())
    before = running.scrape()

    for number in range(5):
        assert running.get(f"/items/{number}" if app.item else "/").status_code == 200
    assert running.get("/nowhere/at/all").status_code == 404
    assert running.get("/boom").status_code == 500 or app.item is None
    assert running.get("/stream").status_code == 200
    assert running.get("/", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).status_code == 200
    if app.sql:
        assert running.get("/items/none").status_code == 404
        assert running.get("/query").text == "soup"

    settled(running, counted(before) + 9 + 2 * app.sql)
    added = running.scrape() - before
    assert counted(added) == 9 + 2 * app.sql, "one count a request"
    if app.item:
        assert counted(added, http_route=app.item, http_response_status_code="200") == 5
        assert counted(added, http_route=app.item, http_response_status_code="404") == 1
        assert counted(added, http_route="/boom", http_response_status_code="500") == 1
        assert counted(added, http_route="/stream") == 1
        assert added.labels("http_server_request_duration_seconds_count", "http_route") <= {
            *(app.item, "/boom", "/stream", "/query", "/"),
            *running.scrape().labels("http_server_request_duration_seconds_count", "http_route")
            - {"/nowhere/at/all"},
        }
    assert "/nowhere/at/all" not in str(added.samples), "paths that no route knows are never labels"

    def of_ours(span: Span) -> bool:
        return span.attributes.get("url.path") not in ("/__ready__", "/metrics")

    otlp_http.wait_for_spans(9 + 2 * app.sql, SERVER)
    running.stop()  # ends the export of everything
    spans = [span for span in otlp_http.spans(SERVER) if of_ours(span)]
    assert len(spans) == 9 + 2 * app.sql, [span.name for span in spans]
    if app.item:
        assert [span.name for span in spans].count(f"GET {app.item}") == 6
        assert {span.attributes["url.path"] for span in spans if span.name == f"GET {app.item}"} == {
            *(f"/items/{number}" for number in range(5)),
            "/items/none",
        }
    (child,) = [span for span in spans if span.trace_id == TRACE]
    assert child.parent_id == PARENT
    (failed,) = [span for span in spans if span.attributes["url.path"] == "/boom"]
    assert failed.status == 2
    assert failed.attributes["error.type"]
    assert {span.resource["service.name"] for span in spans} == {"shop"}


@pytest.mark.parametrize(("app", "server"), [case for case in CASES if case.values[0].sql])
def test_a_query_is_a_client_span_under_its_request_and_counted_by_route(
    serve: Callable[..., Server], otlp_http: Receiver, app: App, server: str
) -> None:
    running = serve(server, app.target, env=otlp_http.env())
    before = running.scrape()
    for _ in range(3):
        assert running.get("/query").text == "soup"
    settled(running, counted(before) + 3)

    queries = running.scrape() - before
    assert (
        queries.total(
            "db_client_operation_duration_seconds_count",
            http_route="/query",
            db_operation_name="SELECT",
            db_collection_name="item",
            db_system_name="sqlite",
        )
        == 3
    )

    otlp_http.wait_for_spans(3, CLIENT)
    running.stop()
    requests = [span for span in otlp_http.spans(SERVER) if span.name == "GET /query"]
    assert len(requests) == 3
    for request in requests:
        (select,) = [span for span in otlp_http.spans(CLIENT) if span.trace_id == request.trace_id]
        assert request.span_id in ancestors(select, otlp_http.spans())
        assert select.name == "SELECT item"
        assert select.attributes["db.system.name"] == "sqlite"


def ancestors(span: Span, spans: list[Span]) -> list[str]:
    """Ids of the spans above `span`: a framework may put spans of its own in between, as FastAPI does."""
    by_id = {each.span_id: each for each in spans}
    found = []
    while parent := by_id.get(span.parent_id):
        found.append(parent.span_id)
        span = parent
    return found
