"""docs/explanation/architecture.md speaks of files that are there, and its walks are as short as they promise."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text("utf-8")
NAMES = {
    path.name for top in ("src", "training_cli", "tests", "experiments") for path in (REPOSITORY / top).rglob("*.py")
}
WALKS = re.findall(r"^### (.+?)\n\n\| \| file .*?\n(.*?)\n\n", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", TEXT))))
def test_the_files_it_names_are_there(name: str) -> None:
    assert name in NAMES


def test_there_are_four_walks() -> None:
    assert len(WALKS) == 4


@pytest.mark.parametrize(("title", "table"), WALKS)
def test_a_walk_has_at_most_nine_files_and_enters_none_twice(title: str, table: str) -> None:
    files = re.findall(r"^\| \d \| `(\S+?)` \|", table, flags=re.MULTILINE)
    assert 3 < len(files) <= 9, title
    assert len(set(files)) == len(files), title
    for file in files:
        assert (REPOSITORY / file).is_file() or (REPOSITORY / "src" / file).is_file(), f"{title}: {file}"


@pytest.mark.parametrize(("title", "table"), WALKS)
def test_what_a_walk_hands_on_is_defined_in_the_project(title: str, table: str) -> None:
    """The types that it names (`Image`, `SegmentationJob`) are classes of these packages."""
    source = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / "src").rglob("*.py"))
    for name in set(re.findall(r"`([A-Z][a-z]\w+)`s?", table)):
        assert re.search(rf"^(?:class {name}\b|{name} = )", source, flags=re.MULTILINE), f"{title}: {name}"
