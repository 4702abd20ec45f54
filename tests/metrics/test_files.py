"""Promises of the files: what is written is read back, what is damaged or planted is passed over, nothing is fatal."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restaurant_otel import catalog
from restaurant_otel.catalog import Across, Kind, Metric
from restaurant_otel.metrics import HistogramPoint, NumberPoint, layout
from restaurant_otel.metrics.inspect import main as inspect
from restaurant_otel.metrics.layout import UnreadableError, read_lines, read_metric, take_apart
from restaurant_otel.metrics.registry import Registry
from tests.metrics.puppets import ORDERS, WAIT, Puppet, in_child, numbers

NORTH = ("shop.orders", "north", None)
WORKERS = (catalog.TELEMETRY_WORKERS.name, None, None)


def skipped(reason: str) -> tuple[str, str, None]:
    return catalog.TELEMETRY_FILES_SKIPPED.name, reason, None


def errors() -> float:
    """How many errors of the part `workers` this process has survived."""
    from restaurant_otel.metrics import registry

    return sum(
        point.value
        for family in registry().collect_own()
        if family.metric is catalog.TELEMETRY_ERRORS
        for point in family.points
        if isinstance(point, NumberPoint) and point.values == ("workers",)
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where all users' folders are."""
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def group(root: Path) -> Path:
    """The folder where the workers of a test keep their files."""
    return root / f"restaurant-otel-{os.geteuid()}" / "shared"


@pytest.fixture
def worker(group: Path) -> Iterator[Callable[[], Puppet]]:
    """`worker()` starts one."""
    started: list[Puppet] = []

    def start() -> Puppet:
        started.append(Puppet())
        return started[-1]

    yield start
    for puppet in started:
        puppet.stop()


# --- the layout --------------------------------------------------------------------------------------

names = st.text(st.characters(), max_size=20)
values = st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.text(st.characters(), max_size=20)
metrics = st.builds(
    Metric,
    names,
    names,
    st.sampled_from(Kind),
    names,
    st.lists(names, max_size=4).map(tuple),
    st.lists(st.floats(allow_nan=False), max_size=20).map(tuple),
    st.sampled_from(Across),
)


@given(
    metric=metrics,
    keys=st.lists(st.tuples(values, values) | st.none(), max_size=30),
    batch=st.integers(1, 300),
)
def test_the_index_is_read_back_as_it_was_written(
    metric: Metric, keys: list[tuple[object, ...] | None], batch: int
) -> None:
    lines = [layout.metric_line(0, metric)]
    lines += [layout.series_line(0, address, key) for address, key in enumerate(keys)]  # type: ignore[arg-type]
    index = b"".join(lines)
    records = [record for some, _ in read_lines(index, batch) for record in some]
    again = read_metric(records[0])
    assert layout.definition(again) == layout.definition(metric)
    assert (again.unit, again.help, again.across) == (metric.unit, metric.help, metric.across)
    assert [(record[1], record[2]) for record in records[1:]] == [
        (address, None if key is None else list(key)) for address, key in enumerate(keys)
    ]


def a_file() -> bytes:
    """A small file with all sorts of segments."""
    head = layout.Head("worker-1-2-3", 1, 2, "abc", 3.5)
    index = layout.metric_line(0, ORDERS) + layout.series_line(0, 4, ("north",))
    return b"".join(layout.whole_file(head, bytes(32) + b"\1" * 8, bytes(128), [index]))


def attempt(data: bytes) -> tuple[layout.Contents | None, str]:
    """What a reader makes of a file and all of its index, or why it does not."""
    try:
        contents = take_apart(data)
        for _ in read_lines(contents.index_from(0)):
            pass
    except UnreadableError as error:
        return None, error.reason
    return contents, ""


