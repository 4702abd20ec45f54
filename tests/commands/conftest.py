"""A Redis for the commands that need one."""

from __future__ import annotations

from tests.admin.conftest import redis_server as redis_server  # a fixture
