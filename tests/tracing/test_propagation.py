"""The caller's trace is read as the propagators read it, only faster."""

from __future__ import annotations

import logging
from typing import Any, Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat

from restaurant_otel.tracing.identity import identity_of
from restaurant_otel.tracing.propagation import Extractor

HEX = "0123456789abcdef"
PLAIN = st.builds(
    "{}-{}-{}-{}{}".format,
    st.sampled_from(["00", "01", "ff", "0", "0G"]),
    st.one_of(
        st.text(HEX, min_size=32, max_size=32),
        st.just("0" * 32),
        st.text("0123456789ABCDEF_+- ", max_size=32),
    ),
    st.one_of(st.text(HEX, min_size=16, max_size=16), st.just("0" * 16), st.text(HEX, max_size=17)),
    st.text(HEX, min_size=2, max_size=2),
    st.sampled_from(["", "-more", " ", "-"]),
)
HEADERS = st.one_of(PLAIN.map(str.encode), st.binary(max_size=60))


@given(
    st.lists(HEADERS, max_size=2),
    st.lists(st.sampled_from([b"a=1", b"b=2,c=3", b"=,=", b"\xff"]), max_size=2),
)
@example([b"00-" + b"0" * 16 + b"1" * 16 + b"-" + b"1" * 16 + b"-01"], [])  # a trace id of 64 bits
@example([b"00-" + b"1" * 32 + b"-" + b"0" * 16 + b"-01"], [])
@example([b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"], [])
@example([b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-FF"], [])
@example([b"00-" + b"_1" * 16 + b"-" + b"1" * 16 + b"-01"], [])
@example([b" 00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01"], [])
@example([b"00-" + b"1" * 31 + b"-1" + b"-" + b"1" * 15 + b"-01"], [])
def test_any_traceparent_is_read_as_the_sdks_propagator_reads_it(
    parents: list[bytes], states: list[bytes]
) -> None:
    joined = ((b"traceparent", b",".join(parents)), (b"tracestate", b",".join(states)))
    found = {name: value for name, value in joined if value}
    ours = identity_of(Extractor().extract(found, Context())[1])
    carrier = {name.decode(): [value.decode("latin-1")] for name, value in found.items()}
    theirs = trace.get_current_span(propagate.extract(carrier, Context())).get_span_context()
    assert ours == (theirs if theirs.is_valid else None)
    if ours is not None:
        assert ours.trace_state == theirs.trace_state


def test_what_is_in_the_context_already_stays() -> None:
    context = baggage.set_baggage("kept", "1", Context())
    extracted, parent = Extractor().extract({b"baggage": b"new=2"}, context)
    assert parent is None
    assert baggage.get_baggage("new", extracted) == "2"


def test_other_propagators_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Extractor(B3MultiFormat())
    assert b"x-b3-traceid" in extractor.wanted
    found: Any = {b"x-b3-traceid": b"a" * 32, b"x-b3-spanid": b"b" * 16, b"x-b3-sampled": b"1"}
    parent = identity_of(extractor.extract(found, Context())[1])
    assert parent is not None
    assert parent.trace_id == int("a" * 32, 16)
    assert (
        extractor.extract({b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"}, Context())[1]
        is None
    )


MEMBERS = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"a=1", b" k = v ;p=1; q", b"a=1;;", b"=1", b"a", b"x@y=1", b"K=1", b"a=" + b"x" * 5000, b'a="']
        ),
    ),
    max_size=8,
)


@given(MEMBERS, MEMBERS)
def test_no_client_can_make_the_propagators_write_to_the_log(
    baggage_members: list[bytes], states: list[bytes]
) -> None:
    found = {
        b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        b"baggage": b",".join(baggage_members),
        b"tracestate": b",".join(states),
    }
    with Lines() as lines:
        Extractor().extract(found, Context())
    assert lines == []


def test_many_members_do_not_either() -> None:
    with Lines() as lines:
        many = {b"baggage": b",".join([b"k%d=1" % n for n in range(300)])}
        context, _ = Extractor().extract(many, Context())
        Extractor().extract({b"baggage": b"k=" + b"x" * 9000}, Context())
        states = b",".join([b"k%d=1" % n for n in range(40)])
        parent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
        Extractor().extract({b"traceparent": parent, b"tracestate": states}, Context())
    assert lines == []
    assert len(baggage.get_all(context)) == 180


def test_well_formed_baggage_among_malformed_is_kept() -> None:
    context, _ = Extractor().extract({b"baggage": b"a=1,=,b = 2 ;p=1,c"}, Context())
    assert set(baggage.get_all(context)) == {"a", "b"}


class Lines(list[str]):
    """What is written to OpenTelemetry's logs within the block."""

    def __enter__(self) -> Self:
        self._handler = logging.Handler()
        self._handler.emit = lambda record: self.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("opentelemetry").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("opentelemetry").removeHandler(self._handler)
