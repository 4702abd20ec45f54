"""The panels that dashboards are made of, and how objectives become colours: plain functions over Grafana's SDK.

Only panel types that `dashboards/preview` can draw: stat, bar gauge, time series, table, text. A panel is as wide as
its `size` says, in Grafana's grid of 24 columns; `board` finds its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.src.grafana.alerting import alerts_with
from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES, Objective
from restaurant_otel.rules.runbooks import link as runbook_link

Panel = stat.Panel | bargauge.Panel | timeseries.Panel | table.Panel | text.Panel

ON: Final = 'job=~"$job", instance=~"$instance"'
"""Selects what the variables of every dashboard select."""

GOOD, FAIR, BAD, NEUTRAL = "green", "orange", "red", "blue"

SOURCE: Final = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL query; `legend` names its series by their labels, as in ``{{http_route}}``."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Colours by value: `base` below the first step, then each step's colour from its value on."""

    base: str
    steps: tuple[tuple[float, str], ...] = ()


PLAIN: Final = Steps(NEUTRAL)
"""A number that is neither good nor bad."""

NONE_IS_GOOD: Final = Steps(GOOD, ((1e-9, BAD),))


def steps(objective: float, limit: float) -> Steps:
    """Good at the objective, fair beyond it, bad from the limit on, whichever of the two is the larger."""
    if objective > limit:
        return Steps(BAD, ((limit, FAIR), (objective, GOOD)))
    return Steps(GOOD, ((objective, FAIR), (limit, BAD)))


def steps_of(component: str) -> Steps:
    """The colours of a component of the score."""
    objective = DEFAULT_OBJECTIVES[component]
    return steps(objective.objective, objective.limit)


def points_steps() -> Steps:
    """The colours of scores from 0 to 100."""
    return Steps(BAD, ((DEFAULT_OBJECTIVES.fair, FAIR), (DEFAULT_OBJECTIVES.good, GOOD)))


def in_words(objective: Objective) -> str:
    """An objective as a sentence: "Objective: at most 200 ms; no points at 800 ms."."""
    least = "at least" if objective.higher_is_better else "at most"
    return (
        f"Objective: {least} {_value(objective, objective.objective)}; no points at"
        f" {_value(objective, objective.limit)}."
    )


def _value(objective: Objective, value: float) -> str:
    if objective.unit == "1":
        return f"{100 * value:.4g} %"
    return f"{1000 * value:.4g} ms" if value < 1 else f"{value:.4g} s"


# --- descriptions -----------------------------------------------------------------------------------------


def about(explain: str, *, component: str | None = None, runbooks: Sequence[str] = ()) -> str:
    """A panel's description: what it shows, its objective, the alerts that watch it and their runbooks."""
    parts = [explain]
    if component is not None:
        parts.append(in_words(DEFAULT_OBJECTIVES[component]))
    for name in runbooks:
        alerts = ", ".join(alerts_with(name))
        parts.append(f"Alerts: {alerts}. [Runbook]({runbook_link(name)}).")
    return "\n\n".join(parts)


# --- parts of panels --------------------------------------------------------------------------------------


