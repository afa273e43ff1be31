"""A corpus of hostile files: each is read, or refused in one sentence, in little memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hostile.corpus import corpus
from hostile.file import Hostile
from hostile.judge import BYTES, SECONDS

_PROCESSES = 2


def judged(folder: Path, items: list[Hostile]) -> dict[str, dict[str, Any]]:
    """What came of each; a process that dies is begun anew behind the file that it died of."""
    answers: dict[str, dict[str, Any]] = {}
    left = list(items)
    while left:
        cases = json.dumps([[item.name, item.labels] for item in left])
        judge = Path(__file__).with_name("judge.py")
        done = subprocess.run(
            [sys.executable, str(judge), str(folder)], input=cases, capture_output=True, text=True, check=False
        )
        begun = ""
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            begun = answer.get("begun", begun)
            if "name" in answer:
                answers[answer["name"]] = answer
        if done.returncode != 0:
            assert begun, done.stderr
            answers[begun] = {
                "verdict": f"died ({done.returncode})",
                "text": done.stderr[-300:],
                "seconds": 0,
                "peak": 0,
            }
        left = [item for item in left if item.name not in answers]
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    items = corpus()
    for item in items:
        for name, content in {item.name: item.content, **item.beside}.items():
            (folder / name).write_bytes(content)
    before = sorted(path.name for path in folder.iterdir())
    with ThreadPoolExecutor(_PROCESSES) as pool:
        parts = pool.map(judged, [folder] * _PROCESSES, [items[n::_PROCESSES] for n in range(_PROCESSES)])
        found = {name: answer for part in parts for name, answer in part.items()}
    assert sorted(path.name for path in folder.iterdir()) == before, "reading left something behind"
    return found


def test_the_corpus_is_large_and_of_every_format() -> None:
    items = corpus()
    names = [item.name for item in items]
    assert len(set(names)) == len(names) >= 120
    for form in ("nifti", "nrrd", "meta", "png", "jpeg", "bmp", "tiff", "numpy", "dicom", "any"):
        assert sum(name.startswith(form) for name in names) >= 5, form


@pytest.mark.parametrize("item", corpus(), ids=lambda item: item.name)
def test_a_hostile_file_has_its_verdict(item: Hostile, answers: dict[str, dict[str, Any]]) -> None:
    answer = answers[item.name]
    assert answer["verdict"] == item.verdict, answer["text"]
    assert answer["seconds"] < SECONDS
    assert answer["peak"] < BYTES
    if item.verdict == "refused":
        text = answer["text"]
        assert "\n" not in text
        assert text.endswith(".")
        assert len(text) < 600
        stem = item.name.split(".")[0]
        assert stem in text or any(name in text for name in item.beside), text
