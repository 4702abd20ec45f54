"""Promises of the text that Prometheus reads. Judges: promtool and prometheus_client's two parsers."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from restaurant_otel import catalog
from restaurant_otel.catalog import Across, Kind, Metric
from restaurant_otel.metrics import Exemplar, Family, HistogramPoint, NumberPoint, Value
from restaurant_otel.metrics.exposition import CHUNK, OPENMETRICS, TEXT, Format, negotiate, render
from tests.support.processes import required
from tests.support.readings import Readings

ORDERS = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.", ("branch", "payment"))
TABLES = Metric("shop.tables", "", Kind.UP_DOWN_COUNTER, "Tables taken.", ("branch",))
OVEN = Metric("shop.oven.temperature", "Cel", Kind.GAUGE, "How hot it is.", ("oven",))
WAIT = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (0.5, 10.0))

BOTH = pytest.mark.parametrize("form", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])


def text(*families: Family, form: Format = TEXT, **options: object) -> str:
    return b"".join(render(families, form, **options)).decode()  # type: ignore[arg-type]


def samples(page: str, form: Format) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page by name and labels, as prometheus_client's parser for `form` reads it."""
    parse = parse_openmetrics if form.openmetrics else parse_text
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse(page):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def lint(page: str) -> str:
    """What promtool has to say about a page; nothing if it is content."""
    done = subprocess.run(
        [required("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, timeout=30
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


# --- which format -------------------------------------------------------------------------------------

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param(None, TEXT_TYPE, id="no header"),
        pytest.param("", TEXT_TYPE, id="an empty header"),
        pytest.param("*/*", TEXT_TYPE, id="curl"),
        pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", TEXT_TYPE, id="a browser"),
        pytest.param(PROMETHEUS_2, OPENMETRICS_TYPE, id="Prometheus 2"),
        pytest.param(PROMETHEUS_3, OPENMETRICS_TYPE + "; escaping=underscores", id="Prometheus 3"),
        pytest.param(f"{PROTOBUF};q=0.6,{PROMETHEUS_2}", OPENMETRICS_TYPE, id="protobuf preferred"),
        pytest.param(PROTOBUF, TEXT_TYPE, id="protobuf only"),
        pytest.param(
            f"{PROTOBUF},text/plain;version=0.0.4;q=0.3,*/*;q=0.1", TEXT_TYPE, id="protobuf or text"
        ),
        pytest.param(
            "text/plain;version=1.0.0;escaping=dots",
            "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
            id="text 1.0.0",
        ),
        pytest.param(
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text; version=0.0.1; charset=utf-8",
            id="the OpenMetrics draft",
        ),
        pytest.param("application/openmetrics-text", OPENMETRICS_TYPE, id="no version"),
        pytest.param("application/openmetrics-text; version=2.0.0", TEXT_TYPE, id="a version of the future"),
        pytest.param("application/openmetrics-text;q=0,text/plain", TEXT_TYPE, id="refused by q=0"),
        pytest.param(
            "text/plain;q=0.4, Application/OpenMetrics-Text ; Q=0.5", OPENMETRICS_TYPE, id="any case"
        ),
        pytest.param('application/openmetrics-text;version="1.0.0"', OPENMETRICS_TYPE, id="quoted"),
        pytest.param("application/openmetrics-text;q=lots", TEXT_TYPE, id="a malformed q"),
        pytest.param("application/openmetrics-text;q=nan,text/plain;q=0.1", TEXT_TYPE, id="a q of nan"),
    ],
)
def test_a_scraper_gets_the_best_format_it_asks_for(accept: str | None, content_type: str) -> None:
    chosen = negotiate(accept)
    assert chosen.content_type == content_type
    assert chosen.openmetrics == content_type.startswith("application/openmetrics-text")


@given(st.text(max_size=200))
def test_any_accept_header_is_answered(accept: str) -> None:
    assert negotiate(accept).content_type


# --- the text -----------------------------------------------------------------------------------------


def all_kinds() -> list[Family]:
    return [
        Family(ORDERS, [NumberPoint(("Mitte", "card"), 3.0), NumberPoint(("Mitte", None), 1.5)]),
        Family(TABLES, [NumberPoint(("Mitte",), -2.0)]),
        Family(OVEN, [NumberPoint((1,), 180.5)]),
        Family(WAIT, [HistogramPoint(("Mitte",), [1, 2, 3], 64.25)]),
    ]


def test_text_is_written_as_prometheus_specifies() -> None:
    assert text(*all_kinds(), target_info={"service.name": "shop"}) == (
        "# HELP target_info Target metadata\n"
        "# TYPE target_info gauge\n"
        'target_info{service_name="shop"} 1\n'
        "# HELP shop_orders_total Orders taken.\n"
        "# TYPE shop_orders_total counter\n"
        'shop_orders_total{branch="Mitte",payment="card"} 3.0\n'
        'shop_orders_total{branch="Mitte"} 1.5\n'
        "# HELP shop_tables Tables taken.\n"
        "# TYPE shop_tables gauge\n"
        'shop_tables{branch="Mitte"} -2.0\n'
        "# HELP shop_oven_temperature_celsius How hot it is.\n"
        "# TYPE shop_oven_temperature_celsius gauge\n"
        'shop_oven_temperature_celsius{oven="1"} 180.5\n'
        "# HELP shop_wait_seconds Time until served.\n"
        "# TYPE shop_wait_seconds histogram\n"
        'shop_wait_seconds_bucket{branch="Mitte",le="0.5"} 1\n'
        'shop_wait_seconds_bucket{branch="Mitte",le="10.0"} 3\n'
        'shop_wait_seconds_bucket{branch="Mitte",le="+Inf"} 6\n'
        'shop_wait_seconds_sum{branch="Mitte"} 64.25\n'
        'shop_wait_seconds_count{branch="Mitte"} 6\n'
    )


def test_openmetrics_is_written_as_specified() -> None:
    families = all_kinds()
    families[3].points = [
        HistogramPoint(("Mitte",), [1, 2, 3], 64.25, [None, Exemplar(7.5, 1700000000.25, 0xABC, 0xDEF), None])
    ]
    assert text(*families, form=OPENMETRICS, target_info={"service.name": "shop"}) == (
        "# HELP target Target metadata\n"
        "# TYPE target info\n"
        'target_info{service_name="shop"} 1\n'
        "# HELP shop_orders Orders taken.\n"
        "# TYPE shop_orders counter\n"
        'shop_orders_total{branch="Mitte",payment="card"} 3.0\n'
        'shop_orders_total{branch="Mitte"} 1.5\n'
        "# HELP shop_tables Tables taken.\n"
        "# TYPE shop_tables gauge\n"
        'shop_tables{branch="Mitte"} -2.0\n'
        "# HELP shop_oven_temperature_celsius How hot it is.\n"
        "# TYPE shop_oven_temperature_celsius gauge\n"
        "# UNIT shop_oven_temperature_celsius celsius\n"
        'shop_oven_temperature_celsius{oven="1"} 180.5\n'
        "# HELP shop_wait_seconds Time until served.\n"
        "# TYPE shop_wait_seconds histogram\n"
        "# UNIT shop_wait_seconds seconds\n"
        'shop_wait_seconds_bucket{branch="Mitte",le="0.5"} 1\n'
        'shop_wait_seconds_bucket{branch="Mitte",le="10.0"} 3 # {trace_id="00000000000000000000000000000abc",'
        'span_id="0000000000000def"} 7.5 1700000000.250\n'
        'shop_wait_seconds_bucket{branch="Mitte",le="+Inf"} 6\n'
        'shop_wait_seconds_sum{branch="Mitte"} 64.25\n'
        'shop_wait_seconds_count{branch="Mitte"} 6\n'
        "# EOF\n"
    )


def of_the_catalogue() -> list[Family]:
    """Each metric of the catalogue with one series."""
    families = []
    for metric in catalog.METRICS:
        values: tuple[Value, ...] = tuple(f"a {name}" for name in metric.attributes)
        worker = "4711" if metric.across is Across.PER_WORKER else None
        if metric.kind is Kind.HISTOGRAM:
            exemplars = [Exemplar(0.001, 1.7e9, 1, 2), *[None] * len(metric.bounds)]
            counts = list(range(len(metric.bounds) + 1))
            families.append(Family(metric, [HistogramPoint(values, counts, 9.5, exemplars, worker, 1.6e9)]))
        else:
            families.append(Family(metric, [NumberPoint(values, 2.5, worker, 1.6e9)]))
    return families


def test_promtool_finds_no_fault_with_any_metric_of_the_catalogue() -> None:
    faults = lint(text(*of_the_catalogue(), target_info={"service.name": "shop"})).splitlines()
    # It wants `_count` for histograms alone; the semantic conventions call a number of things that.
    counts = {metric.prometheus_name for metric in catalog.METRICS if metric.name.endswith(".count")}
    allowed = {
        f'{name} non-histogram and non-summary metrics should not have "_count" suffix' for name in counts
    }
    assert set(faults) <= allowed


@BOTH
@pytest.mark.parametrize("created", [False, True])
def test_prometheus_client_reads_every_metric_of_the_catalogue(form: Format, created: bool) -> None:
    families = of_the_catalogue()
    found = samples(text(*families, form=form, created=created), form)
    for family in families:
        name, kind = family.metric.prometheus_name, family.metric.kind
        suffix = {Kind.COUNTER: "_total", Kind.OBSERVED_COUNTER: "_total", Kind.HISTOGRAM: "_count"}.get(
            kind, ""
        )
        assert any(key[0] == name + suffix for key in found)
        with_created = (
            created and form.openmetrics and kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER, Kind.HISTOGRAM)
        )
        assert (name + "_created" in {key[0] for key in found}) == with_created


