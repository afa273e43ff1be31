"""Every public function, method and class of the core says what it takes, gives and raises.

A docstring in Google's style: ``Args`` where there are any, ``Returns`` (``Yields``) where there is a value, ``Raises``
where the body raises one itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import REPOSITORY

CORE = REPOSITORY / "src" / "meduniseg_core"
Function = ast.FunctionDef | ast.AsyncFunctionDef
EVIDENT = {"AssertionError", "NotImplementedError", "StopIteration"}


@dataclass(frozen=True)
class Missing:
    name: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.parts)}"


def _section(doc: str, *names: str) -> str | None:
    match = re.search(rf"^(?:{'|'.join(names)}):\n((?:[ \t]+.*\n?|\n)+)", doc, flags=re.MULTILINE)
    return match[1] if match else None


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body, those of functions inside it left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _raised(function: Function) -> set[str]:
    names = set()
    for node in _own_nodes(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = error.id if isinstance(error, ast.Name) else getattr(error, "attr", "")
            if name[:1].isupper():  # not one that was caught and is passed on
                names.add(name)
    return names - EVIDENT


def _decorators(function: Function) -> set[str]:
    return {ast.unparse(one).split("(")[0].rsplit(".", 1)[-1] for one in function.decorator_list}


def _missing_of_function(function: Function, name: str) -> Missing | None:
    decorators = _decorators(function)
    if decorators & {"overload", "setter", "override"}:
        return None
    doc = ast.get_docstring(function)
    if doc is None:
        return Missing(name, ("docstring",))
    parts = []
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arguments += [one for one in (function.args.vararg, function.args.kwarg) if one is not None]
    own = [one.arg for one in arguments if one.arg not in ("self", "cls") and not one.arg.startswith("_")]
    described = _section(doc, "Args") or ""
    parts += [f"Args {one}" for one in own if not re.search(rf"^\s+\*{{0,2}}{one}\b.*:", described, flags=re.MULTILINE)]
    property_like = bool(decorators & {"property", "cached_property"})
    gives = function.returns is not None and ast.unparse(function.returns) not in ("None", "NoReturn", "Self")
    if gives and not property_like and _section(doc, "Returns", "Yields") is None:
        parts.append("Returns")
    raises = _section(doc, "Raises") or ""
    parts += [f"Raises {one}" for one in sorted(_raised(function)) if not re.search(rf"\b{one}\b", raises)]
    return Missing(name, tuple(parts)) if parts else None


def _missing(body: list[ast.stmt], prefix: str) -> Iterator[Missing]:
    for node in body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            found = _missing_of_function(node, f"{prefix}.{node.name}")
            if found is not None:
                yield found
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield Missing(f"{prefix}.{node.name}", ("docstring",))
            yield from _missing(node.body, f"{prefix}.{node.name}")


def missing_in_core() -> list[Missing]:
    found: list[Missing] = []
    for path in sorted(CORE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        module = ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__")
        if ast.get_docstring(tree) is None:
            found.append(Missing(module, ("docstring",)))
        found += _missing(tree.body, module)
    return found


def test_everything_public_of_the_core_is_documented() -> None:
    assert [str(one) for one in missing_in_core()] == []


def test_the_rule_sees_what_is_missing() -> None:
    source = '''
def area(width, height: float, *, unit: str = "mm") -> float:
    """The area.

    Args:
        width: in mm.

    Raises:
        ValueError: negative.
    """
    if width < 0:
        raise ValueError("negative")
    raise UsageError("none")
'''
    assert [str(one) for one in _missing(ast.parse(source).body, "m")] == [
        "m.area: Args height, Args unit, Returns, Raises UsageError"
    ]