@settings(max_examples=300)
@given(length=st.integers(0, len(a_file())))
def test_a_file_cut_short_anywhere_is_torn_or_has_whole_segments(length: int) -> None:
    whole = take_apart(a_file())
    part, reason = attempt(a_file()[:length])
    if part is None:
        assert reason == "torn"
    else:
        assert part.slots in (b"", whole.slots)
        assert part.index_from(0) in (b"", whole.index_from(0))


@settings(max_examples=300)
@given(at=st.integers(0, len(a_file()) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_harmless(at: int, byte: int) -> None:
    data = bytearray(a_file())
    data[at] = byte
    part, reason = attempt(bytes(data))
    if part is None:
        assert reason in ("torn", "foreign", "version")
    else:
        assert len(part.slots) in (0, layout.PAGE)


@settings(max_examples=300)
@given(data=st.binary(max_size=100), length=st.integers(0, 20_000))
def test_any_bytes_at_all_are_refused(data: bytes, length: int) -> None:
    with pytest.raises(UnreadableError):
        take_apart(data.ljust(length, b"\0"))


def test_a_file_that_grows_is_read_to_where_it_is_whole(worker: Callable[[], Puppet], group: Path) -> None:
    """Enough series for several segments of each sort; another process reads them all."""

    def many() -> list[float]:
        registry = Registry(limit=10_000)
        registry.attach()
        metric = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (0.5, 10.0))
        for branch in range(6000):
            registry.histogram(metric).bind(f"{branch:050d}").record_with_exemplar(branch, branch + 1, 1)
        (file,) = group.glob("worker-*")
        contents = take_apart(file.read_bytes())
        os.environ["ITS_FILE"] = file.name

        def other() -> list[float]:
            reading = Registry()
            points = next(f.points for f in reading.collect() if f.metric.name == "shop.wait")
            found = [point for point in points if isinstance(point, HistogramPoint)]
            right = all(
                point.sum == float(str(point.values[0]))
                and point.count == 1
                and [x.trace_id for x in point.exemplars if x] == [int(str(point.values[0])) + 1]
                for point in found
            )
            return [len(found), float(right)]

        result: list[float] = in_child(other)
        return [*result, len(contents.slots), len(contents.exemplars), len(contents.index_from(0))]

    count, right, slots, exemplars, index = in_child(many)
    assert (count, right) == (6000, 1)
    assert slots > 6000 * 5 * 8
    assert exemplars > 6000 * layout.RECORD
    assert index > 6000 * 50


# --- what is damaged, foreign or planted -------------------------------------------------------------


def damage_nothing_of_ours(file: Path) -> None:
    file.write_bytes(b"whatever" * 2000)


def damage_cut(file: Path) -> None:
    file.write_bytes(a_file()[:-5000])


def damage_version(file: Path) -> None:
    data = bytearray(a_file())
    data[8] += 1
    file.write_bytes(data)


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def damage_index(file: Path) -> None:
    head = layout.Head("worker-1-2-3", 1, 2, "abc", 3.5)
    index = layout.metric_line(0, ORDERS) + layout.series_line(0, 4_000_000, ("north",))
    file.write_bytes(b"".join(layout.whole_file(head, bytes(4096), bytes(64), [index])))


def damage_link(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def damage_pipe(file: Path) -> None:
    os.mkfifo(file)


def damage_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(file.relative_to(Path.cwd())))


def damage_folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_nothing_of_ours, "foreign"),
        (damage_cut, "torn"),
        (damage_version, "version"),
        (damage_empty, "torn"),
        (damage_index, "torn"),
        (damage_link, "foreign"),
        (damage_pipe, "foreign"),
        (damage_socket, "foreign"),
        (damage_folder, "foreign"),
    ],
)
@pytest.mark.parametrize("name", ["worker-1-2-3.cells", "ledger.cells"])
def test_a_file_that_is_not_right_is_passed_over_and_counted_once(
    worker: Callable[[], Puppet],
    group: Path,
    damage: Callable[[Path], None],
    reason: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = worker()
    first.counts(1)
    monkeypatch.chdir(group)  # the path of a socket must be short
    damage(group / name)
    for _ in range(3):
        answer = first.answers()
        assert answer[NORTH] == 1
    assert first.answers()[skipped(reason)] == 1
    second = worker()  # it looks for the dead as it starts
    second.counts(2)
    assert second.answers()[NORTH] == 3
    assert first.answers()[WORKERS] == 2


def test_a_ledger_that_is_not_right_does_not_keep_the_dead_from_being_folded(
    worker: Callable[[], Puppet], group: Path
) -> None:
    survivor, mortal = worker(), worker()
    mortal.counts(4)
    damage_cut(group / "ledger.cells")
    mortal.kill()
    assert [survivor.answers()[NORTH] for _ in range(3)] == [4, 4, 4]
    assert len(list(group.glob("worker-*"))) == 1


# --- the folder --------------------------------------------------------------------------------------


def alone() -> list[float]:
    """What a process answers that has tried to join."""
    registry = Registry()
    before = errors()
    registry.counter(ORDERS).bind("north").add(1)
    registry.attach()
    registry.counter(ORDERS).bind("south").add(1)
    answer = numbers(registry)
    return [answer[NORTH], answer["shop.orders", "south", None], float(registry.attached), errors() - before]


def test_folders_are_private(worker: Callable[[], Puppet], group: Path) -> None:
    previous = os.umask(0)
    try:
        worker().counts(1)
    finally:
        os.umask(previous)
    for path in (group.parent, group):
        assert path.stat().st_mode & 0o777 == 0o700
    for path in group.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", ["outer", "inner"])
@pytest.mark.parametrize("trap", ["link", "open", "file", "stranger's"])
def test_a_folder_that_is_not_private_is_refused_and_the_numbers_stay_in_memory(
    group: Path, which: str, trap: str, tmp_path: Path
) -> None:
    path = group.parent if which == "outer" else group
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    elif trap == "file":
        path.write_text("")
    else:
        path.mkdir(mode=0o700)
        if trap == "open":
            path.chmod(0o770)
        elif os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        else:
            os.chown(path, 12345, -1)
    assert in_child(alone) == [1, 1, 1, 1]
    if trap == "link":
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_root_that_is_not_there_leaves_the_numbers_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", "/proc/nowhere")
    assert in_child(alone) == [1, 1, 1, 1]


def test_a_folder_that_vanishes_leaves_each_worker_to_speak_for_itself(
    worker: Callable[[], Puppet], group: Path
) -> None:
    first, second = worker(), worker()
    first.counts(1)
    second.counts(2)
    shutil.rmtree(group.parent)
    first.counts(1, "south")
    answer = first.answers()
    assert (answer[NORTH], answer["shop.orders", "south", None]) == (1, 1)
    assert second.answers()[NORTH] == 2


def test_a_worker_joins_again_where_the_folder_has_come_back(
    worker: Callable[[], Puppet], group: Path
) -> None:
    worker().counts(1)
    shutil.rmtree(group.parent)
    late = worker()
    late.counts(2)
    assert late.answers()[NORTH] == 2
    assert len(list(group.glob("worker-*"))) == 1


def test_a_full_disk_leaves_the_numbers_in_memory(group: Path) -> None:
    def crowded() -> list[float]:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (8192, 8192)
        )  # the kernel's way to say that there is no more room
        return alone()

    assert in_child(crowded) == [1, 1, 1, 1]
    assert list(group.glob("*.cells*")) == []


