"""The documents are true: links lead somewhere, commands exist, citations name sections that are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from meduniseg_core.model import ARCHITECTURES, count_parameters
from tests.conftest import REPOSITORY
from training_cli.main import app

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob(".github/**/*.md")])
MADE_WITH_THE_SITE = (
    "docs/reference/cli.md",
    "docs/reference/training.md",
    "docs/reference/changelog.md",
    "docs/reference/api/",
    "docs/explanation/security.md",
)
SOURCES = [path for top in ("src", "training_cli", "tests", "experiments") for path in (REPOSITORY / top).rglob("*.py")]


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_to_files(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text):
        if "://" in target:
            continue
        path = (document.parent / target).resolve()
        made = path.relative_to(REPOSITORY).as_posix().startswith(MADE_WITH_THE_SITE)
        assert made or path.exists(), f"{_name(document)} links to {target}"


def _commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text("utf-8"), flags=re.DOTALL):
            lines = [line.split(" #")[0].strip() for line in block.splitlines()]
            found += [(_name(document), line) for line in lines if line.startswith("meduniseg ")]
    return found


@pytest.mark.parametrize(("document", "line"), _commands())
def test_commands_in_the_documents_exist_with_their_options(document: str, line: str) -> None:
    """Every ``meduniseg ...`` of a bash block: its subcommand is there and knows each of its options."""
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{document}: {line}"
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in known | {"--debug"}, f"{document}: {line}"


def test_citations_of_the_method_name_sections_that_are_there() -> None:
    there = set(re.findall(r"^## (\d+)\.", (REPOSITORY / "docs/spec.md").read_text("utf-8"), flags=re.MULTILINE))
    cited = set()
    for source in SOURCES:
        for numbers in re.findall(r"docs/spec\.md sections? (\d+(?:(?:-|, | and )\d+)*)", source.read_text("utf-8")):
            cited |= set(re.findall(r"\d+", numbers))
    assert cited
    assert cited <= there


def test_nothing_cites_what_is_not_in_the_project() -> None:
    outside = re.compile(r"\b(?:SPEC|DESIGN)(?:\.md)?,? section")
    assert [_name(path) for path in SOURCES if path != Path(__file__) and outside.search(path.read_text("utf-8"))] == []


def test_the_tests_that_hold_every_kind_of_fault_are_there() -> None:
    names: dict[str, set[str]] = {}
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        names[path.stem.removeprefix("test_")] = set(re.findall(r"def test_(\w+)", path.read_text("utf-8")))
    table = (REPOSITORY / "benchmarks/results/cases_kinds.md").read_text("utf-8").splitlines()
    rows = [row.split("|")[1:4] for row in table if re.match(r"\| \d", row)]
    assert len(rows) == 30
    for kind, files, cited in rows:
        assert set(re.findall(r"`(\w+)`", files)) <= set(names), kind
        inputs = re.findall(r"`(\w+)::(\w+)`", cited)
        assert len(inputs) >= 2, kind
        for file, test in inputs:
            assert test in names[file], f"{kind}: {file}::{test}; correct benchmarks/results/cases_kinds.md"


@pytest.mark.parametrize("architecture", ["backbone-3d", "backbone-2d", "downstream-siim", "meduniseg"])
def test_the_method_states_the_parameter_counts(architecture: str) -> None:
    row = re.search(rf"\| `{architecture}` \| ([\d,]+) \|", (REPOSITORY / "docs/spec.md").read_text("utf-8"))
    assert row is not None
    assert int(row[1].replace(",", "")) == count_parameters(ARCHITECTURES[architecture])["total"]


def test_the_method_states_the_counts_of_all_variants_and_of_other_papers_networks() -> None:
    rows = [line for line in (REPOSITORY / "docs/spec.md").read_text("utf-8").splitlines() if line.startswith("|")]
    for architecture in sorted(ARCHITECTURES.keys() - {"uniseg"}):
        count = f"{count_parameters(ARCHITECTURES[architecture])['total']:,}"
        assert any(f"`{architecture}`" in row and count in row for row in rows), f"{architecture}: {count}"
