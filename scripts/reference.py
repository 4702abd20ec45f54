#!/usr/bin/env python3
"""Write the generated parts of the documentation: the settings and the metrics, from the code itself.

    scripts/reference.py           write them anew
    scripts/reference.py --check   exit 1, naming each file, if one is stale

A generated part stands between `<!-- generated:NAME -->` and `<!-- end:NAME -->`; all else in the file is
written by hand and left as it is. `make docs` and `make docs-check` call this.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from restaurant_otel import catalog, cli
from restaurant_otel.catalog import Across, Kind, Metric, prometheus_label
from restaurant_otel.rules import alerts as rules
from restaurant_otel.rules.options import Options
from restaurant_otel.settings import ALWAYS_REDACTED, LOCAL_NETWORKS, PROCESS_VARIABLES, Settings, env_names

ROOT: Final = Path(__file__).resolve().parent.parent

# --- Markdown ----------------------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(words: Iterable[object]) -> str:
    """Each word as code, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)


# --- settings ----------------------------------------------------------------------------------------


def fields() -> tuple[dataclasses.Field[Any], ...]:
    """The settings, in the order in which the code declares them."""
    return dataclasses.fields(Settings)


def default(field: dataclasses.Field[Any]) -> str:
    """A setting's default in the words that a reader would type."""
    raw = field.metadata["raw"]
    if raw is LOCAL_NETWORKS:
        return "local networks"
    if raw is None or raw in ("", (), {}):
        return "none"
    return f"`{str(raw).lower() if isinstance(raw, bool) else raw}`"


def settings() -> str:
    """Every setting with its variables, a table for each group."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for field in fields():
        variables = "<br>".join(f"`{name}`" for name in env_names(field)) or "keyword only"
        row = (f"`{field.name}`", variables, default(field), field.metadata["explain"])
        groups.setdefault(field.metadata["group"], []).append(row)
    head = ("Setting", "Environment variable", "Default", "Meaning")
    return "\n\n".join(f"### {group}\n\n{table(head, rows)}" for group, rows in groups.items())


def process_variables() -> str:
    """The variables that are read once a process and are not keywords."""
    return table(("Variable", "Meaning"), ((f"`{name}`", text) for name, text in PROCESS_VARIABLES.items()))


def setting_values() -> str:
    """The long values that the tables only name."""
    return f"- Local networks: {code(LOCAL_NETWORKS)}.\n- Headers always redacted: {code(ALWAYS_REDACTED)}."


def settings_in_short() -> str:
    """The settings without their variables, whose names follow from a rule."""
    rows = ((f"`{field.name}`", default(field), field.metadata["explain"]) for field in fields())
    return table(("Setting", "Default", "Meaning"), rows)


# --- metrics -----------------------------------------------------------------------------------------

_LIVING: Final = {
    Across.SUM: "living workers are summed",
    Across.MAX: "the highest of the living workers",
    Across.PER_WORKER: "one series for each living worker, by the label `worker`",
}


def shown_name(metric: Metric) -> str:
    """The metric's name as one types it in PromQL; a histogram's without its three endings."""
    return metric.prometheus_name + ("_total" if metric.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER) else "")


def across(metric: Metric) -> str:
    """How the workers' numbers become one."""
    if metric.kind in (Kind.COUNTER, Kind.HISTOGRAM):
        return "summed, ended workers included"
    return _LIVING[metric.across]


def labels(metric: Metric) -> str:
    """The metric's labels in Prometheus."""
    return code(prometheus_label(name) for name in metric.attributes) or "none"


def facts(metric: Metric) -> Iterator[str]:
    """What the catalogue knows of one metric, a line each."""
    yield f"- OpenTelemetry: `{metric.name}`, {metric.kind.value.replace('_', '-')}, unit `{metric.unit}`"
    if metric.kind is Kind.HISTOGRAM:
        yield f"- Series: {code(metric.prometheus_name + end for end in ('_bucket', '_sum', '_count'))}"
    yield f"- Labels: {labels(metric)}"
    yield f"- Workers: {across(metric)}"
    if metric.bounds:
        yield f"- Buckets: {', '.join(f'{bound:.10g}' for bound in metric.bounds)}"


def metrics() -> str:
    """Everything about every metric."""
    return "\n\n".join(
        f"### `{shown_name(metric)}`\n\n{metric.help}\n\n" + "\n".join(facts(metric))
        for metric in catalog.METRICS
    )


