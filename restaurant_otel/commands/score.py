"""``restaurant-otel score``: how a fleet does, why, and what to do first, as Prometheus knows it.

Exit statuses: 0 good; 3 fair; 4 poor; 5 too little is known for a score, or there is no service; 1 Prometheus could not
be asked; 2 wrong arguments. Of several services the worst counts.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from restaurant_otel.commands.common import CommandError, Json, show_json, show_table, shown
from restaurant_otel.commands.rules import By, Objectives, Selector, options
from restaurant_otel.scorecard import files
from restaurant_otel.scorecard.advice import Recommendation, recommend
from restaurant_otel.scorecard.files import Goals
from restaurant_otel.scorecard.fleet import FleetError, Prometheus, fleet_snapshots
from restaurant_otel.scorecard.formula import Band, Component, Fact, Scorecard, score
from restaurant_otel.scorecard.outlook import Outlook, outlooks

app = typer.Typer(help="Score a fleet by what Prometheus knows.")

STATUS: Final = {Band.GOOD: 0, Band.FAIR: 3, Band.POOR: 4, Band.UNKNOWN: 5}


@app.callback(invoke_without_command=True)
def main(
    prometheus: Annotated[str, typer.Option(envvar="PROMETHEUS_URL", help="Where Prometheus is.")] = (
        "http://localhost:9090"
    ),
    objectives: Objectives = None,
    service: Annotated[str | None, typer.Option(help="Only this service.")] = None,
    by: By = "job",
    selector: Selector = "",
    header: Annotated[
        list[str] | None, typer.Option(help="A header for Prometheus, such as 'X-Scope-OrgID: shop'.")
    ] = None,
    at: Annotated[float | None, typer.Option(help="As of then, in seconds since the epoch.")] = None,
    outlook: Annotated[
        bool, typer.Option("--outlook", help="Say as well what runs out when, and tomorrow's load.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a fleet; see the module for the exit statuses. A bearer token is read from PROMETHEUS_TOKEN."""
    o = options(objectives, by, selector)
    goals = files.load(objectives) if objectives is not None else Goals()
    try:
        server = Prometheus(prometheus, _headers(header or []))
        snapshots = fleet_snapshots(server, o, at)
        coming = outlooks(server, o, at) if outlook else []
    except FleetError as error:
        raise CommandError(str(error)) from None
    found = [
        (card, recommend(card, each, goals.objectives, goals.advice))
        for each in snapshots
        if service is None or each.service == service
        for card in [score(each, goals.objectives)]
    ]
    if as_json:
        show_json(
            [
                {
                    **data(card, advice),
                    "outlook": [asdict(each) for each in coming if each.service == card.service],
                }
                for card, advice in found
            ]
        )
    else:
        for card, advice in found:
            _show(card, advice, [each for each in coming if each.service == card.service])
        if not found:
            typer.echo("No service was seen in the last hour.", err=True)
    raise typer.Exit(max((STATUS[card.band] for card, _ in found), default=STATUS[Band.UNKNOWN]))


def data(card: Scorecard, advice: list[Recommendation]) -> dict[str, Any]:
    """A scorecard and its recommendations as JSON has them."""
    return {
        "service": card.service,
        "at": card.at,
        "score": card.total,
        "band": card.band.value,
        "coverage": card.coverage,
        "mean": card.mean,
        "capped_by": card.capped_by,
        "components": [
            {
                "name": each.name,
                "value": each.value,
                "unit": each.objective.unit,
                "objective": each.objective.objective,
                "limit": each.objective.limit,
                "points": each.points,
                "weight": each.weight,
                "critical": each.objective.critical,
                "recoverable": each.recoverable,
                "missing": each.why or None,
            }
            for each in card.components
        ],
        "recommendations": [
            {
                "rule": each.advice.name,
                "component": each.component,
                "action": each.advice.action,
                "runbook": each.advice.runbook,
                "gain": each.gain,
                "recoverable": each.recoverable,
                "confidence": each.confidence,
                "evidence": [asdict(fact) for fact in each.evidence],
            }
            for each in advice
        ],
    }


def _headers(given: list[str]) -> dict[str, str]:
    headers = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{each!r} is not of the form 'Name: value'")
        headers[name.strip()] = value.strip()
    token = os.environ.get("PROMETHEUS_TOKEN")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _show(card: Scorecard, advice: list[Recommendation], coming: list[Outlook]) -> None:
    total = "no score" if card.total is None else f"{card.total:.1f} of 100, {card.band.value}"
    if card.total is None:
        total += f": only {card.coverage:.0%} of what it is made of is known"
    elif card.coverage < 1:
        total += f", from {card.coverage:.0%} of what it is made of"
    if card.capped_by is not None:
        total += f"; held down by {card.capped_by}"
    typer.echo(f"{shown(card.service)}: {total}")
    show_table(
        ("", "Value", "Objective", "Points", "Weight", "Lost"),
        [
            (
                each.name,
                each.why if each.value is None else figure(each.value, each.objective.unit),
                ("≥ " if each.objective.higher_is_better else "≤ ")
                + figure(each.objective.objective, each.objective.unit),
                None if each.points is None else f"{each.points:.0f}",
                f"{each.weight:g}",
                _lost(each),
            )
            for each in card.components
        ],
        right=(3, 4, 5),
    )
    for number, each in enumerate(advice, 1):
        typer.echo(f"{number}. {each.advice.action} Up to {each.gain:.1f} points. ({each.advice.runbook})")
        for fact in each.evidence:
            typer.echo(f"     {shown(fact.subject)}: {_fact(fact)}")
    for each_coming in coming:
        typer.echo(f"{each_coming.what} ({shown(each_coming.subject)}): {_when(each_coming)}")
    typer.echo()


def _when(coming: Outlook) -> str:
    if coming.seconds is None:
        return f"up to {coming.peak or 0:.3g} requests a second"
    if coming.seconds < 2 * 3600:
        return f"runs out in {coming.seconds / 60:.0f} minutes"
    return f"runs out in {coming.seconds / 3600:.0f} hours"


def _lost(component: Component) -> str:
    return f"{component.recoverable:.1f}" if component.recoverable else ""


def figure(value: float, unit: str) -> str:
    """A share in percent, a time in the unit that suits it."""
    if unit == "1":
        return f"{value * 100:.4g} %"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _fact(fact: Fact) -> str:
    if fact.unit in ("1", "s"):
        return figure(fact.value, fact.unit)
    if fact.unit == "By/h":
        return f"{fact.value / 1e6:.3g} MB an hour"
    return f"{fact.value:.4g} times"