def _thresholds(colours: Steps) -> dashboard.ThresholdsConfig:
    ladder = [models.Threshold(value=None, color=colours.base)]
    ladder += [models.Threshold(value=value, color=colour) for value, colour in colours.steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(ladder)


def _threshold_value(colours: Steps) -> dict[str, Any]:
    ladder: list[dict[str, Any]] = [{"value": None, "color": colours.base}]
    ladder += [{"value": value, "color": colour} for value, colour in colours.steps]
    return {"mode": "absolute", "steps": ladder}


def _target(query: Query, ref: str, *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery().ref_id(ref).datasource(SOURCE).expr(query.expr).legend_format(query.legend)
    )
    target = target.instant() if instant else target.range()
    if query.exemplars:
        target = target.exemplar(True)
    if as_table:
        target = target.format(PromQueryFormat.TABLE)
    return target


def _refs(count: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


def _started(
    panel: Any, title: str, size: tuple[int, int], description: str, unit: str, colours: Steps
) -> Any:
    width, height = size
    started = panel.title(title).description(description).datasource(SOURCE).unit(unit)
    return started.thresholds(_thresholds(colours)).grid_pos(models.GridPos(w=width, h=height))


def _mapped(mappings: Mapping[str, tuple[str, str]]) -> list[Any]:
    options = {
        key: models.ValueMappingResult(text=words, color=colour, index=index)
        for index, (key, (words, colour)) in enumerate(mappings.items())
    }
    return [models.ValueMap(options=options)]


# --- panels -----------------------------------------------------------------------------------------------


def stat_panel(
    title: str,
    query: str | Sequence[Query],
    *,
    unit: str,
    description: str,
    size: tuple[int, int] = (4, 4),
    colours: Steps = PLAIN,
    trend: bool = True,
    decimals: int | None = None,
    mappings: Mapping[str, tuple[str, str]] | None = None,
    background: bool = False,
    no_value: str = "no data",
    link: tuple[str, str] | None = None,
) -> stat.Panel:
    """The latest value as a number, with its recent course behind it when `trend`."""
    queries = [Query(query)] if isinstance(query, str) else list(query)
    panel = _started(stat.Panel(), title, size, description, unit, colours)
    panel = (
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .color_mode(
            common_models.BigValueColorMode.BACKGROUND
            if background
            else common_models.BigValueColorMode.VALUE
        )
        .graph_mode(common_models.BigValueGraphMode.AREA if trend else common_models.BigValueGraphMode.NONE)
        .justify_mode(common_models.BigValueJustifyMode.AUTO)
        .text_mode(common_models.BigValueTextMode.AUTO)
        .orientation(common_models.VizOrientation.AUTO)
        .no_value(no_value)
    )
    for ref, one in zip(_refs(len(queries)), queries, strict=True):
        panel = panel.with_target(_target(one, ref, instant=not trend))
    if decimals is not None:
        panel = panel.decimals(decimals)
    if mappings:
        panel = panel.mappings(_mapped(mappings))
    if link:
        panel = panel.data_links([_link(*link)])
    return panel


def bars_panel(
    title: str,
    queries: Sequence[Query],
    *,
    unit: str,
    description: str,
    size: tuple[int, int] = (8, 8),
    colours: Steps = PLAIN,
    top: float | None = 1.0,
    decimals: int | None = None,
    long_names: bool = False,
) -> bargauge.Panel:
    """One horizontal bar a series, up to `top`: a progress bar. Beside its name, or with `long_names` below it."""
    panel = _started(bargauge.Panel(), title, size, description, unit, colours)
    panel = (
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .value_mode(common_models.BarGaugeValueMode.COLOR)
        .name_placement(
            common_models.BarGaugeNamePlacement.TOP
            if long_names
            else common_models.BarGaugeNamePlacement.LEFT
        )
        .show_unfilled(True)
        .min_viz_height(16)
        .max_viz_height(40)
        .min(0)
        .no_value("no data")
    )
    if top is not None:
        panel = panel.max(top)
    if decimals is not None:
        panel = panel.decimals(decimals)
    for ref, one in zip(_refs(len(queries)), queries, strict=True):
        panel = panel.with_target(_target(one, ref, instant=True))
    return panel


def graph_panel(
    title: str,
    queries: Sequence[Query],
    *,
    unit: str,
    description: str,
    size: tuple[int, int] = (12, 8),
    colours: Steps | None = None,
    stacked: bool = False,
    bars: bool = False,
    least: float | None = 0,
    most: float | None = None,
    series_colours: Mapping[str, str] | None = None,
    no_value: str = "no data",
) -> timeseries.Panel:
    """Values over time. With `colours` the steps are drawn as dashed lines; `series_colours` fixes series' colours."""
    panel = _started(timeseries.Panel(), title, size, description, unit, colours or PLAIN)
    legend = common.VizLegendOptions().show_legend(True).placement(common_models.LegendPlacement.BOTTOM)
    panel = (
        panel.legend(legend.display_mode(common_models.LegendDisplayMode.LIST).calcs([]))
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .line_width(1)
        .fill_opacity(70 if bars else 30 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .draw_style(common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE)
        .no_value(no_value)
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if colours and colours.steps:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    if least is not None:
        panel = panel.axis_soft_min(least)
    if most is not None:
        panel = panel.max(most)
    for ref, one in zip(_refs(len(queries)), queries, strict=True):
        panel = panel.with_target(_target(one, ref))
    for name, colour in (series_colours or {}).items():
        fixed = models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel = panel.override_by_name(name, [fixed])
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: what it asks for, and how it is shown. `bar` draws it as a bar up to `top`."""

    title: str
    expr: str
    unit: str
    colours: Steps | None = None
    bar: bool = False
    top: float | None = None
    width: int | None = None
    decimals: int | None = None
    mappings: Mapping[str, tuple[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A column of a label's values. `link` (words, address) leads on from a cell; `colours` colours cells by value."""

    title: str
    name: str
    link: tuple[str, str] | None = None
    width: int | None = None
    texts: Mapping[str, tuple[str, str]] | None = None
    """Other words for some values, and their colour ("" for none)."""
    coloured: bool = False
    wrap: bool = False
    """Long texts are broken into lines."""


@dataclass(frozen=True, slots=True)
class ActionColumn:
    """A column whose cells are buttons that send a request from the reader's browser, once confirmed."""

    title: str
    label: str
    """The label whose column holds the button."""
    button: str
    method: str
    url: str
    confirmation: str
    asks: Mapping[str, str] = field(default_factory=dict)
    """What the reader is asked for in the confirmation: name, which stands as ``$name`` in the request, and words."""
    headers: Sequence[tuple[str, str]] = field(default=(("Content-Type", "application/json"),))
    body: str = "{}"
    width: int = 130


def table_panel(
    title: str,
    labels: Sequence[Label],
    columns: Sequence[Column],
    *,
    description: str,
    size: tuple[int, int] = (24, 9),
    sort: str | None = None,
    ascending: bool = False,
    action: ActionColumn | None = None,
    no_value: str = "-",
) -> table.Panel:
    """A row for each set of `labels`, sorted by the column `sort`, the highest first unless `ascending`.

    Every column is one instant query whose result has exactly these labels; rows are joined on them.
    """
    panel = _started(
        table.Panel(), title, size, description, "string", PLAIN
    )  # as numbers, labels would gain units
    panel = panel.show_header(True).cell_height(common_models.TableCellHeight.SM).no_value(no_value)
    for ref, column in zip(_refs(len(columns)), columns, strict=True):
        panel = panel.with_target(_target(Query(column.expr, ""), ref, instant=True, as_table=True))
    names = [label.name for label in labels] + ([action.label] if action else [])
    values = ["Value"] if len(columns) == 1 else [f"Value #{ref}" for ref in _refs(len(columns))]
    titles = {label.name: label.title for label in labels} | dict(
        zip(values, (column.title for column in columns), strict=True)
    )
    if action:
        titles[action.label] = action.title
    order = {name: index for index, name in enumerate((*(label.name for label in labels), *values))}
    if action:
        order[action.label] = len(order)
    transformations: list[tuple[str, dict[str, Any]]] = [
        ("filterFieldsByName", {"include": {"names": [*dict.fromkeys(names), *values]}}),
        *([("merge", {})] if len(columns) > 1 else []),
        ("organize", {"indexByName": order, "renameByName": titles}),
    ]
    for name, options in transformations:
        panel = panel.with_transformation(models.DataTransformerConfig(id_val=name, options=options))
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(not ascending)])
    for label in labels:
        if properties := _label_properties(label):
            panel = panel.override_by_name(label.title, properties)
    for column in columns:
        panel = panel.override_by_name(column.title, _column_properties(column))
    if action:
        panel = panel.override_by_name(action.title, _action_properties(action))
    return panel


_LEAST_WIDTH: Final = 190
"""Of a column of names, in pixels: on a phone a table is wider than the screen rather than its names cut off."""


def _value_property(name: str, value: Any) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(name, value)


def _label_properties(label: Label) -> list[models.DynamicConfigValue]:
    properties = []
    if label.wrap:
        properties.append(
            _value_property("custom.cellOptions", {"type": "auto", "wrapText": True})
        )  # until 12
        properties.append(_value_property("custom.wrapText", True))
    if label.width:
        properties.append(_value_property("custom.width", label.width))
    else:
        properties.append(_value_property("custom.minWidth", _LEAST_WIDTH))
    if label.link:
        words, url = label.link
        properties.append(_value_property("links", [{"title": words, "url": url}]))
    if label.texts:
        options = {
            key: {"text": words, "index": index, **({"color": colour} if colour else {})}
            for index, (key, (words, colour)) in enumerate(label.texts.items())
        }
        properties.append(_value_property("mappings", [{"type": "value", "options": options}]))
    if label.coloured:
        properties.append(_value_property("custom.cellOptions", {"type": "color-text"}))
    return properties


def _column_properties(column: Column) -> list[models.DynamicConfigValue]:
    properties = [_value_property("unit", column.unit)]
    if column.colours:
        properties.append(_value_property("thresholds", _threshold_value(column.colours)))
    cell: dict[str, Any] | None = {"type": "color-text"} if column.colours else None
    if column.bar:
        cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
        properties.append(_value_property("min", 0))
        if not column.colours:
            properties.append(_value_property("color", {"mode": "fixed", "fixedColor": NEUTRAL}))
    if cell:
        properties.append(_value_property("custom.cellOptions", cell))
    if column.top is not None:
        properties.append(_value_property("max", column.top))
    if column.width:
        properties.append(_value_property("custom.width", column.width))
    if column.decimals is not None:
        properties.append(_value_property("decimals", column.decimals))
    if column.mappings:
        options = {
            key: {"text": words, "color": colour, "index": index}
            for index, (key, (words, colour)) in enumerate(column.mappings.items())
        }
        properties.append(_value_property("mappings", [{"type": "value", "options": options}]))
    return properties


def _action_properties(action: ActionColumn) -> list[models.DynamicConfigValue]:
    request = {
        "type": "fetch",
        "title": action.button,
        "confirmation": action.confirmation,
        "variables": [{"key": key, "name": words, "type": "string"} for key, words in action.asks.items()],
        "oneClick": True,
        "style": {"backgroundColor": "#b3261e"},  # by number: its button knows no names
        "fetch": {
            "method": action.method,
            "url": action.url,
            "body": action.body,
            "headers": [list(pair) for pair in action.headers],
            "queryParams": [],
        },
    }
    return [
        _value_property("custom.cellOptions", {"type": "actions"}),
        _value_property("actions", [request]),
        _value_property("custom.width", action.width),
    ]


def text_panel(
    title: str, content: str, *, description: str, size: tuple[int, int] = (24, 4), number: int | None = None
) -> text.Panel:
    """Words, in Markdown. `number` is the panel's id, where links lead to it."""
    width, height = size
    panel = text.Panel().title(title).description(description).mode("markdown").content(content)
    panel = panel.grid_pos(models.GridPos(w=width, h=height))
    return panel if number is None else panel.id(number)


def _link(words: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(words).url(url)