def metrics_in_short() -> str:
    """One line a metric."""
    rows = (
        (
            f"`{shown_name(metric)}`",
            metric.kind.value.removeprefix("observed_").replace("_", "-"),
            labels(metric),
        )
        for metric in catalog.METRICS
    )
    return table(("In Prometheus", "Kind", "Labels"), rows)


# --- objectives and alerts ---------------------------------------------------------------------------


def objectives() -> str:
    """Every component of the score, and every objective of service levels."""

    def shown(value: float, unit: str) -> str:
        return f"{value * 100:g} %" if unit == "1" else f"{value:g} s"

    rows = (
        (
            each.component + (" (critical)" if each.critical else ""),
            each.explain,
            shown(each.objective, each.unit),
            shown(each.limit, each.unit),
            f"{each.weight:g}",
            f"{each.minimum:g}" if each.minimum else "",
        )
        for each in catalog.COMPONENTS
    )
    slos = "\n".join(f"- {slo.name}: {slo.target * 100:g} %. {slo.explain}" for slo in catalog.SLOS)
    head = ("Component", "Value", "Objective", "Limit", "Weight", "Minimum")
    return f"{table(head, rows)}\n\nOver 30 days, for the error budgets:\n\n{slos}"


def alerts() -> str:
    """Every alert, with its runbook."""
    rows = (
        (
            f"`{each.name}`" + (f" over {each.window}" if each.window else ""),
            each.severity,
            each.hold,
            f"[{each.runbook}](runbooks/{each.runbook}.md)",
        )
        for each in rules.alerts(Options())
    )
    return table(("Alert", "Severity", "After", "Runbook"), rows)


# --- the command line --------------------------------------------------------------------------------


def commands() -> str:
    """Every command, from its own help."""
    return "\n\n".join(
        part for name in cli.COMMANDS for part in command(cli.load(name), f"{cli.PROGRAM} {name}", "##")
    )


def command(found: Any, name: str, level: str) -> Iterator[str]:
    """One command and its subcommands."""
    explained = re.sub(r"(?<!\n)\n(?!\n)", " ", (found.help or "").strip())
    yield f"{level} `{name}`\n\n{explained}"
    options = [parameter for parameter in found.params if parameter.name != "help"]
    if options:
        yield table(("Option", "Default", "Meaning"), map(option, options))
    for part_name, part in sorted(getattr(found, "commands", {}).items()):
        yield from command(part, f"{name} {part_name}", level + "#")


def option(parameter: Any) -> tuple[str, str, str]:
    """One row for an option or argument."""
    is_option = parameter.param_type_name == "option"
    spelled = (
        code([*parameter.opts, *parameter.secondary_opts]) if is_option else f"`{parameter.name.upper()}`"
    )
    value = parameter.default
    shown = "" if value in (None, False, "", ()) or callable(value) or not _is_plain(value) else f"`{value}`"
    variable = f" Or by `{parameter.envvar}`." if parameter.envvar else ""
    return spelled, "required" if parameter.required else shown, f"{parameter.help or ''}{variable}"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


# --- files -------------------------------------------------------------------------------------------

PARTS: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "README.md": {"settings": settings_in_short, "metrics": metrics_in_short},
    "docs/settings.md": {
        "settings": settings,
        "process-variables": process_variables,
        "setting-values": setting_values,
    },
    "docs/metrics.md": {"metrics": metrics},
    "docs/commands.md": {"commands": commands},
    "docs/score.md": {"objectives": objectives},
    "docs/alerts.md": {"alerts": alerts},
}
"""The generated parts of each file, by their names in its markers."""


def renew(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """`text` with its generated parts as they should be.

    Raises:
        ValueError: the markers of a part are missing, doubled, or belong to no part.
    """
    marked = re.findall(r"<!-- generated:(\S+) -->", text)
    if sorted(marked) != sorted(parts):
        raise ValueError(f"has the generated parts {sorted(marked)}, and should have {sorted(parts)}")
    for name, make in parts.items():
        begin, end = f"<!-- generated:{name} -->", f"<!-- end:{name} -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"has no {end}")
        text = f"{head}{begin}\n\n{make()}\n\n{end}{tail}"
    return text


def main(arguments: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; the exit status."""
    parser = argparse.ArgumentParser(description="Write the generated parts of the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    stale = False
    for name, parts in PARTS.items():
        file = ROOT / name
        old = file.read_text(encoding="utf-8")
        try:
            new = renew(old, parts)
        except ValueError as error:
            sys.stderr.write(f"{name}: {error}\n")
            return 1
        if new == old:
            continue
        if check:
            sys.stderr.write(f"{name} is stale: run `make docs`\n")
            stale = True
        else:
            file.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{name} written\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
