"""What the operations of one admin API share: settings, access, jobs, what is remembered between requests."""

from __future__ import annotations

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from restaurant_otel.administration.alerts import AlertSource
from restaurant_otel.administration.changes import Changes
from restaurant_otel.administration.figures import Watch
from restaurant_otel.administration.health import Examiner
from restaurant_otel.administration.jobs import Jobs
from restaurant_otel.administration.shared import Shelf
from restaurant_otel.auth import Access, Buckets
from restaurant_otel.settings import Settings


class Service:
    """The admin API of one app, in one process. Any thread.

    Raises:
        SettingsError: as `Access` does.
    """

    def __init__(self, settings: Settings, access: Access | None = None) -> None:
        self.settings = settings
        self.access = access or Access(settings)
        self.shelf = Shelf()
        self.jobs = Jobs(self.shelf)
        self.changes = Changes(self.shelf)
        self.watch = Watch()
        self.alerts = AlertSource(settings.admin_alerts_url)
        self.examiner = Examiner(settings.admin_database_url)
        self.limiter: RunVar[CapacityLimiter | None] = RunVar("restaurant-otel-admin", None)
        self._told = Buckets(1)

    def close(self) -> None:
        """End the threads and jobs that go on between requests, without waiting for it."""
        self.jobs.close()
        self.changes.close()
        self.watch.close()

    def tell(self, address: str | None) -> bool:
        """Whether a refusal for too many tries is written down: once a minute for each address."""
        return self._told.take(address or "") == 0.0