def test_openmetrics_tells_when_counting_began_only_if_asked() -> None:
    family = Family(ORDERS, [NumberPoint(("a", "b"), 1.0, start=1600000000.5)])
    assert "_created" not in text(family, form=OPENMETRICS)
    assert "_created" not in text(family, form=TEXT, created=True)
    page = text(family, form=OPENMETRICS, created=True)
    assert 'shop_orders_created{branch="a",payment="b"} 1600000000.5\n' in page


@BOTH
def test_nothing_recorded_is_an_empty_page(form: Format) -> None:
    assert text(Family(ORDERS), Family(WAIT), form=form) == ("# EOF\n" if form.openmetrics else "")


def test_exemplars_are_only_in_openmetrics_and_are_read_back() -> None:
    exemplar = Exemplar(7.5, 1700000000.25, 2**128 - 1, 2**64 - 1)
    family = Family(WAIT, [HistogramPoint(("Mitte",), [0, 1, 0], 7.5, [None, exemplar, None])])
    assert "#" not in text(family).split("histogram\n", 1)[1]
    page = text(family, form=OPENMETRICS)
    read = [s.exemplar for f in parse_openmetrics(page) for s in f.samples if s.exemplar is not None]
    assert [(e.labels["trace_id"], e.labels["span_id"], e.value, float(e.timestamp)) for e in read] == [
        ("f" * 32, "f" * 16, 7.5, 1700000000.25)
    ]
    assert sum(len(name) + len(value) for name, value in read[0].labels.items()) <= 128


