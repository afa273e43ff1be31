"""JSON nested deeper than Python follows is no JSON, for every reader: none ends in a RecursionError."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.adaptation.run_events import newest_events
from meduniseg_core.errors import BadInputError
from meduniseg_core.provenance import read_provenance
from meduniseg_core.structured_text import parse_json
from meduniseg_core.training.log import RunLog
from meduniseg_core.training.split import read_splits

DEEP = "[" * 20_000


def test_it_is_a_value_error_with_its_reason() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


def test_beside_a_label_file_it_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(DEEP)
    assert read_provenance(tmp_path / "a.png") is None


def test_a_split_of_it_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(DEEP)
    with pytest.raises(BadInputError, match=r"split\.json"):
        read_splits(tmp_path / "split.json")


def test_a_line_of_it_in_a_log_is_passed_over(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.append({"epoch": 0})
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write(DEEP + "\n")
    log.append({"epoch": 1})
    log.restart(2)
    assert (tmp_path / "log.jsonl").read_text().count("epoch") == 2


def test_a_line_of_it_among_a_run_s_events_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f'{{"event": "start"}}\n{DEEP}\n{{"event": "progress"}}\n')
    assert [event["event"] for event in newest_events(path)] == ["progress"]
