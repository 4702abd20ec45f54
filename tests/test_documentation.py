"""The documentation is true: its code runs, its queries answer, its links lead somewhere, its names exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import restaurant_otel
from restaurant_otel import catalog, cli
from restaurant_otel.rules import recording
from restaurant_otel.rules.options import Options
from restaurant_otel.settings import PROCESS_VARIABLES, Settings, env_names
from tests.support import modules
from tests.support.load import settled
from tests.support.prometheus import Prometheus
from tests.support.readings import Readings
from tests.support.servers import Server
from tests.support.wait import eventually
from tests.system.apps.routes import STARLETTE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
"""Their queries ask for recorded series too: tests/dashboards looks at those."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file it says to be, in a comment on its first line."""
        match = re.match(r"# (\S+\.\w+)\n", self.text)
        return match[1] if match else None


def blocks_of(page: Path, *languages: str) -> Iterator[Block]:
    text = page.read_text()
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] in languages:
            yield Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in PAGES
        for block in blocks_of(page, *languages)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


# --- Python ------------------------------------------------------------------------------------------

PYTHON = blocks("python")


def is_app(block: Block) -> bool:
    return (
        block.file is not None
        and re.search(r"^(app|application)\b.* = ", block.text, re.MULTILINE) is not None
    )


@pytest.mark.parametrize("block", [case for case in PYTHON if is_app(case.values[0])])
def test_an_app_in_the_documentation_serves_and_is_counted(
    serve: Callable[..., Server], tmp_path: Path, block: Block
) -> None:
    assert block.file is not None
    path, route = "/hello/anna", re.search(r"/hello/[<{]\w+[>}]", block.text)
    if block.file.startswith("mysite/"):
        django_admin = Path(sys.executable).with_name("django-admin")
        subprocess.run([django_admin, "startproject", "mysite", "."], cwd=tmp_path, check=True)
        path, route = "/admin/login/", re.search("/admin/login/", "/admin/login/")
    (tmp_path / block.file).write_text(block.text)
    module = block.file.removesuffix(".py").replace("/", ".")
    is_async = re.search(r"ASGI|asgi|FastAPI|Starlette|async def", block.text)
    running = serve(
        "uvicorn" if is_async else "gunicorn",
        f"{module}:{'application' if module.startswith('mysite') else 'app'}",
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        args=() if is_async else ("--chdir", str(tmp_path)),
    )
    answer = running.get(path)
    assert answer.status_code == 200
    labels = {"http_route": route[0]} if route else {}
    assert settled(running, 1, **labels) >= 1


COMPLETE = {"README.md", "deployment.md", "settings.md"}
"""Pages whose Python runs as it stands; on others it may be a sketch, with names that the reader fills in."""


@pytest.mark.parametrize("block", [case for case in PYTHON if case.values[0].page.name not in COMPLETE])
def test_sketches_are_python_and_import_what_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), f"{block.page}:{block.line}", "exec"), {})


OTHERS = [case for case in PYTHON if case.values[0].page.name in COMPLETE and not is_app(case.values[0])]


