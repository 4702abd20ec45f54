"""Why nothing shows: what can be wrong with an app's telemetry, found from outside of it.

    finding.py      what a check says
    environment.py  variables: exporters, endpoints, samplers, our settings
    packages.py     what is installed: versions, and instrumentation that is there twice
    machine.py      this machine: the workers' folder, its space and permissions, Redis
    network.py      over the network: the collector, /metrics, clocks, workers that do not know each other

`restaurant-otel doctor` runs the checks. A check is a function that yields what it finds and raises nothing.
"""