@BOTH
def test_a_reading_that_was_taken_away_is_not_shown(form: Format) -> None:
    page = text(Family(OVEN, [NumberPoint((1,), math.nan), NumberPoint((2,), 20.0)]), form=form)
    assert set(samples(page, form)) == {labelled("shop_oven_temperature_celsius", oven="2")}


@BOTH
def test_each_worker_has_a_series_where_the_catalogue_says_so(form: Format) -> None:
    points = [
        NumberPoint((1,), 1.0, worker="10"),
        NumberPoint((1,), 2.0, worker="11"),
        NumberPoint((None,), 3.0, "11"),
    ]
    found = samples(text(Family(OVEN, list(points)), form=form), form)
    name = "shop_oven_temperature_celsius"
    assert found == {
        labelled(name, oven="1", worker="10"): 1.0,
        labelled(name, oven="1", worker="11"): 2.0,
        labelled(name, worker="11"): 3.0,
    }


@BOTH
def test_the_set_beyond_the_limit_is_marked(form: Format) -> None:
    page = text(
        Family(ORDERS, [NumberPoint((), 7.0, overflow=True)]),
        Family(WAIT, [HistogramPoint((), [1, 0, 0], 0.1, overflow=True)]),
        form=form,
    )
    found = samples(page, form)
    assert found[labelled("shop_orders_total", otel_metric_overflow="true")] == 7.0
    assert found[labelled("shop_wait_seconds_count", otel_metric_overflow="true")] == 1.0


