"""What several rules are made of: requests, failures, times and lookups as PromQL.

Series of the OpenTelemetry conventions before 1.23 (``http_server_duration_milliseconds``) are read where a service has
none of the stable ones.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel import catalog
from restaurant_otel.rules.options import Options, name_of, number

HTTP: Final = name_of(catalog.HTTP_SERVER_REQUEST_DURATION)
DB: Final = name_of(catalog.DB_CLIENT_OPERATION_DURATION)
QUERY: Final = name_of(catalog.DB_QUERY_DURATION)
N_PLUS_ONE: Final = name_of(catalog.DB_N_PLUS_ONE)
POOL_COUNT: Final = name_of(catalog.DB_CLIENT_CONNECTION_COUNT)
POOL_MAX: Final = name_of(catalog.DB_CLIENT_CONNECTION_MAX)
POOL_TIMEOUTS: Final = name_of(catalog.DB_CLIENT_CONNECTION_TIMEOUTS)
OLD_HTTP: Final = "http_server_duration_milliseconds"


def requests(o: Options, window: str, *by: str) -> str:
    """Requests a second."""
    return (
        f"sum by ({o.labels(*by)}) ({o.rate(f'{HTTP}_count', window)})\n"
        f"or sum by ({o.labels(*by)}) ({o.rate(f'{OLD_HTTP}_count', window)})"
    )


def failures(o: Options, window: str, *by: str) -> str:
    """Requests a second that the server failed; none is 0 where there are requests."""
    count = f"{HTTP}_count"
    told, by_status = 'error_type!=""', 'http_response_status_code=~"5.."'
    new = f"{o.rate(count, window, told)} or {o.rate(count, window, by_status)}"
    old = o.rate(f"{OLD_HTTP}_count", window, 'http_status_code=~"5.."')
    return (
        f"sum by ({o.labels(*by)}) ({new})\n"
        f"or sum by ({o.labels(*by)}) ({old})\n"
        f"or 0 * ({requests(o, window, *by)})"
    )


def mean_seconds(o: Options, window: str, *by: str) -> str:
    """Mean time of a request."""

    def mean(name: str, unit: str) -> str:
        total, count = o.rate(f"{name}_sum", window), o.rate(f"{name}_count", window)
        return f"sum by ({o.labels(*by)}) ({total}) / sum by ({o.labels(*by)}) ({count}){unit}"

    return f"({mean(HTTP, '')} or {mean(OLD_HTTP, ' / 1000')}) >= 0"


def quantile_seconds(o: Options, share: float, window: str, *by: str) -> str:
    """The time within which this share of the requests was answered."""
    labels = o.labels(*by, "le")
    new = f"histogram_quantile({share}, sum by ({labels}) ({o.rate(f'{HTTP}_bucket', window)}))"
    old = f"histogram_quantile({share}, sum by ({labels}) ({o.rate(f'{OLD_HTTP}_bucket', window)})) / 1000"
    return f"({new}\nor {old}) >= 0"


def slow(o: Options, window: str, limit: float, *matchers: str) -> str:
    """Requests a second that failed or took longer than `limit` seconds, of the routes that `matchers` select."""

    def bad(name: str, bound: str, *good: str) -> str:
        all_of_them = f"sum by ({o.labels()}) ({o.rate(f'{name}_count', window, *matchers)})"
        up_to = f'le=~"{bound}"'
        within = f"sum by ({o.labels()}) ({o.rate(f'{name}_bucket', window, up_to, *good, *matchers)})"
        if name == HTTP:
            return f"{all_of_them} - ({within} or 0 * {all_of_them})"
        return f"{all_of_them} - {within}"  # the old bounds need not have this one: then nothing is known

    new = bad(HTTP, _bound(limit), 'error_type=""', 'http_response_status_code!~"5.."')
    old = bad(OLD_HTTP, _bound(limit * 1000), 'http_status_code!~"5.."')
    return f"clamp_min({new}\nor {old}, 0)"


def _bound(bound: float) -> str:
    """A bucket's bound as clients and Prometheus may spell it: ``1`` or ``1.0``."""
    text = number(bound)
    return text.replace(".", "[.]") if "." in text else f"{text}|{text}[.]0"


def grown(o: Options, name: str, window: str, *by: str) -> str:
    """What a counter of rare things has gained, its first time included.

    A series that is new to Prometheus has no increase, however high it begins. It counts whole, where its instance was
    scraped before and it was not there.
    """
    series, instance = o.series(name), o.labels("instance")
    before = f"offset {o.time(window)}"
    new = f"({series} unless {series} {before}) and on ({instance}) {o.series('up')} {before} == 1"
    return f"sum by ({o.labels(*by)}) ({new} or increase({series}[{o.time(window)}]))"


def lookups(o: Options, window: str, *by: str, answered: bool = False) -> str:
    """Lookups a second; `answered` leaves out the misses. A stale value is an answer."""
    metrics = [catalog.CACHE_HITS, catalog.CACHE_STALE, *([] if answered else [catalog.CACHE_MISSES])]
    # Each under a name of its own: none of them need be there.
    each = (
        f'label_replace({o.rate(name_of(metric), window)}, "answer", "{metric.name.rpartition(".")[2]}", "", "")'
        for metric in metrics
    )
    return f"sum by ({o.labels(*by)}) (\n  " + "\n  or ".join(each) + "\n)"
