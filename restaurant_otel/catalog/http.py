"""Requests and WebSockets."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import BYTES, CONNECTION_SECONDS, SECONDS, Across, Kind, Metric

_HTTP_REQUEST: Final = (
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "url.scheme",
    "network.protocol.version",
    "error.type",
)

HTTP_SERVER_REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    "s",
    Kind.HISTOGRAM,
    "Time from the request's arrival to the last byte of its response, without background tasks.",
    _HTTP_REQUEST,
    SECONDS,
)
HTTP_SERVER_TIME_TO_FIRST_BYTE: Final = Metric(
    "restaurant.http.server.time_to_first_byte",
    "s",
    Kind.HISTOGRAM,
    "Time from the request's arrival to the start of its response.",
    ("http.request.method", "http.route"),
    SECONDS,
)
HTTP_SERVER_REQUEST_BODY_SIZE: Final = Metric(
    "http.server.request.body.size",
    "By",
    Kind.HISTOGRAM,
    "Size of request bodies, of those requests that have one: Content-Length, or else what the app has read.",
    _HTTP_REQUEST,
    BYTES,
)
HTTP_SERVER_RESPONSE_BODY_SIZE: Final = Metric(
    "http.server.response.body.size",
    "By",
    Kind.HISTOGRAM,
    "Size of response bodies as the app produced them.",
    _HTTP_REQUEST,
    BYTES,
)
HTTP_SERVER_ACTIVE_REQUESTS: Final = Metric(
    "http.server.active_requests",
    "{request}",
    Kind.UP_DOWN_COUNTER,
    "Requests in flight.",
    ("http.request.method", "url.scheme"),
)
HTTP_SERVER_INTERRUPTED: Final = Metric(
    "restaurant.http.server.interrupted_requests",
    "{request}",
    Kind.COUNTER,
    "Responses that did not reach their end, by what ended them: client_disconnect, cancelled, incomplete.",
    ("http.request.method", "http.route", "restaurant.outcome"),
)
HTTP_SERVER_PAGE: Final = Metric(
    "restaurant.http.server.page",
    "{route}",
    Kind.GAUGE,
    "1 for each route whose first successful answer to a GET was HTML: a page, by which visitors judge the app.",
    ("http.route",),
    across=Across.MAX,
)

# --- WebSockets ---------------------------------------------------------------------------------------

WEBSOCKET_CONNECTION_DURATION: Final = Metric(
    "restaurant.websocket.connection.duration",
    "s",
    Kind.HISTOGRAM,
    "Time from a WebSocket's handshake to its close.",
    ("http.route", "restaurant.websocket.close_code", "error.type"),
    CONNECTION_SECONDS,
)
WEBSOCKET_ACTIVE_CONNECTIONS: Final = Metric(
    "restaurant.websocket.active_connections",
    "{connection}",
    Kind.UP_DOWN_COUNTER,
    "WebSockets open, those in their handshake included.",
    ("url.scheme",),
)
WEBSOCKET_MESSAGES: Final = Metric(
    "restaurant.websocket.messages",
    "{message}",
    Kind.COUNTER,
    "Messages over WebSockets, added when the connection ends.",
    ("http.route", "network.io.direction"),
)
