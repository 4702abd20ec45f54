"""The index advisor: which indexes a workload lacks, proven by what-if, and what is wrong with those that are there.

    from restaurant_otel.sql.advisor import advise, statements_file
    advice = advise("postgresql://shop@db/shop", statements_file("workload.sql"))

Offline: nothing of this runs in an app's requests, and nothing here changes a database but `apply`. The parts are
listed in `pipeline.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from restaurant_otel.sql.advisor.model import (
    Advice,
    AdviseError,
    Applied,
    Finding,
    Index,
    Key,
    ReadAdvice,
    Recommendation,
    Statement,
    Verdict,
)

__all__ = [
    "Advice",
    "AdviseError",
    "Applied",
    "Finding",
    "Index",
    "Key",
    "ReadAdvice",
    "Recommendation",
    "Statement",
    "Verdict",
    "advise",
    "apply",
]


def advise(
    database: str | Any,
    workload: str | Path | Iterable[Statement | str] = "pg_stat_statements",
    *,
    against: str | None = None,
    what_if: bool = True,
    seconds: float = 300.0,
    progress: Callable[[float, str], None] | None = None,
) -> Advice:
    """Which indexes would serve `workload` on `database`.

    `database` is a URL (text or SQLAlchemy's) or an engine, whose URL is used; it is opened read-only, with time-outs.
    `workload` is statements, a file of them, ``"pg_stat_statements"`` or ``"capture"``: see `workload.py`. `against`
    is SQL of CREATE INDEXes to be judged. With `what_if` False the database is not asked what an index would change.
    Indexes are tried for at most `seconds`; what was found by then is the advice, and its notes say so. `progress` is
    called, in this thread, with a share of the whole, 0 to 1, that only grows and ends at 1, and with what is being
    done; what it raises ends the advice.

    Raises AdviseError, whose message is fit to be shown. Takes seconds, most of them Python's: an app that serves
    requests runs it in a process of its own, as the admin API does (`restaurant_otel.administration.advising`).
    """
    from restaurant_otel.sql.advisor import pipeline
    from restaurant_otel.sql.advisor import workload as sources
    from restaurant_otel.sql.advisor.progress import Progress

    return pipeline.run(database, sources.source(workload), against, what_if, seconds, Progress(progress))


def apply(
    database: str | Any, indexes: Iterable[Index], told: Callable[[Applied], None] = lambda _: None
) -> list[Applied]:
    """Make `indexes` on `database`, one after the other; see `restaurant_otel.sql.advisor.application.make`."""
    from restaurant_otel.sql.advisor.application import make

    return make(database, indexes, told)
