"""What is asked for often and changes seldom, kept for a while: the front page, the menu, branches, people.

`REDIS_URL` names the Redis that all processes share; where it is not set each process keeps its own values in memory,
and what one changes the others show when their copy's time is up. Pages decorate what they read, and invalidate what
they write.
"""

from __future__ import annotations

import os

from restaurant_otel.cache import AsyncCache

cache = AsyncCache(os.environ.get("REDIS_URL") or "memory://", namespace="restaurant", memory_tier=True)
