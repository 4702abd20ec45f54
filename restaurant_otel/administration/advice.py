"""``POST /advise`` and ``POST /advise/apply``: the index advisor, as a job in a process of its own.

The advisor parses and weighs statements for seconds; in another process it takes no turn from the app's requests. The
statements are the query book's, the database is that of the setting ``admin_database_url``. To make an index takes the
right to configure, and two steps: the first answers with what would be made and a confirmation, the second brings it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from secrets import token_hex
from typing import Annotated, Any, Final

from pydantic import Field

from restaurant_otel.administration import child
from restaurant_otel.administration.jobs import Job, Report
from restaurant_otel.administration.openapi import JOB_ID
from restaurant_otel.administration.operations import Call, Given, Operation, Problem
from restaurant_otel.administration.shared import Shelf
from restaurant_otel.auth import Right
from restaurant_otel.sql import book

MOST_SECONDS: Final = 900.0
"""How long advising may take; making an index may take as long as it does."""

CONFIRM_SECONDS: Final = 600
_MOST_STATEMENTS: Final = 500


class Advise(Given):
    """What to look at."""

    limit: Annotated[
        int, Field(ge=1, le=_MOST_STATEMENTS, description="Statements, those that took most time.")
    ] = 200


class Apply(Given):
    """Which of a job's indexes to make. Without `confirm` nothing is made."""

    job: Annotated[str, Field(pattern=JOB_ID, description="The job that recommended them.")]
    indexes: Annotated[list[str], Field(min_length=1, max_length=50, description="Their names.")]
    confirm: Annotated[str | None, Field(max_length=200, description="What the first step answered.")] = None


@dataclass(slots=True)
class Proposal:
    """What would be made: send the same again with `confirm` within `seconds`. Or `job`, which makes it."""

    indexes: list[str]
    confirm: str | None
    seconds: int
    job: Job | None


def start_advice(call: Call) -> Job:
    """``POST /advise``."""
    url = _database(call)
    statements = [
        {
            "text": one.text,
            "calls": one.calls,
            "routes": [use.route for use in one.routes if use.route is not None],
        }
        for one in book.query_book()
        if one.text
    ][: call.body.limit]
    if not statements:
        raise Problem(HTTPStatus.CONFLICT, "No statement has been seen yet.")
    task = {"url": url, "statements": statements}
    return call.service.jobs.start("advise", _by(call), lambda report: _run(task, report, MOST_SECONDS))


def apply_advice(call: Call) -> Proposal:
    """``POST /advise/apply``."""
    url, wanted = _database(call), call.body
    job = call.service.jobs.get(wanted.job)
    if job is None or job.kind != "advise" or job.state != "done":
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such job, or it has not recommended anything.")
    recommended = {one["name"]: one["index"] for one in job.result["recommendations"]}
    if not set(wanted.indexes) <= recommended.keys():
        raise Problem(HTTPStatus.BAD_REQUEST, "The job has not recommended all of these.")
    chosen = sorted(set(wanted.indexes))
    said = [_by(call), job.id, *chosen]
    if wanted.confirm is None:
        return Proposal(chosen, _confirmation(call.service.shelf, said), CONFIRM_SECONDS, None)
    if not _confirmed(call.service.shelf, said, wanted.confirm):
        raise Problem(HTTPStatus.CONFLICT, "The confirmation is not for this, or too old.")
    task = {"url": url, "indexes": [recommended[name] for name in chosen]}
    made = call.service.jobs.start("apply", _by(call), lambda report: _run(task, report, None))
    return Proposal(chosen, None, 0, made)


def _database(call: Call) -> str:
    url = call.service.settings.admin_database_url
    if url is None:
        raise Problem(HTTPStatus.CONFLICT, "The setting admin_database_url is not set.")
    return url


def _by(call: Call) -> str:
    return call.caller.subject if call.caller is not None else ""


def _run(task: dict[str, Any], report: Report, most: float | None) -> Any:
    """The advisor's answer. Raises FailedError."""
    command = [child.python(), "-m", "restaurant_otel.administration.advising"]
    return child.converse(command, task, report, most)


# --- the confirmation --------------------------------------------------------------------------------


def _confirmation(shelf: Shelf, said: list[str]) -> str:
    until = str(int(time.time()) + CONFIRM_SECONDS)
    return f"{until}.{_sign(shelf, [until, *said])}"


def _confirmed(shelf: Shelf, said: list[str], given: str) -> bool:
    until, _, signature = given.partition(".")
    genuine = hmac.compare_digest(_sign(shelf, [until, *said]).encode(), signature.encode())
    return genuine and until.isdigit() and time.time() < int(until)


def _sign(shelf: Shelf, words: list[str]) -> str:
    """By a secret that the app's workers share, and nobody else."""
    secret = shelf.get("secret")
    if not isinstance(secret, str):
        secret = shelf.change("secret", lambda known: known if isinstance(known, str) else token_hex(32))
    return hmac.new(secret.encode(), json.dumps(words).encode(), hashlib.sha256).hexdigest()


OPERATIONS: Final = (
    Operation(
        "advise",
        "POST",
        "/advise",
        Right.EXECUTE,
        "Look for missing indexes, as a job",
        start_advice,
        Job,
        body=Advise,
        status=HTTPStatus.ACCEPTED,
        problems=(HTTPStatus.CONFLICT,),
        told=("limit",),
    ),
    Operation(
        "advise.apply",
        "POST",
        "/advise/apply",
        Right.CONFIGURE,
        "Make indexes that a job has recommended, in two steps",
        apply_advice,
        Proposal,
        body=Apply,
        problems=(HTTPStatus.CONFLICT,),
        told=("job", "indexes"),
    ),
)
"""What there is to do."""