@BOTH
@pytest.mark.parametrize("value", [0.0, -0.0, 1e-05, 0.1, 1e16, 1e300, 5e-324, 2.0**53, math.inf, -math.inf])
def test_every_number_is_read_back_as_it_was(form: Format, value: float) -> None:
    found = samples(text(Family(OVEN, [NumberPoint((1,), value)]), form=form), form)
    assert list(found.values()) == [value]


@BOTH
def test_bounds_are_spelled_as_prometheus_spells_them(form: Format) -> None:
    bounds = (0.00001, 0.001, 1.0, 100000.0, 1000000.0, 1048576.0, 1e16, 1e22)
    metric = Metric("shop.scale", "", Kind.HISTOGRAM, "A scale.", (), bounds)
    page = text(Family(metric, [HistogramPoint((), [1] * 9, 1.0)]), form=form)
    spelled = [line.split('le="')[1].split('"')[0] for line in page.splitlines() if "_bucket" in line]
    assert spelled == ["1e-05", "0.001", "1.0", "100000.0", "1e+06", "1.048576e+06", "1e+16", "1e+22", "+Inf"]


@BOTH
def test_a_histogram_of_negative_values_stays_valid(form: Format) -> None:
    metric = Metric("shop.change", "", Kind.HISTOGRAM, "More or less.", (), (-1.0, 1.0))
    found = samples(text(Family(metric, [HistogramPoint((), [1, 1, 1], -3.0)]), form=form), form)
    assert found[labelled("shop_change_bucket", le="+Inf")] == 3.0


@BOTH
def test_help_may_hold_anything(form: Format) -> None:
    metric = Metric("shop.odd", "", Kind.GAUGE, 'a "quoted" \\ back\\nslash\nand two lines \udcff', ())
    page = text(Family(metric, [NumberPoint((), 1.0)]), form=form)
    assert samples(page, form) == {labelled("shop_odd"): 1.0}
    assert len(page.splitlines()) == (4 if form.openmetrics else 3)


def test_a_counter_that_is_called_total_is_not_total_twice() -> None:
    metric = Metric("shop.guests.total", "", Kind.COUNTER, "Guests.", ())
    assert "shop_guests_total 1.0\n" in text(Family(metric, [NumberPoint((), 1.0)]))


# --- labels -------------------------------------------------------------------------------------------

# Everything a label may hold, surrogate halves and control characters included.
hostile = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        '"',
        "\\",
        "\n",
        "\\n",
        '\\"',
        "%s",
        "%",
        "%%d",
        "\x00",
        "\x01",
        "\r",
        "a,b",
        "}",
        "{",
        " # {",
        "\udcff",
        "# EOF",
    ]
)


def readable(value: Value) -> str:
    """What must arrive for a value: itself, save what UTF-8 or a scraper cannot carry."""
    return str(value).encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


