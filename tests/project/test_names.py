"""No two public things of one name: a reader who meets ``Header`` must not have to ask which."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from tests.conftest import REPOSITORY

TOPS = (REPOSITORY / "src", REPOSITORY / "training_cli")


def _is_command(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(isinstance(one, ast.Call) and ast.unparse(one.func).endswith("app.command") for one in decorators)


def _commands_by_call(path: Path) -> set[str]:
    """The functions that ``app.command("segment")(segment.segment)`` makes commands."""
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    return {
        ast.unparse(call.args[0]).rpartition(".")[2]
        for call in calls
        if isinstance(call.func, ast.Call) and ast.unparse(call.func.func).endswith("app.command")
    }


def test_every_public_class_and_function_has_a_name_of_its_own() -> None:
    """But for what the command line names: a command is called as what it does, and ``main`` as Python calls it."""
    homes: dict[str, set[str]] = defaultdict(set)
    paths = [path for top in TOPS for path in sorted(top.rglob("*.py"))]
    commands = {name for path in paths if path.parent.name == "training_cli" for name in _commands_by_call(path)}
    assert {"segment", "train"} <= commands
    for path in paths:
        of_the_command_line = path.parent.name == "training_cli"
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_":
                continue
            if node.name == "main" or (of_the_command_line and (_is_command(node) or node.name in commands)):
                continue
            homes[node.name].add(str(path.relative_to(REPOSITORY)))
    assert len(homes) > 500
    assert {name: sorted(found) for name, found in homes.items() if len(found) > 1} == {}
