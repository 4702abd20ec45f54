"""API: every route's rate, failures and time, and the way from a slow bucket to a trace."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.board import Board, Section, labels_variable
from dashboards.src.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    NEUTRAL,
    NONE_IS_GOOD,
    Column,
    Label,
    Query,
    about,
    graph_panel,
    stat_panel,
    steps_of,
    table_panel,
)
from dashboards.src.grafana.places import to
from dashboards.src.grafana.queries import (
    DB,
    FAILED,
    HTTP,
    busiest,
    mean,
    quantile,
    rate,
    ratio,
    series,
    total,
)
from restaurant_otel import catalog

_ROUTE: Final = 'http_route=~"$route"'
_COUNT: Final = total(HTTP, "", _ROUTE, end="_count")
_BY_ROUTE: Final = total(HTTP, "http_route", _ROUTE, end="_count")
_SLOW: Final = total(HTTP, "http_route", _ROUTE, 'le="0.2"', end="_bucket")

_STATUS_COLOURS: Final = {
    "200": GOOD,
    "201": "dark-green",
    "204": "light-green",
    "206": "super-light-green",
    "301": NEUTRAL,
    "302": "dark-blue",
    "303": "light-blue",
    "304": "super-light-blue",
    "307": "semi-dark-blue",
    "400": "yellow",
    "401": "dark-purple",
    "403": "purple",
    "404": FAIR,
    "405": "light-orange",
    "409": "dark-orange",
    "422": "dark-yellow",
    "429": "light-purple",
    "500": BAD,
    "502": "light-red",
    "503": "dark-red",
    "504": "semi-dark-red",
}
"""Green for done, blue for elsewhere, yellow to orange for the client's mistakes, red for ours; no colour twice."""

_STATS: Final = (
    stat_panel(
        "Requests",
        _COUNT,
        unit="reqps",
        size=(4, 4),
        description=about("Requests a second to the chosen routes."),
    ),
    stat_panel(
        "Failed",
        ratio(total(HTTP, "", _ROUTE, FAILED, end="_count"), _COUNT),
        unit="percentunit",
        decimals=2,
        colours=steps_of("errors"),
        size=(4, 4),
        description=about(
            "Share of requests that the server failed.", component="errors", runbooks=("high-error-ratio",)
        ),
    ),
    stat_panel(
        "Mean time",
        mean(HTTP, "", _ROUTE),
        unit="s",
        colours=steps_of("api"),
        size=(4, 4),
        description=about(
            "Mean time of a request.", component="api", runbooks=("slow-requests", "slow-route")
        ),
    ),
    stat_panel(
        "Slowest 5 % above",
        quantile(0.95, HTTP, "", _ROUTE),
        unit="s",
        colours=steps_of("api"),
        size=(4, 4),
        description=about(
            "The time that a twentieth of the requests exceeds.",
            component="api",
            runbooks=("slow-requests", "slow-route"),
        ),
    ),
    stat_panel(
        "In flight",
        f"sum({series(catalog.HTTP_SERVER_ACTIVE_REQUESTS)})",
        unit="none",
        size=(4, 4),
        description=about("Requests being answered at this moment, of all routes."),
    ),
    stat_panel(
        "Broken off",
        f"sum({rate(catalog.HTTP_SERVER_INTERRUPTED, _ROUTE)}) or vector(0)",
        unit="cps",
        size=(4, 4),
        colours=NONE_IS_GOOD,
        description=about(
            "Responses a second that did not reach their end: the client left, or the app gave up."
        ),
    ),
)

_TABLE: Final = table_panel(
    "Routes",
    [
        Label(
            "Route",
            "http_route",
            link=to("restaurant-api", "Only this route", route="${__value.raw:percentencode}"),
        )
    ],
    [
        Column("Requests", _BY_ROUTE, "reqps", width=115),
        Column(
            "Failed",
            ratio(total(HTTP, "http_route", _ROUTE, FAILED, end="_count"), _BY_ROUTE),
            "percentunit",
            colours=steps_of("errors"),
            decimals=1,
            width=80,
        ),
        Column("Mean", mean(HTTP, "http_route", _ROUTE), "s", colours=steps_of("api"), width=95),
        Column(
            "95 % below", quantile(0.95, HTTP, "http_route", _ROUTE), "s", colours=steps_of("api"), width=100
        ),
        Column("Over 200 ms", f"1 - ({_SLOW} / {_BY_ROUTE})", "percentunit", decimals=1, width=105),
        Column(
            "Queries each",
            f"{total(DB, 'http_route', _ROUTE, end='_count')} / {_BY_ROUTE}",
            "none",
            decimals=1,
            width=110,
        ),
        Column(
            "Share of all time",
            f"{total(HTTP, 'http_route', _ROUTE, end='_sum')} / scalar(sum({rate(HTTP, _ROUTE, end='_sum')}))",
            "percentunit",
            bar=True,
            top=1,
            decimals=0,
            width=190,
        ),
    ],
    sort="Share of all time",
    size=(24, 11),
    description=about(
        "A row for each route; a click on one narrows this dashboard to it. The route with the"
        " largest share of all time is where"
        " making something faster pays most. Requests that match no route share the row without a name.",
        component="api",
        runbooks=("slow-requests", "slow-route"),
    ),
)

