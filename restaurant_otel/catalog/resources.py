"""What the host, the container and each worker use.

Host and container metrics are written by one worker for all, the one that holds the sampler's lock, so they are
merged by `Across.MAX`; metrics of a process and of its runtime have one series a worker. What the platform does not
tell is absent. Totals are the kernel's own, so they begin before the process does.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import WAIT_SECONDS, Across, Kind, Metric

_MODE: Final = ("cpu.mode",)
_DISK: Final = ("disk.io.direction", "system.device")
_NETWORK: Final = ("network.io.direction", "network.interface.name")
_FILESYSTEM: Final = ("system.device", "system.filesystem.mountpoint", "system.filesystem.type")
_FAULT: Final = ("system.paging.fault.type",)


def _host(name: str, unit: str, help_text: str, *attributes: str) -> Metric:
    return Metric(name, unit, Kind.GAUGE, help_text, attributes, across=Across.MAX)


def _host_total(name: str, unit: str, help_text: str, *attributes: str) -> Metric:
    return Metric(name, unit, Kind.OBSERVED_COUNTER, help_text, attributes, across=Across.MAX)


def _worker(name: str, unit: str, help_text: str, *attributes: str) -> Metric:
    return Metric(name, unit, Kind.GAUGE, help_text, attributes, across=Across.PER_WORKER)


def _worker_total(name: str, unit: str, help_text: str, *attributes: str) -> Metric:
    return Metric(name, unit, Kind.OBSERVED_COUNTER, help_text, attributes, across=Across.PER_WORKER)


# --- against the limit that bites: what the score looks at ------------------------------------------------

CPU_UTILIZATION: Final = _host(
    "restaurant.cpu.utilization",
    "1",
    "CPU in use, as a share of what may be used: of the container's quota, its CPUs or the host, whichever is fullest.",
)
MEMORY_UTILIZATION: Final = _host(
    "restaurant.memory.utilization",
    "1",
    "Memory in use, as a share of what may be used: of a container's limit or the host's memory, whichever is fullest.",
)
PROCESS_MEMORY_LIMIT: Final = _host(
    "restaurant.process.memory.limit",
    "By",
    "The memory at which a process here is killed: the smallest limit of its containers, else the host's memory.",
)

# --- the host ---------------------------------------------------------------------------------------------

SYSTEM_CPU_TIME: Final = _host_total(
    "system.cpu.time", "s", "Time of all CPUs together, by what they did.", *_MODE
)
SYSTEM_CPU_UTILIZATION: Final = _host(
    "system.cpu.utilization", "1", "Share of all CPUs' time since the last reading, by what they did.", *_MODE
)
SYSTEM_CPU_LOGICAL_COUNT: Final = _host("system.cpu.logical.count", "{cpu}", "Logical CPUs of the host.")
SYSTEM_LOAD_1M: Final = _host(
    "system.cpu.load_average.1m", "{thread}", "Threads running or waiting, averaged over 1 minute."
)
SYSTEM_LOAD_5M: Final = _host(
    "system.cpu.load_average.5m", "{thread}", "Threads running or waiting, averaged over 5 minutes."
)
SYSTEM_LOAD_15M: Final = _host(
    "system.cpu.load_average.15m", "{thread}", "Threads running or waiting, averaged over 15 minutes."
)
SYSTEM_UPTIME: Final = _host("system.uptime", "s", "Time since the host was started.")

SYSTEM_MEMORY_USAGE: Final = _host(
    "system.memory.usage",
    "By",
    "Memory by what it is used for; the states add up to the limit.",
    "system.memory.state",
)
SYSTEM_MEMORY_UTILIZATION: Final = _host(
    "system.memory.utilization", "1", "The same as shares of all memory.", "system.memory.state"
)
SYSTEM_MEMORY_LIMIT: Final = _host("system.memory.limit", "By", "Memory of the host.")
SYSTEM_MEMORY_AVAILABLE: Final = _host(
    "system.memory.linux.available",
    "By",
    "Memory that can be had without swapping, as the kernel estimates it.",
)
SYSTEM_PAGING_USAGE: Final = _host(
    "system.paging.usage", "By", "Swap space by state; absent where there is none.", "system.paging.state"
)
SYSTEM_PAGING_UTILIZATION: Final = _host(
    "system.paging.utilization", "1", "Swap space as shares of all of it.", "system.paging.state"
)
SYSTEM_PAGING_FAULTS: Final = _host_total(
    "system.paging.faults", "{fault}", "Page faults; major ones waited for a disk.", *_FAULT
)
SYSTEM_PAGING_OPERATIONS: Final = _host_total(
    "system.paging.operations",
    "{operation}",
    "Pages swapped in and out.",
    "system.paging.direction",
)

SYSTEM_DISK_IO: Final = _host_total("system.disk.io", "By", "Bytes read from and written to disks.", *_DISK)
SYSTEM_DISK_OPERATIONS: Final = _host_total(
    "system.disk.operations", "{operation}", "Reads and writes of disks.", *_DISK
)
SYSTEM_DISK_OPERATION_TIME: Final = _host_total(
    "system.disk.operation_time", "s", "Time that reads and writes took, waiting included, summed.", *_DISK
)
SYSTEM_DISK_IO_TIME: Final = _host_total(
    "system.disk.io_time", "s", "Time in which a disk had something to do.", "system.device"
)
SYSTEM_FILESYSTEM_USAGE: Final = _host(
    "system.filesystem.usage",
    "By",
    "Space of file systems by state: used, free for users, reserved for root.",
    "system.filesystem.state",
    *_FILESYSTEM,
)
SYSTEM_FILESYSTEM_LIMIT: Final = _host(
    "system.filesystem.limit", "By", "Space of file systems, used or not.", *_FILESYSTEM
)
SYSTEM_FILESYSTEM_UTILIZATION: Final = _host(
    "system.filesystem.utilization",
    "1",
    "Share of a file system that is used, of what is not reserved.",
    *_FILESYSTEM,
)
SYSTEM_FILESYSTEM_INODES: Final = _host(
    "system.filesystem.inodes.usage",
    "{inode}",
    "Inodes of file systems by state; absent where there is no fixed number.",
    "system.filesystem.state",
    *_FILESYSTEM,
)

SYSTEM_NETWORK_IO: Final = _host_total(
    "system.network.io", "By", "Bytes received and sent, by interface.", *_NETWORK
)
SYSTEM_NETWORK_PACKETS: Final = _host_total(
    "system.network.packet.count", "{packet}", "Packets received and sent, by interface.", *_NETWORK
)
SYSTEM_NETWORK_DROPPED: Final = _host_total(
    "system.network.packet.dropped", "{packet}", "Packets dropped, by interface.", *_NETWORK
)
SYSTEM_NETWORK_ERRORS: Final = _host_total(
    "system.network.errors", "{error}", "Errors of an interface.", *_NETWORK
)
SYSTEM_NETWORK_CONNECTIONS: Final = _host(
    "system.network.connection.count",
    "{connection}",
    "TCP connections of the network namespace: established, or waiting out their end.",
    "network.transport",
    "network.connection.state",
)

SYSTEM_PROCESS_COUNT: Final = _host("system.process.count", "{process}", "Processes that can be seen.")
SYSTEM_PROCESS_CREATED: Final = _host_total(
    "system.process.created", "{process}", "Processes and threads created since the host was started."
)
SYSTEM_THREADS: Final = _host(
    "restaurant.system.threads",
    "{thread}",
    "Threads of the host that are running or want to, and those that wait for a disk.",
    "restaurant.thread.state",
)

# --- pressure ---------------------------------------------------------------------------------------------

_PRESSURE: Final = ("restaurant.pressure.resource", "restaurant.pressure.kind", "restaurant.pressure.scope")

PRESSURE_STALLED_TIME: Final = _host_total(
    "restaurant.pressure.stalled.time",
    "s",
    "Time in which some or all (full) tasks waited for cpu, memory or io, of the host or the container.",
    *_PRESSURE,
)
PRESSURE_STALLED_SHARE: Final = _host(
    "restaurant.pressure.stalled.share",
    "1",
    "The same as a share of the last 10 seconds.",
    *_PRESSURE,
)

# --- the container ----------------------------------------------------------------------------------------

CONTAINER_CPU_TIME: Final = _host_total("container.cpu.time", "s", "CPU time of the container.", *_MODE)
CONTAINER_CPU_USAGE: Final = _host(
    "container.cpu.usage", "{cpu}", "CPUs that the container used since the last reading."
)
CONTAINER_CPU_LIMIT: Final = _host(
    "restaurant.container.cpu.limit", "{cpu}", "CPUs that the container may use; absent without a quota."
)
CONTAINER_CPU_PERIODS: Final = _host_total(
    "restaurant.container.cpu.periods",
    "{period}",
    "Periods of the CPU quota, and of those the ones in which the container was throttled.",
    "restaurant.container.cpu.throttled",
)
CONTAINER_CPU_THROTTLED: Final = _host_total(
    "restaurant.container.cpu.throttled.time", "s", "Time for which the container's threads were held back."
)
CONTAINER_MEMORY_USAGE: Final = _host(
    "container.memory.usage", "By", "Memory charged to the container, page cache included."
)
CONTAINER_MEMORY_WORKING_SET: Final = _host(
    "container.memory.working_set", "By", "The same without page cache that is easily given up."
)
CONTAINER_MEMORY_RSS: Final = _host("container.memory.rss", "By", "Anonymous memory of the container.")
CONTAINER_MEMORY_AVAILABLE: Final = _host(
    "container.memory.available",
    "By",
    "Memory left until the container's limit; absent without a limit.",
)
CONTAINER_MEMORY_LIMIT: Final = _host(
    "restaurant.container.memory.limit",
    "By",
    "The container's limit, or that of one around it if that is smaller.",
)
CONTAINER_MEMORY_FAULTS: Final = _host_total(
    "container.memory.paging.faults", "{fault}", "Page faults of the container.", *_FAULT
)
CONTAINER_MEMORY_EVENTS: Final = _host_total(
    "restaurant.container.memory.events",
    "{event}",
    "What the container's memory limit led to: reclaim (high, max), failure (oom), a process killed (oom_kill).",
    "restaurant.container.memory.event",
)
CONTAINER_DISK_IO: Final = _host_total(
    "container.disk.io", "By", "Bytes that the container read from and wrote to disks.", "disk.io.direction"
)
CONTAINER_TASKS: Final = _host(
    "restaurant.container.tasks", "{task}", "Processes and threads in the container."
)
CONTAINER_TASKS_LIMIT: Final = _host(
    "restaurant.container.tasks.limit", "{task}", "How many there may be; absent without a limit."
)

# --- each worker ------------------------------------------------------------------------------------------

PROCESS_CPU_TIME: Final = _worker_total("process.cpu.time", "s", "CPU time of the worker.", *_MODE)
PROCESS_CPU_UTILIZATION: Final = _worker(
    "process.cpu.utilization",
    "1",
    "CPU time of the worker since the last reading, as a share of what it may use.",
    *_MODE,
)
PROCESS_MEMORY_USAGE: Final = _worker("process.memory.usage", "By", "Memory of the worker in RAM (RSS).")
PROCESS_MEMORY_VIRTUAL: Final = _worker("process.memory.virtual", "By", "Address space of the worker.")
PROCESS_MEMORY_UNIQUE: Final = _worker(
    "restaurant.process.memory.unique",
    "By",
    "Memory that the end of the worker would free (USS): what it shares with no other process.",
)
PROCESS_THREADS: Final = _worker("process.thread.count", "{thread}", "Threads of the worker.")
PROCESS_FILE_DESCRIPTORS: Final = _worker(
    "process.unix.file_descriptor.count", "{file_descriptor}", "File descriptors that the worker has open."
)
PROCESS_FILE_DESCRIPTOR_LIMIT: Final = _worker(
    "restaurant.process.unix.file_descriptor.limit", "{file_descriptor}", "How many it may have open."
)
PROCESS_CONTEXT_SWITCHES: Final = _worker_total(
    "process.context_switches",
    "{context_switch}",
    "Times that the worker's threads gave up the CPU, or had to.",
    "process.context_switch.type",
)
PROCESS_DISK_IO: Final = _worker_total(
    "process.disk.io", "By", "Bytes that the worker caused to be read and written.", "disk.io.direction"
)
PROCESS_FAULTS: Final = _worker_total(
    "process.paging.faults", "{fault}", "Page faults of the worker.", *_FAULT
)
PROCESS_UPTIME: Final = _worker("process.uptime", "s", "Age of the worker.")
PROCESS_RUN_QUEUE_TIME: Final = _worker_total(
    "restaurant.process.run_queue.time",
    "s",
    "Time for which the worker's threads wanted a CPU and had none, summed.",
)
WORKER_STARTS: Final = Metric(
    "restaurant.worker.starts", "{worker}", Kind.COUNTER, "Workers that have started, replacements included."
)

# --- its runtime ------------------------------------------------------------------------------------------

_GENERATION: Final = ("cpython.gc.generation",)

GC_COLLECTIONS: Final = _worker_total(
    "cpython.gc.collections", "{collection}", "Runs of the garbage collector, by generation.", *_GENERATION
)
GC_COLLECTED: Final = _worker_total(
    "cpython.gc.collected_objects", "{object}", "Objects that it has freed.", *_GENERATION
)
GC_UNCOLLECTABLE: Final = _worker_total(
    "cpython.gc.uncollectable_objects", "{object}", "Objects that it could not free.", *_GENERATION
)
GC_PAUSE_DURATION: Final = Metric(
    "restaurant.gc.pause.duration",
    "s",
    Kind.HISTOGRAM,
    "Time for which a run of the garbage collector held up all of a worker.",
    _GENERATION,
    WAIT_SECONDS,
)
EVENT_LOOP_LAG: Final = Metric(
    "restaurant.event_loop.lag",
    "s",
    Kind.HISTOGRAM,
    "How late an event loop came to a timer that was due.",
    (),
    WAIT_SECONDS,
)
WAKE_UP_DELAY: Final = Metric(
    "restaurant.thread.wake_up.delay",
    "s",
    Kind.HISTOGRAM,
    "How late a thread of the worker got its turn: what it waited for a CPU and for the interpreter's lock.",
    (),
    WAIT_SECONDS,
)
THREAD_POOL_UTILIZATION: Final = _worker(
    "restaurant.thread_pool.utilization",
    "1",
    "Share of a thread pool that is busy.",
    "restaurant.thread_pool.name",
)
THREAD_POOL_LIMIT: Final = _worker(
    "restaurant.thread_pool.limit", "{thread}", "Threads that a pool may have.", "restaurant.thread_pool.name"
)
THREAD_POOL_WAITING: Final = _worker(
    "restaurant.thread_pool.waiting", "{task}", "Tasks that wait for a thread.", "restaurant.thread_pool.name"
)
HTTP_SERVER_QUEUE_DURATION: Final = Metric(
    "restaurant.http.server.queue.duration",
    "s",
    Kind.HISTOGRAM,
    "Time a request waited between the proxy, by its X-Request-Start or X-Queue-Start, and the app.",
    (),
    WAIT_SECONDS,
)
SERVER_BACKLOG: Final = _host(
    "restaurant.server.backlog",
    "{connection}",
    "Connections that wait to be accepted, on the fullest socket of a port.",
    "server.port",
)
SERVER_BACKLOG_LIMIT: Final = _host(
    "restaurant.server.backlog.limit",
    "{connection}",
    "How many may wait before the kernel turns them away.",
    "server.port",
)

# --- leaks ------------------------------------------------------------------------------------------------

MEMORY_LEAK_SLOPE: Final = _worker(
    "restaurant.memory.leak.slope",
    "By/s",
    "Growth of the worker's memory: the robust slope of its minima after warm-up.",
)
MEMORY_LEAK_SUSPECTED: Final = _worker(
    "restaurant.memory.leak.suspected",
    "{leak}",
    "Whether the worker's memory grows steadily towards its limit: 0 or 1.",
)
MEMORY_LEAK_TIME_TO_LIMIT: Final = _worker(
    "restaurant.memory.leak.time_to_limit",
    "s",
    "Time until the memory limit is reached at that slope; absent where nothing grows.",
)
