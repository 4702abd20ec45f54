"""Alerts about hosts and workers: what runs out, what is full, what leaks, what waits."""

from __future__ import annotations

from collections.abc import Iterator

from restaurant_otel import catalog
from restaurant_otel.rules.alerts.model import CRITICAL, DURATION, PERCENT, VALUE, WARNING, Alert, where
from restaurant_otel.rules.options import Options, duration, name_of, number


def resources(o: Options) -> Iterator[Alert]:
    """Of hosts and workers."""
    instance, worker = where("instance"), where("worker")
    yield Alert(
        "MemoryRunningOut",
        WARNING,
        "resources",
        "memory-high",
        _full_soon(o, "instance:memory_utilization:max", "1h", "4h", 0.7),
        "15m",
        f"{instance} ({{service}}) will be out of memory within hours",
        f"If memory on {instance} ({{service}}) goes on growing as in the last hour, it stands at "
        f"{PERCENT} of what may be used in 4 hours.",
    )
    yield from _disks(o, instance)
    yield from _descriptors(o, instance, worker)
    yield Alert(
        "MemoryLeak",
        WARNING,
        "resources",
        "memory-leak",
        _leak(o),
        "30m",
        f"Worker {worker} of {{service}} leaks memory",
        f"The memory of worker {worker} on {instance} ({{service}}) has grown steadily for six hours. Going on so, it "
        "stands at {{ $value | humanize1024 }}B tomorrow, above the limit at which it is killed.",
    )
    for bound, severity in ((0.1, WARNING), (1.0, CRITICAL)):
        yield Alert(
            "EventLoopLag",
            severity,
            "resources",
            "event-loop-lag",
            f"instance:event_loop_lag_seconds:p99_5m > {bound:g}",
            "5m",
            f"The event loop on {instance} ({{service}}) is held up",
            f"One time in a hundred an event loop on {instance} ({{service}}) is "
            f"{DURATION} late: something blocks it, and every request in that worker waits.",
        )
    yield Alert(
        "RequestsQueueing",
        WARNING,
        "resources",
        "requests-queueing",
        "instance:http_queue_seconds:p99_5m > 0.5",
        "5m",
        f"Requests to {instance} ({{service}}) wait before a worker takes them",
        f"One request in a hundred has waited {DURATION} between the proxy and {instance} ({{service}}): its "
        "workers are all busy, and users wait before the app has even begun.",
    )
    threads = where("restaurant_thread_pool_name")
    yield Alert(
        "ThreadPoolSaturated",
        WARNING,
        "resources",
        "thread-pool-saturated",
        "instance_pool:thread_pool:utilization >= 0.9",
        "5m",
        f"The thread pool {threads} on {instance} ({{service}}) is full",
        f"{PERCENT} of the threads of {threads} are busy in a worker on {instance} ({{service}}). What needs one "
        "waits for it, however little there is to do.",
    )
    most = f"max_over_time({o.series(name_of(catalog.TELEMETRY_WORKERS))}[{o.time('15m')}])"
    workers = f"max by ({o.labels('instance')}) ({most})"  # not all are back yet while they restart
    yield Alert(
        "WorkersRestarting",
        WARNING,
        "resources",
        "worker-restarts",
        f"instance:worker_starts:increase15m > 2 * clamp_min({workers}, 2)",
        "0s",
        f"The workers on {instance} ({{service}}) restart again and again",
        f"{VALUE} workers have started on {instance} ({{service}}) in 15 minutes, more than two "
        "deployments would explain: they crash, are killed, or do not get ready.",
    )


def _full_soon(o: Options, share: str, span: str, ahead: str, least: float) -> str:
    """`share`, above `least` now, reaches 1 if it goes on as in the last `span`, of which half must be known at least.

    What has just started grows because it starts.
    """
    half = o.seconds(span) / 2
    known = f"present_over_time({share}[{duration(half)}] offset {duration(half)})"
    return (
        f"predict_linear({share}[{o.time(span)}], {number(o.seconds(ahead))}) > 1\n"
        f"and {share} > {least:g}\nand {known}"
    )


def _disks(o: Options, instance: str) -> Iterator[Alert]:
    disk = f"{where('system_filesystem_mountpoint')} on {instance} ({{service}})"
    used = "instance_disk:filesystem:utilization"
    for span, ahead, least, severity in (("6h", "1d", 0.6, WARNING), ("1h", "4h", 0.8, CRITICAL)):
        yield Alert(
            "DiskFillingUp",
            severity,
            "resources",
            "disk-full",
            _full_soon(o, used, span, ahead, least),
            "30m" if severity == WARNING else "15m",
            f"The file system {disk} will be full within {'a day' if ahead == '1d' else 'hours'}",
            f"If {disk} goes on filling as in the last {span}, it stands at "
            f"{PERCENT} in {'24 hours' if ahead == '1d' else '4 hours'}.",
        )
    yield Alert(
        "DiskFull",
        CRITICAL,
        "resources",
        "disk-full",
        f"{used} > 0.97",
        "5m",
        f"The file system {disk} is full",
        f"{disk} is {PERCENT} full. Writes will fail, those of logs and databases among them.",
    )


def _descriptors(o: Options, instance: str, worker: str) -> Iterator[Alert]:
    used = "instance_worker:file_descriptors:utilization"
    where = f"Worker {worker} on {instance} ({{service}})"
    yield Alert(
        "FileDescriptorsRunningOut",
        WARNING,
        "resources",
        "file-descriptors",
        _full_soon(o, used, "1h", "4h", 0.3),
        "15m",
        f"{where} will run out of file descriptors within hours",
        f"{where} opens files or connections and does not close them. Going on as in the last hour, it "
        f"stands at {PERCENT} of its limit in 4 hours.",
    )
    yield Alert(
        "FileDescriptorsExhausted",
        CRITICAL,
        "resources",
        "file-descriptors",
        f"{used} > 0.9",
        "5m",
        f"{where} has hardly a file descriptor left",
        f"{where} uses {PERCENT} of the files and connections that it may have open. With "
        "none left it cannot accept requests.",
    )


def _leak(o: Options) -> str:
    """The resource observer's rule, on the recorded minima of half an hour."""
    minimum = "instance_worker:process_memory_bytes:min30m"
    two, four, six = (o.time(text) for text in ("2h", "4h", "6h"))
    third = f"0.35 * deriv({minimum}[{six}])"
    instance = o.labels("instance")
    return (
        f"predict_linear({minimum}[{six}], {number(o.seconds('1d'))})\n"
        f"  > on ({instance}) group_left () instance:process_memory_limit_bytes:min\n"
        f"and deriv({minimum}[{six}]) > 0\n"
        f"and deriv({minimum}[{two}]) > {third}\n"
        f"and deriv({minimum}[{two}] offset {two}) > {third}\n"
        f"and deriv({minimum}[{two}] offset {four}) > {third}"
    )