@BOTH
@given(
    # Values that are equal in Python (0 and False) are one attribute set, in the registry as here.
    values=st.lists(
        st.tuples(hostile, hostile | st.none() | st.integers()), max_size=5, unique_by=lambda pair: pair
    )
)
def test_hostile_label_values_arrive_as_they_are(form: Format, values: list[tuple[str, Value]]) -> None:
    metric = Metric("shop.hostile", "", Kind.COUNTER, "Hostile.", ("first", "second"))
    histogram = Metric("shop.hostile.wait", "s", Kind.HISTOGRAM, "Hostile.", ("first", "second"), (1.0,))
    wanted = {}
    for first, second in values:
        labels = {"first": readable(first)} if first else {}
        if second is not None and second != "":
            labels["second"] = readable(second)
        wanted[frozenset(labels.items())] = (first, second)
    page = text(
        Family(metric, [NumberPoint(pair, 1.0) for pair in wanted.values()]),
        Family(histogram, [HistogramPoint(pair, [1, 0], 0.5) for pair in wanted.values()]),
        form=form,
        target_info={f"attribute.{index}": second for index, (_, second) in enumerate(values)},
    )
    found = samples(page, form)
    assert {labels for name, labels in found if name == "shop_hostile_total"} == set(wanted)
    assert {labels for name, labels in found if name == "shop_hostile_wait_seconds_count"} == set(wanted)


def test_numbers_and_truth_values_are_spelled_as_in_json() -> None:
    page = text(Family(ORDERS, [NumberPoint((True, 1.5), 1.0), NumberPoint((False, 10**20), 1.0)]))
    assert 'shop_orders_total{branch="true",payment="1.5"} 1.0\n' in page
    assert 'shop_orders_total{branch="false",payment="100000000000000000000"} 1.0\n' in page


def test_promtool_accepts_hostile_label_values() -> None:
    values = ['"', "\\", "\n", "\\n", "%s %d %%", "\x00", "\r", "|", "}", "é", "\udcff", "😀"]
    points = [NumberPoint((value, str(index)), 1.0) for index, value in enumerate(values)]
    assert lint(text(Family(ORDERS, list(points)))) == ""


@BOTH
def test_attributes_spelled_alike_share_a_label(form: Format) -> None:
    metric = Metric("shop.alike", "", Kind.GAUGE, "Alike.", ("b.c", "a", "b_c"))
    page = text(
        Family(metric, [NumberPoint(("1", "2", "3"), 1.0), NumberPoint(("1", None, None), 2.0)]),
        form=form,
    )
    assert samples(page, form) == {
        labelled("shop_alike", a="2", b_c="1;3"): 1.0,
        labelled("shop_alike", b_c="1"): 2.0,
    }


@BOTH
def test_attributes_cannot_take_the_place_of_reserved_labels(form: Format) -> None:
    attributes = ("le", "worker", "otel.metric.overflow", "__name__", "", "1st", "größe")
    metric = Metric("shop.sly", "", Kind.HISTOGRAM, "Sly.", attributes, (1.0,))
    page = text(Family(metric, [HistogramPoint(tuple("abcdefg"), [1, 0], 0.5, worker="9")]), form=form)
    found = samples(page, form)
    labels = {
        "exported_le": "a",
        "exported_worker": "b",
        "exported_otel_metric_overflow": "c",
        "_name__": "d",
        "_": "e",
        "_1st": "f",
        "gr_e": "g",
        "worker": "9",
    }
    assert labelled("shop_sly_count", **labels) in found


def test_target_info_holds_sequences_as_json() -> None:
    page = text(target_info={"process.tags": ("a", 1), "none": None})
    assert page.splitlines()[-1] == 'target_info{process_tags="[\\"a\\", 1]"} 1'