def test_a_disk_that_fills_up_later_loses_no_count(group: Path) -> None:
    def crowded() -> list[float]:
        registry = Registry(limit=100_000)
        registry.attach()
        registry.counter(ORDERS).bind("north").add(1)
        (file,) = group.glob("worker-*")
        size = file.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        before = errors()
        for branch in range(20_000):
            registry.counter(ORDERS).bind(branch).add(1)
            if branch % 10 == 0:
                registry.histogram(WAIT).bind(branch).record_with_exemplar(0.1, 1, 1)
        registry.counter(ORDERS).bind("north").add(1)
        found = numbers(registry)
        own = sum(value for key, value in found.items() if key[0] == "shop.orders")

        def other() -> float:
            return float(numbers(Registry())[NORTH])

        return [own, in_child(other), errors() - before, float(file.stat().st_size == size)]

    own, seen_by_other, counted, same_size = in_child(crowded)
    assert own == 20_002
    assert seen_by_other == 2, "what was in the file before goes on counting there"
    assert counted == 1
    assert same_size


def test_without_descriptors_there_is_no_answer_rather_than_one_without_the_others(
    worker: Callable[[], Puppet],
) -> None:
    """An answer without some of the workers would look as if counters had been reset."""
    other = worker()
    other.counts(4)

    def poor() -> list[object]:
        registry = Registry()
        registry.attach()
        registry.counter(ORDERS).bind("north").add(1)
        before = numbers(registry)[NORTH]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            answer: object = numbers(registry)[NORTH]
        except OSError as error:
            answer = error.errno
        registry.counter(ORDERS).bind("north").add(1)  # counting goes on
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return [before, answer, numbers(registry)[NORTH]]

    assert in_child(poor) == [5, errno.EMFILE, 6]


