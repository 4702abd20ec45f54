"""``POST /advise`` and ``POST /advise/apply``: the index advisor, run as a job in a process of its own.

The advisor parses and weighs statements for seconds; in a process of its own it takes no turn from the app's. It is
``restaurant-otel advise --json``, with the database of the setting ``admin_database_url``, which it gets by its
environment: arguments can be read by others.
"""

from __future__ import annotations

from restaurant_otel.administration.operations import Operation

OPERATIONS: tuple[Operation, ...] = ()
