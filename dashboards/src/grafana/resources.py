"""Resources: utilisation, saturation and errors of hosts, containers and workers."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.board import Board, Section
from dashboards.src.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    NONE_IS_GOOD,
    Column,
    Label,
    Query,
    Steps,
    about,
    bars_panel,
    graph_panel,
    stat_panel,
    steps,
    steps_of,
    table_panel,
)
from dashboards.src.grafana.queries import quantile, rate, series
from restaurant_otel import catalog

_LAG: Final = Steps(GOOD, ((0.05, FAIR), (0.25, BAD)))
_DISK: Final = steps(0.8, 0.95)
_WORKER: Final = "instance, worker"
_BUSY: Final = 'cpu_mode!="idle"'
_FREE: Final = 'system_filesystem_state="free"'

_BARS: Final = (
    bars_panel(
        "CPU",
        [Query(f"max by (instance) ({series(catalog.CPU_UTILIZATION)})", "{{instance}}")],
        unit="percentunit",
        decimals=0,
        colours=steps_of("cpu"),
        size=(8, 5),
        long_names=True,
        description=about(
            "CPU in use, of what the host or the container may use.", component="cpu", runbooks=("cpu-high",)
        ),
    ),
    bars_panel(
        "Memory",
        [Query(f"max by (instance) ({series(catalog.MEMORY_UTILIZATION)})", "{{instance}}")],
        unit="percentunit",
        decimals=0,
        colours=steps_of("memory"),
        size=(8, 5),
        long_names=True,
        description=about(
            "Memory in use, of what the host or the container may use.",
            component="memory",
            runbooks=("memory-high",),
        ),
    ),
    bars_panel(
        "Disk",
        [
            Query(
                f"max by (system_filesystem_mountpoint) ({series(catalog.SYSTEM_FILESYSTEM_UTILIZATION)})",
                "{{system_filesystem_mountpoint}}",
            )
        ],
        unit="percentunit",
        decimals=0,
        colours=_DISK,
        size=(8, 5),
        long_names=True,
        description=about("Space in use, by mount point; the fullest host's.", runbooks=("disk-full",)),
    ),
)
_STATS: Final = (
    stat_panel(
        "Workers",
        f"sum({series(catalog.TELEMETRY_WORKERS)})",
        unit="none",
        size=(4, 4),
        description=about("Worker processes that are counted.", runbooks=("worker-restarts",)),
    ),
    stat_panel(
        "Started in 15 min",
        f"sum(increase({series(catalog.WORKER_STARTS)}[15m]))",
        unit="none",
        decimals=0,
        colours=Steps(GOOD, ((4, FAIR), (10, BAD))),
        size=(4, 4),
        description=about("Workers that were started, replacements included.", runbooks=("worker-restarts",)),
    ),
    stat_panel(
        "Event loop is late by",
        quantile(0.99, catalog.EVENT_LOOP_LAG, ""),
        unit="s",
        colours=_LAG,
        size=(4, 4),
        description=about(
            "99 % of timers came less late than this: how long something blocked the loop.",
            runbooks=("event-loop-lag",),
        ),
    ),
    stat_panel(
        "Collector pauses",
        quantile(0.99, catalog.GC_PAUSE_DURATION, ""),
        unit="s",
        colours=_LAG,
        size=(4, 4),
        description=about("99 % of the garbage collector's runs held up a worker for less than this."),
    ),
    stat_panel(
        "Leaks suspected",
        f"sum({series(catalog.MEMORY_LEAK_SUSPECTED)}) or vector(0)",
        unit="none",
        decimals=0,
        colours=NONE_IS_GOOD,
        size=(4, 4),
        description=about(
            "Workers whose memory grows steadily towards its limit.", runbooks=("memory-leak",)
        ),
    ),
    stat_panel(
        "Telemetry errors",
        f"sum(increase({series(catalog.TELEMETRY_ERRORS)}[1h])) or vector(0)",
        unit="none",
        decimals=0,
        colours=NONE_IS_GOOD,
        size=(4, 4),
        description=about(
            "Errors of the instrumentation itself in the last hour, survived and logged.",
            runbooks=("telemetry-dropped",),
        ),
    ),
)
_USE: Final = (
    graph_panel(
        "CPU by what it does",
        [Query(f"avg by (cpu_mode) ({series(catalog.SYSTEM_CPU_UTILIZATION, _BUSY)})", "{{cpu_mode}}")],
        unit="percentunit",
        stacked=True,
        size=(8, 8),
        description=about(
            "Share of all CPUs' time, mean of the hosts.", component="cpu", runbooks=("cpu-high",)
        ),
    ),
    graph_panel(
        "Load for each CPU",
        [
            Query(
                f"max by (instance) ({series(catalog.SYSTEM_LOAD_1M)} / {series(catalog.SYSTEM_CPU_LOGICAL_COUNT)})",
                "{{instance}}",
            )
        ],
        unit="none",
        colours=Steps(GOOD, ((1, FAIR), (2, BAD))),
        size=(8, 8),
        description=about(
            "Threads that run or wait, for each CPU: above 1 some wait.", runbooks=("cpu-high",)
        ),
    ),
    graph_panel(
        "Pressure",
        [
            Query(
                f"max by (restaurant_pressure_resource, restaurant_pressure_kind)"
                f" ({series(catalog.PRESSURE_STALLED_SHARE)})",
                "{{restaurant_pressure_resource}} {{restaurant_pressure_kind}}",
            )
        ],
        unit="percentunit",
        size=(8, 8),
        description=about(
            "Share of the time in which some or all (full) tasks waited for CPU, memory or disks (PSI)."
        ),
    ),
    graph_panel(
        "Memory by what it is used for",
        [
            Query(
                f"sum by (system_memory_state) ({series(catalog.SYSTEM_MEMORY_USAGE)})",
                "{{system_memory_state}}",
            )
        ],
        unit="bytes",
        stacked=True,
        size=(8, 8),
        description=about("Memory of all chosen hosts.", component="memory", runbooks=("memory-high",)),
    ),
    graph_panel(
        "Disks",
        [Query(f"sum by (disk_io_direction) ({rate(catalog.SYSTEM_DISK_IO)})", "{{disk_io_direction}}")],
        unit="Bps",
        size=(8, 8),
        description=about("Bytes read and written a second."),
    ),
    graph_panel(
        "Network",
        [
            Query(
                f"sum by (network_io_direction) ({rate(catalog.SYSTEM_NETWORK_IO)})",
                "{{network_io_direction}}",
            ),
        ],
        unit="Bps",
        size=(8, 8),
        description=about("Bytes received and sent a second, of all interfaces."),
    ),
    graph_panel(
        "Network errors and drops",
        [
            Query(f"sum({rate(catalog.SYSTEM_NETWORK_ERRORS)})", "errors"),
            Query(f"sum({rate(catalog.SYSTEM_NETWORK_DROPPED)})", "dropped"),
        ],
        unit="pps",
        size=(8, 8),
        series_colours={"errors": BAD, "dropped": FAIR},
        description=about("Packets a second that were lost on the way in or out."),
    ),
    graph_panel(
        "Connections waiting to be accepted",
        [
            Query(
                f"max by (instance, server_port) ({series(catalog.SERVER_BACKLOG)})",
                "{{instance}} port {{server_port}}",
            ),
        ],
        unit="none",
        size=(8, 8),
        description=about(
            "A queue here means that no worker is free to take a connection.", runbooks=("cpu-high",)
        ),
    ),
    graph_panel(
        "Disk left, forecast",
        [
            Query(
                f"min by (instance, system_filesystem_mountpoint)"
                f" (predict_linear({series(catalog.SYSTEM_FILESYSTEM_USAGE, _FREE)}[6h], 86400))",
                "{{instance}} {{system_filesystem_mountpoint}}",
            )
        ],
        unit="bytes",
        least=None,
        colours=Steps(BAD, ((0.0, GOOD),)),
        size=(8, 8),
        description=about(
            "Free space in 24 hours if the last six go on; below zero it will be full.",
            runbooks=("disk-full",),
        ),
    ),
)
_WORKERS: Final = (
    table_panel(
        "Workers",
        [Label("Instance", "instance"), Label("Worker", "worker", width=80)],
        [
            Column(
                "CPU",
                f"sum by ({_WORKER}) ({series(catalog.PROCESS_CPU_UTILIZATION)})",
                "percentunit",
                bar=True,
                top=1,
                decimals=0,
                width=120,
            ),
            Column(
                "Memory", f"max by ({_WORKER}) ({series(catalog.PROCESS_MEMORY_USAGE)})", "bytes", width=95
            ),
            Column(
                "Growth a day",
                f"86400 * max by ({_WORKER}) ({series(catalog.MEMORY_LEAK_SLOPE)})",
                "bytes",
                width=110,
            ),
            Column(
                "Threads",
                f"max by ({_WORKER}) ({series(catalog.PROCESS_THREADS)})",
                "none",
                decimals=0,
                width=80,
            ),
            Column(
                "Files",
                f"max by ({_WORKER}) ({series(catalog.PROCESS_FILE_DESCRIPTORS)})"
                f" / max by ({_WORKER}) ({series(catalog.PROCESS_FILE_DESCRIPTOR_LIMIT)})",
                "percentunit",
                colours=_DISK,
                decimals=1,
                width=75,
            ),
            Column("Age", f"max by ({_WORKER}) ({series(catalog.PROCESS_UPTIME)})", "dtdurations", width=110),
        ],
        sort="Memory",
        size=(24, 7),
        description=about("A row for each worker process.", runbooks=("memory-leak", "file-descriptors")),
    ),
    graph_panel(
        "CPU by worker",
        [Query(f"sum by ({_WORKER}) ({rate(catalog.PROCESS_CPU_TIME)})", "{{instance}} {{worker}}")],
        unit="none",
        stacked=True,
        size=(8, 8),
        description=about(
            "CPUs that each worker keeps busy; without free threading one is all that a worker can use.",
            runbooks=("cpu-high",),
        ),
    ),
    graph_panel(
        "Memory by worker",
        [
            Query(f"max by ({_WORKER}) ({series(catalog.PROCESS_MEMORY_USAGE)})", "{{instance}} {{worker}}"),
        ],
        unit="bytes",
        size=(8, 8),
        description=about("Memory in RAM. A line that only climbs is a leak.", runbooks=("memory-leak",)),
    ),
    graph_panel(
        "Event loop lag and its kin",
        [
            Query(quantile(0.99, catalog.EVENT_LOOP_LAG, ""), "event loop late"),
            Query(quantile(0.99, catalog.GC_PAUSE_DURATION, ""), "collector pause"),
            Query(quantile(0.99, catalog.WAKE_UP_DELAY, ""), "thread woke late"),
            Query(quantile(0.99, catalog.HTTP_SERVER_QUEUE_DURATION, ""), "queued at the proxy"),
        ],
        unit="s",
        colours=_LAG,
        size=(8, 8),
        description=about(
            "99 % are below: what requests wait for that is neither database nor their own work.",
            runbooks=("event-loop-lag", "requests-queueing"),
        ),
    ),
    graph_panel(
        "Thread pools in use",
        [
            Query(
                f"max by (restaurant_thread_pool_name) ({series(catalog.THREAD_POOL_UTILIZATION)})",
                "{{restaurant_thread_pool_name}}",
            )
        ],
        unit="percentunit",
        most=1,
        colours=_DISK,
        size=(8, 8),
        description=about(
            "Busy threads, of those that a pool may have, in the fullest worker.",
            runbooks=("thread-pool-saturated",),
        ),
    ),
    graph_panel(
        "Garbage collection",
        [
            Query(
                f"sum by (cpython_gc_generation) ({rate(catalog.GC_COLLECTIONS)})",
                "generation {{cpython_gc_generation}}",
            )
        ],
        unit="cps",
        size=(8, 8),
        description=about("Runs of the collector a second, all workers."),
    ),
    graph_panel(
        "Telemetry lost",
        [
            Query(f"sum({rate(catalog.TELEMETRY_SPANS_DROPPED)}) or vector(0)", "spans"),
            Query(f"sum({rate(catalog.TELEMETRY_METRICS_DROPPED)}) or vector(0)", "metric points"),
            Query(f"sum({rate(catalog.TELEMETRY_OVERFLOW)}) or vector(0)", "series refused"),
        ],
        unit="cps",
        size=(8, 8),
        description=about(
            "What could not be delivered, or went over a limit, a second.",
            runbooks=("telemetry-dropped", "series-overflow"),
        ),
    ),
)
_CONTAINER: Final = (
    graph_panel(
        "Container: CPUs",
        [
            Query(f"max by (instance) ({series(catalog.CONTAINER_CPU_USAGE)})", "{{instance}} used"),
            Query(f"max by (instance) ({series(catalog.CONTAINER_CPU_LIMIT)})", "{{instance}} limit"),
        ],
        unit="none",
        size=(8, 8),
        no_value="not in a container, or without a limit",
        description=about(
            "CPUs that the container uses and may use.", component="cpu", runbooks=("cpu-high",)
        ),
    ),
    graph_panel(
        "Container: memory",
        [
            Query(f"max by (instance) ({series(catalog.CONTAINER_MEMORY_WORKING_SET)})", "{{instance}} used"),
            Query(f"max by (instance) ({series(catalog.CONTAINER_MEMORY_LIMIT)})", "{{instance}} limit"),
        ],
        unit="bytes",
        size=(8, 8),
        no_value="not in a container, or without a limit",
        description=about(
            "Memory that is not easily given up, and the limit at which a process is killed.",
            component="memory",
            runbooks=("memory-high",),
        ),
    ),
    graph_panel(
        "Container: held back",
        [Query(f"sum by (instance) ({rate(catalog.CONTAINER_CPU_THROTTLED)})", "{{instance}}")],
        unit="s",
        size=(8, 8),
        no_value="not in a container, or without a limit",
        description=about(
            "Seconds a second for which threads were throttled by the CPU quota.", runbooks=("cpu-high",)
        ),
    ),
)

BOARD: Final = Board(
    "restaurant-resources",
    "Restaurant: resources",
    "Utilisation, saturation and errors of hosts, containers and workers.",
    (
        Section("In use, of what there is", (*_BARS, *_STATS)),
        Section("Hosts", _USE),
        Section("Workers", _WORKERS),
        Section("Containers", _CONTAINER),
    ),
)
