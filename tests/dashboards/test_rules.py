"""The rules: accepted by Prometheus, tested alert by alert, explained by a page each, made for other sites as well."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from dashboards.src.__main__ import ROOT
from dashboards.src.scenarios import long_scenarios, scenarios
from restaurant_otel import bundled, catalog
from restaurant_otel.catalog import Kind
from restaurant_otel.rules import expressions, recording
from restaurant_otel.rules.alertmanager import Receivers, ReceiversError, configuration
from restaurant_otel.rules.alerts import SEVERITIES, Alert, alerts
from restaurant_otel.rules.export import files
from restaurant_otel.rules.model import yaml
from restaurant_otel.rules.options import Options, name_of
from restaurant_otel.rules.runbooks import panel_id
from restaurant_otel.scorecard.files import read
from tests.support.processes import required
from tests.support.promtool import promtool

RULES = ROOT / "prometheus"
ALERTS = alerts(Options())


def written(folder: Path, options: Options, receivers: Receivers | None = None) -> list[Path]:
    """The files for these options, in a folder."""
    made = []
    for name, text in files(options, receivers).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        made.append(file)
    return made


# --- as shipped -------------------------------------------------------------------------------------------


def test_prometheus_accepts_them() -> None:
    promtool("check", "rules", RULES / "recording.yml", RULES / "alerts.yml")


@pytest.mark.timeout(600)  # half a minute for each promtool, and more on a busy machine
@pytest.mark.parametrize("name", ["alerts", "hours"])
def test_every_alert_fires_in_its_fault_and_not_outside_of_it(name: str) -> None:
    promtool("test", "rules", RULES / "tests" / f"{name}.yml")


def test_a_rule_that_never_fires_is_found(tmp_path: Path) -> None:
    text = (RULES / "alerts.yml").read_text()
    broken = text.replace(
        "max by (job, restaurant_cache_name) (max_over_time(restaurant_cache_breaker_state[1m])) == 2",
        "vector(0) == 2",
    )
    assert broken != text
    (tmp_path / "prometheus" / "tests").mkdir(parents=True)
    (tmp_path / "prometheus" / "alerts.yml").write_text(broken)
    (tmp_path / "prometheus" / "recording.yml").write_text((RULES / "recording.yml").read_text())
    tests = (RULES / "tests" / "alerts.yml").read_text()
    (tmp_path / "prometheus" / "tests" / "alerts.yml").write_text(_only(tests, "RedisAway"))
    assert "RedisAway" in promtool(
        "test", "rules", tmp_path / "prometheus" / "tests" / "alerts.yml", fails=True
    )


def _only(tests: str, alert: str) -> str:
    """The test file with those of its tests that look at an alert."""
    head, *each = re.split(r"^(?=  - name: )", tests, flags=re.MULTILINE)
    return head + "".join(
        test for test in each if f'alertname=~\\"{alert}\\"' in test or f'"{alert}"' in test
    )


def same(alert: Alert) -> tuple[str, str, str]:
    return alert.name, alert.severity, alert.window


def test_every_alert_has_a_test_that_it_fires() -> None:
    tested = {
        (each.alert, each.severity, each.window) for each in (*scenarios(), *long_scenarios()) if each.fires
    }
    assert {same(alert) for alert in ALERTS} == tested
    assert len({same(alert) for alert in ALERTS}) == len(ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: "-".join(filter(None, same(alert))))
def test_every_alert_says_what_is_wrong_and_where_to_look(alert: Alert) -> None:
    assert alert.severity in SEVERITIES
    data = alert.data(Options(runbooks_url="https://wiki/x", grafana_url="https://grafana"))
    texts = data["annotations"]
    assert "$labels.job" in texts["summary"]
    assert texts["description"].endswith(".")
    assert "$value" in texts["description"] or alert.name in ("TargetDown", "RedisAway")
    assert texts["runbook_url"] == f"https://wiki/x/{alert.runbook}.md"
    in_grafana = alert.data(Options(grafana_url="https://grafana"))["annotations"]["runbook_url"]
    assert in_grafana == f"https://grafana/d/restaurant-runbooks?viewPanel={panel_id(alert.runbook)}"
    assert texts["runbook_command"] == f"restaurant-otel rules runbook {alert.name}"
    assert re.match(r"https://grafana/d/restaurant-[a-z]+\?var-job=", texts["dashboard_url"])
    page = (bundled.runbooks() / f"{alert.runbook}.md").read_text()
    assert f"`{alert.name}`" in page
    assert {"## What it means", "## Look here first", "## What helps"} <= set(page.splitlines())


def test_every_runbook_belongs_to_an_alert() -> None:
    pages = {page.stem for page in bundled.runbooks().glob("*.md")} - {"README"}
    assert pages == {alert.runbook for alert in ALERTS}


def test_the_queries_of_the_runbooks_are_queries(tmp_path: Path) -> None:
    pages = "".join(page.read_text() for page in bundled.runbooks().glob("*.md"))
    queries = re.findall(r"```promql\n(.*?)```", pages, re.DOTALL)
    assert len(queries) > 20
    rules = [
        {"record": f"query:{number}", "expr": " ".join(query.split())} for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(yaml({"groups": [{"name": "runbooks", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_the_rules_ask_for_series_that_exist() -> None:
    known = {"up", expressions.OLD_HTTP, "ALERTS"}
    known |= {rule.record for group in recording.groups(Options()) for rule in group.rules}
    for metric in catalog.METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        known |= {name_of(metric) + end for end in ends}
    known |= {f"{expressions.OLD_HTTP}{end}" for end in ("_bucket", "_sum", "_count")}
    labels = {catalog.prometheus_label(name) for metric in catalog.METRICS for name in metric.attributes}
    labels |= {"http_status_code"}  # of the old names
    every = [rule.expr for group in recording.groups(Options()) for rule in group.rules]
    for expr in [*every, *(alert.expr for alert in ALERTS)]:
        bare = re.sub(r'"[^"]*"', "", expr)
        asked = re.findall(
            r"[a-zA-Z_][a-zA-Z0-9_]*:[a-zA-Z0-9_:]+|(?:http|db|restaurant|process|system)_\w+", bare
        )
        assert set(asked) - known - labels == set(), expr


def recorded(folder: Path, rows: dict[str, str], expected: dict[str, float]) -> None:
    """What the recording rules make of series of a service named shop, after an hour of samples a minute."""
    test = {
        "rule_files": [str(RULES / "recording.yml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in rows.items()],
                "promql_expr_test": [
                    {
                        "expr": f"abs({expr} - {value}) < bool 0.00001",
                        "eval_time": "61m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for expr, value in expected.items()
                ],
            }
        ],
    }
    (folder / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", folder / "test.yml")


def test_apps_with_the_old_names_and_milliseconds_are_read_as_well(tmp_path: Path) -> None:
    old = f'{expressions.OLD_HTTP}_%s{{job="shop", http_route="/menu", http_status_code="%s"%s}}'
    well, ill = "5000+90x70", "5000+10x70"
    rows = {old % ("count", code, ""): values for code, values in (("200", well), ("500", ill))}
    rows |= {old % ("sum", "200", ""): "1000000+9000x70", old % ("sum", "500", ""): "1000000+1000x70"}
    for bound, values in (("200.0", well), ("500.0", well), ("+Inf", well)):
        rows[old % ("bucket", "200", f', le="{bound}"')] = values
    recorded(
        tmp_path,
        rows,
        {
            'sum(service:http_failures:ratio5m{job="shop"})': 0.1,
            'sum(service_route:http_requests:rate5m{http_route="/menu"})': 1.66667,
            "sum(service:http_duration_seconds:mean5m)": 0.1,
            "sum(service:http_duration_seconds:p50_5m)": 0.1,
            'sum(service_slo:errors:ratio1h{slo="latency"})': 0.1,
            'sum(service_component:performance_value{restaurant_performance_component="availability"})': 0.9,
            'sum(service_component:performance_value{restaurant_performance_component="api"})': 0.1,
        },
    )


def test_what_is_left_of_a_budget_is_what_has_not_failed(tmp_path: Path) -> None:
    count = 'http_server_request_duration_seconds_count{job="shop", http_response_status_code="%s"}'
    rows = {count % "200": "100000+9995x70", count % "500": "100000+5x70"}
    recorded(
        tmp_path,
        rows,
        {
            'sum(service_slo:budget_remaining:ratio30d{slo="availability"})': 0.5,
            'sum(service_slo:target:ratio{slo="availability"})': 0.999,
        },
    )


# --- for other sites --------------------------------------------------------------------------------------


def test_a_site_may_tell_services_apart_by_other_labels_and_have_other_objectives(tmp_path: Path) -> None:
    objectives = read(
        {"components": {"api": {"objective": 0.1, "limit": 0.5}, "cache": {"weight": 0}}}
    ).objectives
    options = Options(objectives, by=("namespace", "job"), selector='env="prod"')
    made = written(tmp_path, options)
    promtool("check", "rules", *(file for file in made if "prometheus" in file.parts))
    text = (tmp_path / "prometheus" / "alerts.yml").read_text()
    assert "> 0.5" in text
    assert "CacheHitsLow" not in text
    assert "var-namespace=" in text
    recorded = (tmp_path / "prometheus" / "recording.yml").read_text()
    bare = re.findall(r"(?:http_server|db_client|restaurant)_\w+(?:_count|_sum|_bucket)(?![{\w])", recorded)
    assert bare == []  # the selector is everywhere


def test_times_can_be_scaled() -> None:
    options = Options(scale=1 / 60)
    assert options.time("5m") == "5s"
    assert options.time("3d") == "72m"
    assert options.time("30s") == "500ms"
    text = files(options)["prometheus/recording.yml"]
    assert re.findall(r"\[(?:5m|1h|3d)\]", text) == []


def test_routes_that_the_api_component_leaves_out_are_late_for_nobody(tmp_path: Path) -> None:
    streams = read({"components": {"api": {"exclude_routes": ["/events"]}}}).objectives
    slow = {"count": 60, "sum": 600, "bucket": 0}  # a minute: an hour of streams of ten seconds each
    quick = {"count": 60, "sum": 3, "bucket": 60}
    rows = []
    for route, each in (("/events", slow), ("/menu", quick)):
        labels = f'job="shop", http_route="{route}", http_response_status_code="200"'
        for end, gain in each.items():
            le = ', le="0.2"' if end == "bucket" else ""
            name = f"{expressions.HTTP}_{end}{{{labels}{le}}}"
            rows.append({"series": name, "values": f"1000+{gain}x90"})
    expected = {
        'ALERTS{alertname="RouteMeanSlow", alertstate="firing"}': 1,
        'service_slo:errors:ratio1h{slo="latency"} > 0.4': 1,
    }
    for objectives, there in ((Options().objectives, True), (streams, False)):
        written(tmp_path, Options(objectives))
        checks = [
            {
                "expr": f"count({expr})",
                "eval_time": "80m",
                "exp_samples": [{"labels": "{}", "value": count}] if there else [],
            }
            for expr, count in expected.items()
        ]
        test = {
            "rule_files": [f"prometheus/{name}.yml" for name in ("recording", "alerts")],
            "tests": [{"interval": "1m", "input_series": rows, "promql_expr_test": checks}],
        }
        (tmp_path / "test.yml").write_text(json.dumps(test))
        promtool("test", "rules", tmp_path / "test.yml")


# --- Alertmanager -----------------------------------------------------------------------------------------


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [required("amtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alertmanager_accepts_its_configuration_and_routes_by_severity(tmp_path: Path) -> None:
    shipped = ROOT / "alertmanager" / "alertmanager.yml"
    amtool("check-config", shipped)
    for severity in SEVERITIES:
        route = ("config", "routes", "test", f"--config.file={shipped}", f"--verify.receivers={severity}")
        amtool(*route, "alertname=X", "job=shop", f"severity={severity}")


EVERYTHING = {
    "ALERTS_WEBHOOK_URL": "https://example.org/alerts",
    "ALERTS_SLACK_URL_FILE": "/run/secrets/slack",
    "ALERTS_SLACK_CHANNEL": "#alerts",
    "ALERTS_EMAIL_TO": "oncall@example.org",
    "ALERTS_EMAIL_FROM": "alerts@example.org",
    "ALERTS_SMTP_HOST": "mail.example.org:587",
    "ALERTS_SMTP_USERNAME": "alerts",
    "ALERTS_SMTP_PASSWORD_FILE": "/run/secrets/smtp",
}


def test_receivers_come_from_the_environment_and_secrets_stay_in_their_files(tmp_path: Path) -> None:
    receivers = Receivers.from_environment(EVERYTHING)
    written(tmp_path, Options(), receivers)
    amtool("check-config", tmp_path / "alertmanager" / "alertmanager.yml")
    made = {each["name"]: set(each) for each in configuration(Options(), receivers)["receivers"]}
    assert made["critical"] == {"name", "webhook_configs", "slack_configs", "email_configs"}
    assert made["warning"] == {"name", "webhook_configs", "slack_configs"}
    only_mail = Receivers.from_environment(
        {k: v for k, v in EVERYTHING.items() if "EMAIL" in k or "SMTP" in k}
    )
    made = {each["name"]: set(each) for each in configuration(Options(), only_mail)["receivers"]}
    assert made["info"] == {"name", "email_configs"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ALERTS_WEBHOOK_URI": "x"}, "unknown variable ALERTS_WEBHOOK_URI"),
        ({"ALERTS_WEBHOOK_URL": "example.org"}, "must be a URL"),
        ({"ALERTS_SLACK_URL_FILE": "/x"}, "needs ALERTS_SLACK_CHANNEL"),
        ({"ALERTS_EMAIL_TO": "a@b"}, "needs ALERTS_EMAIL_FROM and ALERTS_SMTP_HOST"),
        ({"ALERTS_WEBHOOK_URL": "http://a", "ALERTS_WEBHOOK_URL_FILE": "/x"}, "exclude each other"),
    ],
)
def test_receivers_that_do_not_fit_together_are_told(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(ReceiversError, match=says):
        Receivers.from_environment(wrong)


# --- YAML -------------------------------------------------------------------------------------------------


def test_what_is_written_as_yaml_is_read_as_it_was(tmp_path: Path) -> None:
    strings = [
        "",
        "yes",
        "1h",
        "a: b",
        "- x",
        "#",
        'say "a"',
        "two\nlines",
        "{{ $value }}",
        "true",
        "~",
        "null",
        "naïve",
    ]
    rules = [
        {"record": f"a:b{number}", "expr": "vector(1)", "labels": {"text": text}}
        for number, text in enumerate(strings)
    ]
    (tmp_path / "rules.yml").write_text(
        yaml({"groups": [{"name": "all", "interval": "1m", "rules": rules}]}, "a\n\nb")
    )
    checks = [
        {
            "expr": f"a:b{number}",
            "eval_time": "1m",
            "exp_samples": [
                {"labels": f"a:b{number}{{text={json.dumps(text, ensure_ascii=False)}}}", "value": 1}
            ],
        }
        for number, text in enumerate(strings)
    ]
    test = {"rule_files": ["rules.yml"], "tests": [{"interval": "1m", "promql_expr_test": checks}]}
    (tmp_path / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", tmp_path / "test.yml")
