"""Prometheus's rules and Alertmanager's configuration, made from the catalogue.

`recording` has the recording rules, `alerts` the alerting rules, `alertmanager` the routes; `options` says what may
differ between sites; `export` makes files of them all. The files in ``dashboards/prometheus`` and
``dashboards/alertmanager`` are what `export` makes with default options; ``restaurant-otel rules export`` makes them
with others. Nothing here is imported by an app that serves requests.
"""