def test_a_program_that_closes_all_descriptors_gets_no_lines_of_ours_in_its_files(
    group: Path, tmp_path: Path
) -> None:
    def careless() -> list[float]:
        registry = Registry()
        registry.attach()
        registry.counter(ORDERS).bind("north").add(1)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            link = Path(f"/proc/self/fd/{descriptor}")
            if link.is_symlink() and link.readlink().suffix == ".cells":
                os.close(descriptor)
        victims = [os.open(tmp_path / "victim", os.O_RDWR | os.O_CREAT) for _ in range(20)]
        for branch in range(50):
            registry.counter(ORDERS).bind(branch).add(1)
        found = numbers(registry)
        return [sum(v for k, v in found.items() if k[0] == "shop.orders"), float(len(victims))]

    in_child(careless)
    assert (tmp_path / "victim").read_bytes() == b""


def test_files_of_a_worker_that_could_not_finish_are_removed_in_time(
    worker: Callable[[], Puppet], group: Path
) -> None:
    worker()
    old, new = group / "worker-1-1-1.cells.new", group / "worker-2-2-2.cells.new"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    worker()
    assert not old.exists()
    assert new.exists(), "it may be in the making"


# --- looking -----------------------------------------------------------------------------------------


def test_the_tool_shows_what_is_in_a_file(
    worker: Callable[[], Puppet], group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    living, mortal = worker(), worker()
    living.counts(3)
    living.serves(0.25, trace_id=0xABC)
    mortal.counts(4, "south")
    mortal.kill()
    assert inspect([str(group)]) == 0
    shown = capsys.readouterr().out
    assert f"living worker, process {living.pid}" in shown
    assert f"dead worker, process {mortal.pid}" in shown
    assert "shop.orders (counter, unit {order})" in shown
    assert "{branch='north'}: 3\n" in shown
    assert "{branch='south'}: 4\n" in shown
    assert "{branch='north'}: count 1, sum 0.25, buckets [1, 0, 0], exemplars: 0.25 in trace" in shown
    living.answers()
    assert inspect([str(group / "ledger.cells")]) == 0
    shown = capsys.readouterr().out
    assert "ledger of the dead" in shown
    assert f"holds the counts of worker-{mortal.pid}-" in shown


def test_the_tool_says_which_file_it_cannot_read(group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group.mkdir(parents=True)
    damage_version(group / "worker-1-2-3.cells")
    assert inspect([str(group)]) == 1
    assert "version 2, this is 1" in capsys.readouterr().out


def test_the_tool_runs_as_a_program(root: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "restaurant_otel.metrics.inspect"], capture_output=True, text=True, check=True
    )
    assert "no files of workers" in run.stdout