_GRAPHS: Final = (
    graph_panel(
        "Requests by route",
        [Query(busiest(8, _BY_ROUTE, "http_route", HTTP, _ROUTE, end="_count"), "{{http_route}}")],
        unit="reqps",
        stacked=True,
        description=about("Requests a second, of the eight busiest of the chosen routes."),
    ),
    graph_panel(
        "95 % of requests take less than",
        [
            Query(
                busiest(
                    8, quantile(0.95, HTTP, "http_route", _ROUTE), "http_route", HTTP, _ROUTE, end="_sum"
                ),
                "{{http_route}}",
            )
        ],
        unit="s",
        colours=steps_of("api"),
        description=about(
            "Of the eight that take the most time, of the chosen routes.",
            component="api",
            runbooks=("slow-requests", "slow-route"),
        ),
    ),
    graph_panel(
        "Mean time by route",
        [
            Query(
                busiest(8, mean(HTTP, "http_route", _ROUTE), "http_route", HTTP, _ROUTE, end="_sum"),
                "{{http_route}}",
            )
        ],
        unit="s",
        colours=steps_of("api"),
        description=about(
            "Of the eight that take the most time, of the chosen routes.",
            component="api",
            runbooks=("slow-requests", "slow-route"),
        ),
    ),
    graph_panel(
        "Requests by status",
        [
            Query(
                total(HTTP, "http_response_status_code", _ROUTE, end="_count"),
                "{{http_response_status_code}}",
            )
        ],
        unit="reqps",
        stacked=True,
        series_colours=_STATUS_COLOURS,
        description=about(
            "Requests a second by their status.", component="errors", runbooks=("high-error-ratio",)
        ),
    ),
)

_TRACES: Final = (
    graph_panel(
        "Time of requests, with traces",
        [
            Query(quantile(0.5, HTTP, "", _ROUTE), "half below"),
            Query(quantile(0.95, HTTP, "", _ROUTE), "95 % below", exemplars=True),
            Query(quantile(0.99, HTTP, "", _ROUTE), "99 % below"),
        ],
        unit="s",
        size=(12, 9),
        colours=steps_of("api"),
        series_colours={"half below": NEUTRAL, "95 % below": "purple", "99 % below": "super-light-purple"},
        description=about(
            "Each dot is one request, an exemplar: a click leads to its trace. Dots far above the"
            " lines are the traces to look at.",
            component="api",
            runbooks=("slow-requests", "slow-route"),
        ),
    ),
    graph_panel(
        "Time to first byte",
        [
            Query(mean(catalog.HTTP_SERVER_TIME_TO_FIRST_BYTE, "", _ROUTE), "mean"),
            Query(quantile(0.95, catalog.HTTP_SERVER_TIME_TO_FIRST_BYTE, "", _ROUTE), "95 % below"),
        ],
        unit="s",
        size=(12, 9),
        description=about(
            "Until the response begins. Streams take long to end, and should not take long to begin."
        ),
    ),
    graph_panel(
        "Size of responses",
        [
            Query(mean(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE, "", _ROUTE), "mean"),
            Query(quantile(0.95, catalog.HTTP_SERVER_RESPONSE_BODY_SIZE, "", _ROUTE), "95 % below"),
        ],
        unit="bytes",
        size=(8, 8),
        description=about("Bytes of response bodies, as the app produced them."),
    ),
    graph_panel(
        "Broken off, by what ended it",
        [
            Query(
                total(catalog.HTTP_SERVER_INTERRUPTED, "restaurant_outcome", _ROUTE), "{{restaurant_outcome}}"
            )
        ],
        unit="cps",
        size=(8, 8),
        description=about(
            "Responses that did not reach their end: the client left (client_disconnect), or the app gave up."
        ),
    ),
    graph_panel(
        "WebSockets",
        [
            Query(f"sum({series(catalog.WEBSOCKET_ACTIVE_CONNECTIONS)})", "open"),
            Query(
                total(catalog.WEBSOCKET_MESSAGES, "network_io_direction"),
                "messages/s {{network_io_direction}}",
            ),
        ],
        unit="none",
        size=(8, 8),
        description=about(
            "Open WebSockets, and messages a second; messages are counted when their connection ends."
        ),
    ),
)

BOARD: Final = Board(
    "restaurant-api",
    "Restaurant: API",
    "Every route's rate, failures and time. Choose routes above, or click one in the table.",
    (
        Section("", _STATS),
        Section("Routes", (_TABLE, *_GRAPHS)),
        Section("Traces, streams, sizes", _TRACES),
    ),
    variables=(
        labels_variable(
            "route",
            "Route",
            f'label_values({HTTP}_count{{job=~"$job", instance=~"$instance"}}, http_route)',
            description="Route templates. All includes requests that matched none.",
            every=".*",
        ),
    ),
)
