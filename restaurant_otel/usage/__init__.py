"""The parts of the resource observer; `restaurant_otel.resources` is its public face.

`sampler` runs the clock and hands a `sheet` to collectors, of which each file holds one: it reads one subject off the
system and writes what it has found. The host's: `cpu`, `memory`, `disk`, `filesystem`, `network`, `processes`,
`pressure`, `container`, `limits`. A worker's: `process`, `garbage`, `event_loop`, `thread_pools`, `backlog`, `leaks`.
`portable` stands in for both where there is no ``/proc``. `files` and `cgroups` are what they read from.
"""
