"""The files of the rules: what is in ``dashboards/prometheus`` and ``dashboards/alertmanager``."""

from __future__ import annotations

from restaurant_otel.rules import alerts, recording
from restaurant_otel.rules.alertmanager import Receivers, configuration
from restaurant_otel.rules.model import yaml
from restaurant_otel.rules.options import Options

_HEAD = (
    "Made from restaurant_otel/catalog by `make dashboards`; `restaurant-otel rules export` makes it anew."
)


def files(options: Options | None = None, receivers: Receivers | None = None) -> dict[str, str]:
    """Path under ``dashboards/`` -> contents. Pure."""
    o = options or Options()
    recorded = [group.data(o.step()) for group in recording.groups(o)]
    return {
        "prometheus/recording.yml": yaml({"groups": recorded}, _HEAD),
        "prometheus/alerts.yml": yaml({"groups": alerts.groups(o)}, _HEAD),
        "alertmanager/alertmanager.yml": yaml(configuration(o, receivers), _HEAD),
    }
