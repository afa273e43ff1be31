"""The commands that stand beside figures are there, with the options and steps that are named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TOOLS = ("benchmarks", "experiments", "docs", "scripts")
RESULTS = [path for path in sorted((REPOSITORY / "benchmarks/results").iterdir()) if path.suffix in (".md", ".txt")]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *RESULTS]
    + [path for top in ("benchmarks/peers", "experiments") for path in (REPOSITORY / top).rglob("*.md")]
)
SCRIPTS = sorted(path for top in TOOLS for path in (REPOSITORY / top).rglob("*.py"))
COMMAND = re.compile(r"python3? ((?:benchmarks|experiments|docs|scripts)/[\w/]+\.py)((?: +[^\s`#|&><]+)*)")
SHELL = re.compile(r"(?:scripts|experiments)/[\w/]+\.sh")


def _texts() -> list[tuple[str, str]]:
    """(name, text) of every page, and of the docstring at the head of every script."""
    found = [(path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8")) for path in PAGES]
    for path in SCRIPTS:
        head = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        found.append((path.relative_to(REPOSITORY).as_posix(), head or ""))
    return found


def _commands() -> list[tuple[str, str, str]]:
    """(where it stands, script, arguments); a backslash at a line's end goes on in the next one."""
    return sorted(
        {
            (name, script, " ".join(arguments.split()))
            for name, text in _texts()
            for script, arguments in COMMAND.findall(re.sub(r"\\\n\s*", " ", text))
        }
    )


@pytest.mark.parametrize(("place", "script", "arguments"), _commands())
def test_a_command_is_there_with_its_options_and_steps(place: str, script: str, arguments: str) -> None:
    path = REPOSITORY / script
    assert path.is_file(), f"{place} names {script}"
    source = path.read_text("utf-8")
    for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", arguments):
        assert f'"{option}"' in source, f"{place}: {script} has no {option}"
    step = re.match(r"[a-z_]+(?= |$)", arguments)
    if step is not None and "choices=" in source:
        assert f'"{step[0]}"' in source, f"{place}: {script} has no step {step[0]}"


def test_the_scripts_of_the_shell_are_there() -> None:
    named = {(name, script) for name, text in _texts() for script in SHELL.findall(text)}
    assert named
    assert [(name, script) for name, script in named if not (REPOSITORY / script).is_file()] == []


def test_the_steps_that_the_card_names_are_those_of_the_script() -> None:
    script = (REPOSITORY / "experiments/starter/after.sh").read_text("utf-8")
    (steps,) = re.findall(r"after\.sh ([a-z_ ]+)`", (REPOSITORY / "docs/model_card.md").read_text("utf-8"))
    assert set(steps.split()) <= set(re.findall(r"^if step (\w+);", script, flags=re.MULTILINE))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_benchmarks_result_names_the_command_that_made_it(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.name == "cases_kinds.md":  # no figures: which tests hold which fault
        assert "[cases.md](cases.md)" in text
    else:
        assert re.search(r"python benchmarks/[\w/]+\.py|scripts/\w+\.sh", text), f"{path.name} names no command"
