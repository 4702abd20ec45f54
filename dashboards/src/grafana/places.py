"""Links between dashboards that keep the time, the data source, the job and the instance."""

from __future__ import annotations


def to(uid: str, words: str, **variables: str) -> tuple[str, str]:
    """Words and address of a link to a dashboard; `variables` are set there, from ``${...}`` of Grafana's."""
    kept = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    more = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return words, f"/d/{uid}?{kept}{more}"