def test_more_label_values_than_are_remembered_are_written_all_the_same() -> None:
    metric = Metric("shop.many", "", Kind.GAUGE, "Many.", ("n",))
    for start in (0, 15_000):  # more than are remembered
        points = [NumberPoint((n,), float(n)) for n in range(start, start + 15_000)]
        page = text(Family(metric, list(points)))
        assert f'shop_many{{n="{start}"}} {start}.0\n' in page
        assert page.count("\n") == 15_002


# --- names that clash ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Metric("shop_orders", "", Kind.GAUGE, "", ()), id="another type"),
        pytest.param(
            Metric("shop.orders.total", "", Kind.GAUGE, "", ()), id="a gauge called like a counter's sample"
        ),
        pytest.param(Metric("shop.orders.created", "", Kind.GAUGE, "", ()), id="like its creation time"),
        pytest.param(Metric("target.info", "", Kind.GAUGE, "", ()), id="like target_info"),
    ],
)
def test_of_two_metrics_with_one_name_the_first_is_shown_and_the_other_counted(
    form: Format, other: Metric, added: Callable[[], Readings]
) -> None:
    page = text(
        Family(ORDERS, [NumberPoint(("a", "b"), 1.0)]),
        Family(other, [NumberPoint((), 99.0)]),
        Family(TABLES, [NumberPoint(("a",), 2.0)]),
        form=form,
        target_info={"service.name": "shop"},
    )
    found = samples(page, form)
    assert 99.0 not in found.values()
    assert found[labelled("shop_orders_total", branch="a", payment="b")] == 1.0
    assert found[labelled("shop_tables", branch="a")] == 2.0
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="exposition") == 1
    if not form.openmetrics:
        assert lint(page) == ""


@BOTH
def test_one_name_in_two_units_is_shown_in_the_first(form: Format) -> None:
    first = Metric("shop.sent.bytes", "", Kind.GAUGE, "Sent.", ("a",))
    second = Metric("shop.sent", "By", Kind.GAUGE, "Sent.", ("b",))
    page = text(
        Family(first, [NumberPoint(("x",), 1.0)]), Family(second, [NumberPoint(("x",), 2.0)]), form=form
    )
    assert samples(page, form) == {labelled("shop_sent_bytes", a="x"): 1.0}


@BOTH
def test_pieces_and_attribute_sets_of_one_metric_become_one_family(form: Format) -> None:
    other_attributes = Metric(ORDERS.name, ORDERS.unit, Kind.COUNTER, ORDERS.help, ("guest",))
    page = text(
        Family(ORDERS, [NumberPoint(("a", "b"), 1.0)]),
        Family(ORDERS, [NumberPoint(("c", "d"), 2.0)]),
        Family(other_attributes, [NumberPoint(("e",), 3.0)]),
        form=form,
    )
    assert page.count("# TYPE") == 1
    assert sorted(samples(page, form).values()) == [1.0, 2.0, 3.0]


@BOTH
def test_a_series_is_shown_once(form: Format, added: Callable[[], Readings]) -> None:
    other_attributes = Metric(
        ORDERS.name, ORDERS.unit, Kind.COUNTER, ORDERS.help, ("payment", "branch", "guest")
    )
    page = text(
        Family(ORDERS, [NumberPoint((None, None), 1.0)]),
        Family(other_attributes, [NumberPoint((None, "", None), 2.0)]),
        form=form,
    )
    assert list(samples(page, form).values()) == [1.0]
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="exposition") == 1


# --- pieces -------------------------------------------------------------------------------------------


@BOTH
def test_a_long_page_comes_in_short_pieces(form: Format) -> None:
    families = [
        Family(WAIT, [HistogramPoint((str(n),), [1, 1, 1], 1.0) for n in range(1000)]),
        Family(OVEN, [NumberPoint((n,), 1.0) for n in range(3000)]),
    ]
    pieces = list(render(families, form))
    assert b"".join(pieces).count(b"\n") > 8000
    assert all(piece.count(b"\n") <= CHUNK + 10 for piece in pieces)
