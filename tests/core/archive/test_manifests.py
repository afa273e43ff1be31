"""The manifest of a run: its lines, going on, and the proof of completeness."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meduniseg_core.archive import (
    Manifest,
    ManifestHeader,
    Shard,
    TaskRecord,
    UsedModel,
    input_record,
    read_manifest,
    relative_output,
    verify_manifest,
)
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of

CASES = ("a", "b", "c")


def header(path: Path, folder: Path, **changes: object) -> ManifestHeader:
    fields = {
        "program": "1",
        "output": relative_output(folder, path),
        "tasks": ("organ",),
        "models": (UsedModel(name="tiny", sha256="0" * 64, tasks=("organ",)),),
        "settings": {"tta": False},
        "cases": CASES,
        "created": datetime.now(UTC),
    }
    return ManifestHeader(**{**fields, **changes})


def image(tmp_path: Path, case: str) -> Path:
    path = tmp_path / "in" / f"{case}.nii"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text(case)
    return path


def finish(manifest: Manifest, tmp_path: Path, case: str) -> None:
    """Write a case's result and its line."""
    result = manifest.output / f"{case}.txt"
    result.parent.mkdir(exist_ok=True)
    result.write_text(f"labels of {case}")
    task = TaskRecord(task="organ", status="written", files={result.name: sha256_of(result)}, seconds=1.0)
    manifest.append(case, "done", source=input_record([image(tmp_path, case)], "1" * 64), tasks=[task])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A manifest of three cases that are done."""
    path = tmp_path / "RUN.jsonl"
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        for case in CASES:
            finish(manifest, tmp_path, case)
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_run_is_complete_wherever_its_folder_goes(path: Path, tmp_path: Path) -> None:
    assert verify_manifest(path).complete
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    assert verify_manifest(moved / "RUN.jsonl").complete
    (moved / "out").rename(moved / "elsewhere")
    assert verify_manifest(moved / "RUN.jsonl").gone == ("a.txt", "b.txt", "c.txt")
    assert verify_manifest(moved / "RUN.jsonl", output=moved / "elsewhere").complete
    moved.rename(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault", "names"),
    [
        (lambda out, path: (out / "b.txt").write_text("labels of x"), "altered", ("b.txt",)),
        (lambda out, path: (out / "b.txt").unlink(), "gone", ("b.txt",)),
        (lambda out, path: path.write_bytes(b"".join(lines_of(path)[:3])), "missing", ("c",)),
        (lambda out, path: path.write_bytes(path.read_bytes()[:-1]), "missing", ()),  # an editor's missing line break
        (lambda out, path: path.write_bytes(path.read_bytes()[:-9]), "missing", ("c",)),  # torn
    ],
)
def test_what_a_run_lacks_is_named(path: Path, change, fault: str, names: tuple[str, ...]) -> None:
    change(path.parent / "out", path)
    report = verify_manifest(path)
    assert getattr(report, fault) == names and report.complete == (not names)
    others = {"altered", "gone", "missing", "doubled", "failed", "shards"} - {fault}
    assert not any(getattr(report, other) for other in others)
    assert all(name in " ".join(report.sentences()) for name in names)


def test_a_case_done_twice_is_doubled_unless_it_was_lost_in_between(path: Path, tmp_path: Path) -> None:
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        manifest.append("a", "lost")
        assert manifest.standing("a", [image(tmp_path, "a")]) == "open"
        finish(manifest, tmp_path, "a")
    assert verify_manifest(path).complete
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        finish(manifest, tmp_path, "b")
    assert verify_manifest(path).doubled == ("b",)


def test_a_case_that_failed_and_was_done_later_is_done(path: Path, tmp_path: Path) -> None:
    path.unlink()
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        finish(manifest, tmp_path, "a")
        manifest.append("b", "failed", error="b is truncated.", exit_code=3)
        manifest.append("c", "failed", error="c is truncated.", exit_code=3)
        finish(manifest, tmp_path, "b")
        assert manifest.standing("c", [image(tmp_path, "c")]) == "open"
    report = verify_manifest(path)
    assert report.failed == {"c": "c is truncated."} and report.done == 2 and not report.missing


def test_a_torn_line_is_cut_off_by_the_next(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"case","ver')
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        manifest.append("a", "lost")
    assert path.read_bytes().startswith(whole) and len(lines_of(path)) == 5
    assert [record.sequence for record in read_manifest(path).records] == [1, 2, 3, 4]


def test_what_is_left_to_do_is_seen_in_files(path: Path, tmp_path: Path) -> None:
    sources = {case: [image(tmp_path, case)] for case in CASES}
    (tmp_path / "out" / "a.txt").unlink()
    (tmp_path / "out" / "b.txt").write_text("corrected")
    sources["c"][0].write_text("another image")
    with Manifest.opened(path, header(path, tmp_path / "out")) as manifest:
        assert [manifest.standing(case, sources[case]) for case in CASES] == ["lost", "done", "lost"]
        assert manifest.standing("b", sources["b"], redo_edited=True) == "lost"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": ("a", "b", "d")}, r"other cases .*1 gone: c; 1 new: d"),
        ({"settings": {"tta": True}}, r"other options .*tta was False and is True"),
        ({"models": (UsedModel(name="other", sha256="2" * 64, tasks=("organ",)),)}, r"other models .*tiny 0+ then"),
        ({"tasks": ("vessel",)}, "other tasks"),
        ({"output": "elsewhere"}, "another folder"),
        ({"shard": (1, 2)}, "another shard"),
    ],
)
def test_the_manifest_of_another_run_is_refused(path: Path, tmp_path: Path, changes, said: str) -> None:
    before = path.read_bytes()
    with (
        pytest.raises(UsageError, match=said),
        Manifest.opened(path, header(path, tmp_path / "out", **changes)),
    ):
        pass
    assert path.read_bytes() == before


def test_one_run_at_a_time_writes_a_manifest(path: Path, tmp_path: Path) -> None:
    mine = header(path, tmp_path / "out")
    with (
        Manifest.opened(path, mine),
        pytest.raises(BadInputError, match="is being written by another run"),
        Manifest.opened(path, mine),
    ):
        pass
    assert not list(tmp_path.glob(".RUN*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{}\n", "line 1: is damaged"),
        (b"\x89PNG\r\n", "is empty|line 1"),
        (b'{"version":99}\n', "newer version"),
        (b'{"version":1,"kind":"ledger"}\n', "line 1: is damaged"),
    ],
)
def test_what_is_no_manifest_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInputError, match=said):
        verify_manifest(tmp_path / "x.jsonl")


def test_a_line_of_another_case_or_out_of_turn_is_damage(path: Path) -> None:
    lines = lines_of(path)
    for changed in (lines[2].replace(b'"case":"b"', b'"case":"z"'), lines[3]):
        path.write_bytes(b"".join([*lines[:2], changed, *lines[3:]]))
        with pytest.raises(BadInputError, match="line 3: is damaged"):
            verify_manifest(path)


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path, name = tmp_path / "RUN.jsonl", "sch\udcf6n"
    with Manifest.opened(path, header(path, tmp_path / "out", cases=(name,))) as manifest:
        manifest.append(name, "failed", error=f"{name} is truncated.", exit_code=3)
    assert list(verify_manifest(path).failed) == [name]
    json.dumps(verify_manifest(path).as_json())


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_share_all_cases_and_are_proved_together(tmp_path: Path, count: int) -> None:
    whole, out = tmp_path / "RUN.jsonl", tmp_path / "out"
    seen: list[str] = []
    for number in range(1, count + 1):
        shard = Shard.parse(f"{number}/{count}")
        path = shard.manifest(whole)
        assert path != whole
        with Manifest.opened(path, header(path, out, shard=(number, count))) as manifest:
            for case in shard.of(CASES):
                seen.append(case)
                finish(manifest, tmp_path, case)
        report = verify_manifest(whole)
        assert report.complete == (number == count) and len(report.shards) == count - number
    assert sorted(seen) == list(CASES)


def test_shards_of_two_runs_are_told_apart(tmp_path: Path) -> None:
    whole, out = tmp_path / "RUN.jsonl", tmp_path / "out"
    for number, tasks in ((1, ("organ",)), (2, ("vessel",))):
        path = Shard(number, 2).manifest(whole)
        with Manifest.opened(path, header(path, out, shard=(number, 2), tasks=tasks)):
            pass
    with pytest.raises(BadInputError, match="are of different runs"):
        verify_manifest(whole)
    with Manifest.opened(Shard(1, 3).manifest(whole), header(path, out, shard=(1, 3))):
        pass
    with pytest.raises(BadInputError, match="runs in 2, 3 shards"):
        verify_manifest(whole)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "", "1/9999999"])
def test_a_shard_is_one_of_n_counted_from_one(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shard"):
        Shard.parse(text)