@pytest.mark.parametrize("block", OTHERS)
def test_other_python_in_the_documentation_runs(block: Block, added: Callable[[], Readings]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    names: dict[str, Any] = {
        "app": app,
        **{name: getattr(restaurant_otel, name) for name in restaurant_otel.__all__},
    }
    exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
    if block.file == "prices.py":
        assert names["total"]([10.0, 20.0]) == 27.0
        durations = "restaurant_operation_duration_seconds_count"
        assert added().total(durations, restaurant_operation_name="prices.discount") == 2
        assert added().total(durations, restaurant_operation_name="prices.total") == 1


# --- PromQL and configuration ------------------------------------------------------------------------


def queries() -> list[tuple[str, str]]:
    """Each query of each page, and where it stands; queries in one block are told apart by comments."""
    return [
        (f"{case.id}: {query.strip()}", query.strip())
        for case in blocks("promql")
        for query in re.split(r"^#.*\n", case.values[0].text, flags=re.MULTILINE)
        if query.strip()
    ]


def test_prometheus_answers_every_query_of_the_documentation(
    serve: Callable[..., Server], prometheus: Callable[..., Prometheus]
) -> None:
    running = serve("uvicorn", STARLETTE.target, workers=2)
    asked = prometheus([f"127.0.0.1:{running.port}"])
    waiting = dict(queries())
    assert waiting

    def all_answered() -> bool:
        for path in ("/items/1", "/query", "/boom"):
            running.get(path)
        for name, query in list(waiting.items()):
            if any(value == value for _, value in asked.query(query)):  # NaN: nothing has been counted yet
                del waiting[name]
        return not waiting

    try:
        eventually(all_answered, within=40, what="every query has an answer")
    except AssertionError:
        pytest.fail("no answer to:\n" + "\n".join(waiting))


@pytest.mark.parametrize(
    "block", [case for case in blocks("yaml") if "scrape_configs:" in case.values[0].text]
)
def test_prometheus_takes_every_scrape_configuration(block: Block, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    file = tmp_path / "prometheus.yml"
    # Debian's build knows no Kubernetes: the rest is checked with a target that it knows.
    known = block.text.replace(
        "kubernetes_sd_configs:\n      - role: pod", "static_configs:\n      - targets: [a]"
    )
    file.write_text(known)
    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- names -------------------------------------------------------------------------------------------

SAMPLES = {
    metric.prometheus_name + ending
    for metric in catalog.METRICS
    for ending in ("", "_total", "_bucket", "_sum", "_count")
}
RECORDED = {
    part for group in recording.groups(Options()) for rule in group.rules for part in rule.record.split(":")
}
"""What the names of recording rules are made of."""
PREFIXES = tuple({metric.prometheus_name.partition("_")[0] + "_" for metric in catalog.METRICS})
LABELS = {catalog.prometheus_label(name) for metric in catalog.METRICS for name in metric.attributes}
FIELDS = {variable for field in Settings.__dataclass_fields__.values() for variable in env_names(field)}


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOKS], ids=lambda page: page.name)
def test_every_metric_label_and_variable_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    metrics = {word for word in re.findall(r"\b[a-z]+(?:_[a-z]+){2,}\b", text) if word.startswith(PREFIXES)}
    settings = {field.name for field in Settings.__dataclass_fields__.values()}
    modules = {"restaurant_otel", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    assert metrics - SAMPLES - RECORDED - LABELS - settings - modules == set()
    variables = set(re.findall(r"\bRESTAURANT_OTEL_[A-Z_]*[A-Z]\b", text))
    assert variables - FIELDS - set(PROCESS_VARIABLES) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_and_module_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text)) - targets == set()
    for module in set(re.findall(r"python -m ([\w.]+)", text)):
        assert importlib.util.find_spec(module) is not None, module


FOREIGN = {"cd", "celery", "curl", "export", "git", "make", "uwsgi"}
"""Of the shell, or of programs that the project does not bring along."""


@pytest.mark.parametrize("block", blocks("console"))
def test_every_command_exists(block: Block) -> None:
    for line in re.findall(r"^\$ (.*)$", block.text, re.MULTILINE):
        asked = re.sub(r"^[A-Z_]+=\$\(", "", line)  # TOKEN=$(command ...)
        command = next(word for word in asked.split() if not re.match(r"[A-Z_]+=", word))
        in_project = ROOT / command
        assert (
            command in FOREIGN
            or in_project.is_file()
            or shutil.which(command, path=str(Path(sys.executable).parent)) is not None
        ), line


BOARDS = [
    ROOT / "dashboards" / "grafana" / "dashboards",
    ROOT / "dashboards" / "grafana" / "v2",
]


@pytest.mark.parametrize(
    "page",
    [*PAGES, *RUNBOOKS, *(file for folder in BOARDS for file in sorted(folder.glob("*.json")))],
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_our_commands_are_named_with_the_options_that_they_have(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ").replace("\\n", "\n")
    for name, rest in re.findall(r"(?<![\w/.-])restaurant-otel ([a-z]+)\b([^`|\n]*)", text):
        if name not in cli.COMMANDS:
            continue  # prose
        command = cli.load(name)
        part = next((word for word in rest.split() if not word.startswith("-")), "")
        command = getattr(command, "commands", {}).get(part, command)
        known = {"--help", *(option for each in command.params for option in each.opts + each.secondary_opts)}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) - known == set(), f"{name}{rest}"


# --- links -------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get where it is rendered."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *RUNBOOKS], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# --- the generated parts -----------------------------------------------------------------------------


@pytest.fixture
def reference() -> ModuleType:
    return modules.load(ROOT / "scripts" / "reference.py")


def test_the_generated_parts_are_up_to_date(reference: ModuleType) -> None:
    assert reference.main(["--check"]) == 0


def test_a_stale_file_is_named_and_written_anew(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for name in reference.PARTS:
        shutil.copy(ROOT / name, tmp_path / name)
    stale = tmp_path / "docs" / "metrics.md"
    fresh = stale.read_text()
    stale.write_text(fresh.replace("Requests in flight.", "Something else."))
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "docs/metrics.md" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert stale.read_text() == fresh
    assert reference.main(["--check"]) == 0


def test_missing_markers_are_an_error_that_names_the_file(
    reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for name in reference.PARTS:
        (tmp_path / name).write_text("# Nothing\n")
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main([]) == 1
    assert "README.md" in capsys.readouterr().err
