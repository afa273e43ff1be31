"""Nothing that is not ours is written over, and the files of a result appear as one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from meduniseg_core import outputs
from meduniseg_core.errors import BadInputError, UnwritableError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.former_results import ResultKind, Standing, identities, standing
from meduniseg_core.outputs import check_name, clear_leftovers, write_result

OURS = ResultKind(is_ours=lambda content: "made_by" in content)


def writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def save(folder: Path, text: str = "labels", name: str = "scan.nii.gz", **options: object) -> dict[str, str]:
    content = {"made_by": "us", "text": text}
    return write_result(folder / "scan.json", content, {name: writer(text)}, OURS, **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_record_vouches_for_its_files_and_nothing_else_is_left(tmp_path: Path) -> None:
    digests = save(tmp_path / "out")
    assert names(tmp_path / "out") == ["scan.json", "scan.nii.gz"]
    record = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert record == {"made_by": "us", "text": "labels", "files": {"scan.nii.gz": digests["scan.nii.gz"]}}
    assert sha256_of(tmp_path / "out" / "scan.nii.gz") == digests["scan.nii.gz"]


def test_a_former_result_is_replaced_unless_it_was_changed_since(tmp_path: Path) -> None:
    save(tmp_path, "one")
    save(tmp_path, "two")
    assert (tmp_path / "scan.nii.gz").read_text() == "two"
    (tmp_path / "scan.nii.gz").write_text("corrected")
    with pytest.raises(UsageError, match=r"scan\.nii\.gz was changed by hand"):
        save(tmp_path, "three")
    assert (tmp_path / "scan.nii.gz").read_text() == "corrected"
    assert json.loads((tmp_path / "scan.json").read_text())["text"] == "two"
    save(tmp_path, "three", replace_edited=True)
    assert (tmp_path / "scan.nii.gz").read_text() == "three"


def test_what_the_record_calls_edited_is_kept_whatever_its_hash(tmp_path: Path) -> None:
    save(tmp_path)
    record = tmp_path / "scan.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "edited": True}))
    with pytest.raises(UsageError, match="changed by hand"):
        save(tmp_path, "new")


@pytest.mark.parametrize("in_the_way", ["scan.nii.gz", "scan.json", "scan.nrrd"])
def test_a_stranger_s_file_is_not_replaced(tmp_path: Path, in_the_way: str) -> None:
    (tmp_path / in_the_way).write_text('{"a": 1}')
    name = in_the_way if in_the_way != "scan.json" else "scan.nii.gz"
    with pytest.raises(UsageError, match=r"is not a result of this program"):
        save(tmp_path, name=name)
    assert names(tmp_path) == [in_the_way]
    assert (tmp_path / in_the_way).read_text() == '{"a": 1}'


def test_a_record_vouches_for_the_names_it_lists_and_no_other_of_its_stem(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_text("a photograph")
    save(tmp_path, name="scan.tif")
    with pytest.raises(UsageError, match=r"scan\.png exists already"):
        save(tmp_path, name="scan.png")
    assert (tmp_path / "scan.png").read_text() == "a photograph"


def test_another_format_s_former_file_stays_ours(tmp_path: Path) -> None:
    save(tmp_path, "one")
    save(tmp_path, "two", name="scan.nrrd")
    assert list(json.loads((tmp_path / "scan.json").read_text())["files"]) == ["scan.nrrd"]
    save(tmp_path, "three")
    assert (tmp_path / "scan.nii.gz").read_text() == "three"
    (tmp_path / "scan.nrrd").write_text("mine now")
    save(tmp_path, "four")
    with pytest.raises(UsageError, match=r"scan\.nrrd was changed by hand"):  # whatever was saved in between
        save(tmp_path, name="scan.nrrd")
    assert (tmp_path / "scan.nrrd").read_text() == "mine now"


def surveyed(folder: Path, *others: str) -> Standing:
    """What a run sees that looks at a former result as a whole, before it works."""
    return standing(folder / "scan.json", ["scan.nii.gz", *others], OURS)


def test_an_edited_former_result_in_another_format_is_kept_until_that_is_overruled(tmp_path: Path) -> None:
    save(tmp_path, "one", name="scan.nrrd")
    save(tmp_path, "two", before=surveyed(tmp_path, "scan.nrrd"))
    assert names(tmp_path) == ["scan.json", "scan.nii.gz", "scan.nrrd"]
    (tmp_path / "scan.nrrd").write_text("corrected")
    before = surveyed(tmp_path, "scan.nrrd")
    with pytest.raises(UsageError, match=r"scan\.nrrd was changed by hand"):
        save(tmp_path, "three", before=before)
    save(tmp_path, "three", before=before, replace_edited=True)
    save(tmp_path, "four", before=surveyed(tmp_path, "scan.nrrd"))  # it has been overruled
    assert (tmp_path / "scan.nrrd").read_text() == "corrected"
    assert list(json.loads((tmp_path / "scan.json").read_text())["earlier_files"]) == ["scan.nrrd"]


def test_a_record_vouches_for_nothing_outside_its_folder(tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    save(out, "one")
    precious.write_text("precious")
    record = json.loads((out / "scan.json").read_text())
    record["files"] |= {"../precious": sha256_of(precious), str(precious): sha256_of(precious), "..": ""}
    (out / "scan.json").write_text(json.dumps(record))
    assert list(OURS.vouched(out / "scan.json", record)) == ["scan.nii.gz"]
    save(out, "two", before=surveyed(out))
    assert precious.read_text() == "precious"


def test_an_input_is_not_replaced_by_whatever_path_it_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(out)  # our own result, now segmented in its turn
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "hard.nii.gz").hardlink_to(out / "scan.nii.gz")
    for path in (out / "scan.nii.gz", tmp_path / "link" / "scan.nii.gz", tmp_path / "hard.nii.gz"):
        with pytest.raises(UsageError, match="is an input"):
            save(out, "new", inputs=identities([path]))
    assert (out / "scan.nii.gz").read_text() == "labels"


def test_a_link_is_nobody_s_result(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "scan.nii.gz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not a result of this program"):
        save(tmp_path)
    (tmp_path / "scan.nii.gz").unlink()
    (tmp_path / "scan.nii.gz").symlink_to(tmp_path / "nothing there")
    with pytest.raises(UsageError, match="not a result of this program"):
        save(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    before = standing(tmp_path / "scan.json", ["scan.nii.gz"], OURS)
    save(tmp_path, "theirs")
    with pytest.raises(BadInputError, match="written by another program"):
        save(tmp_path, "ours", before=before)
    assert (tmp_path / "scan.nii.gz").read_text() == "theirs"


def test_of_many_writers_at_once_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    before = standing(tmp_path / "scan.json", ["scan.nii.gz"], OURS)
    told: list[str] = []
    won: list[str] = []

    def run(text: str) -> None:
        try:
            save(tmp_path, text, before=before)
            won.append(text)
        except BadInputError as error:
            told.append(str(error))

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(told) == 7
    assert names(tmp_path) == ["scan.json", "scan.nii.gz"]
    assert (tmp_path / "scan.nii.gz").read_text() == won[0] == json.loads((tmp_path / "scan.json").read_text())["text"]


def test_a_failing_writer_leaves_nothing_and_the_former_result_as_it_was(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_text("half")
        raise BadInputError("It cannot be written so.")

    with pytest.raises(BadInputError, match="written so"):
        write_result(tmp_path / "new" / "scan.json", {"made_by": 1}, {"scan.png": broken}, OURS)
    assert not (tmp_path / "new").exists()
    save(tmp_path)
    with pytest.raises(BadInputError):
        write_result(tmp_path / "scan.json", {"made_by": 1}, {"scan.nii.gz": broken}, OURS)
    assert names(tmp_path) == ["scan.json", "scan.nii.gz"]
    assert (tmp_path / "scan.nii.gz").read_text() == "labels"


KILLED = """
import os, signal, sys
from pathlib import Path
from meduniseg_core import outputs
from meduniseg_core.former_results import ResultKind
if "{when}" == "writing":
    write = lambda path: (path.write_text("half"), os.kill(os.getpid(), signal.SIGKILL))
else:
    write = lambda path: path.write_text("new")
    place = outputs.place
    def killed(source, target, *, replace):
        if target.name == "{when}":
            os.kill(os.getpid(), signal.SIGKILL)
        place(source, target, replace=replace)
    outputs.place = killed
kind = ResultKind(is_ours=lambda content: "made_by" in content)
folder = Path(sys.argv[1])
outputs.write_result(folder / "scan.json", {{"made_by": "us"}}, {{"scan.nii.gz": write, "scan_p.nii.gz": write}}, kind)
"""


KILLED_FOLDER = """
import os, signal, sys
from pathlib import Path
from meduniseg_core import outputs
from meduniseg_core.former_results import ResultKind
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
def write(path):
    (path / "0").mkdir(parents=True)
    (path / "0" / "c").write_text("new")
    if "{when}" == "writing":
        die()
place = outputs.place
def killed(source, target, *, replace):
    if target.name == "{when}":
        die()
    place(source, target, replace=replace)
outputs.place = killed
rename = Path.rename
def between(source, target):
    rename(source, target)
    if "{when}" == "between" and Path(target).name.endswith(".former"):
        die()
Path.rename = between
kind = ResultKind(is_ours=lambda content: "made_by" in content)
folder = Path(sys.argv[1])
outputs.write_result(folder / "scan.json", {{"made_by": "us"}}, {{"scan.ome.zarr": write}}, kind)
"""


def exit_code_of(program: str, folder: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", program, str(folder)], env=environment, check=False).returncode


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("when", ["writing", "scan.json", "scan.nii.gz", "scan_p.nii.gz"])
def test_a_process_killed_at_any_moment_leaves_nothing_that_the_next_refuses(
    tmp_path: Path, when: str, former: bool
) -> None:
    if former:
        save(tmp_path, "old")
    assert exit_code_of(KILLED.format(when=when), tmp_path) == -9
    visible = [name for name in names(tmp_path) if not name.startswith(".")]
    assert "scan.nii.gz" not in visible or "scan.json" in visible
    clear_leftovers(tmp_path)
    assert [name for name in names(tmp_path) if name != ".meduniseg-lock"] == [
        name for name in names(tmp_path) if not name.startswith(".")
    ]
    if when in ("scan.nii.gz", "scan_p.nii.gz"):  # the record was there: the rest was brought
        assert (tmp_path / "scan.nii.gz").read_text() == (tmp_path / "scan_p.nii.gz").read_text() == "new"
    elif former:
        assert (tmp_path / "scan.nii.gz").read_text() == "old"
    save(tmp_path, "again")
    assert (tmp_path / "scan.nii.gz").read_text() == "again"
    assert all(not name.startswith(".") for name in names(tmp_path))


def test_a_result_edited_between_a_kill_and_the_next_run_is_kept(tmp_path: Path) -> None:
    save(tmp_path, "old")
    exit_code_of(KILLED.format(when="scan.nii.gz"), tmp_path)
    (tmp_path / "scan.nii.gz").write_text("corrected")
    clear_leftovers(tmp_path)
    assert (tmp_path / "scan.nii.gz").read_text() == "corrected"
    with pytest.raises(UsageError, match="changed by hand"):
        save(tmp_path, "again")


def folder_writer(text: str) -> Callable[[Path], object]:
    def write(target: Path) -> None:
        (target / "0").mkdir(parents=True)
        (target / "0" / "c").write_text(text)

    return write


def save_folder(folder: Path, text: str, **options: object) -> None:
    files = {"scan.ome.zarr": folder_writer(text)}
    write_result(folder / "scan.json", {"made_by": "us"}, files, OURS, **options)  # type: ignore[arg-type]


def test_a_folder_is_replaced_whole_unless_anything_in_it_was_changed(tmp_path: Path) -> None:
    for text in ("one", "two"):
        save_folder(tmp_path, text)
        assert names(tmp_path) == ["scan.json", "scan.ome.zarr"]
        assert (tmp_path / "scan.ome.zarr" / "0" / "c").read_text() == text
    (tmp_path / "scan.ome.zarr" / "0" / "more").write_text("")
    with pytest.raises(UsageError, match=r"scan\.ome\.zarr was changed by hand"):
        save_folder(tmp_path, "three")
    save_folder(tmp_path, "three", replace_edited=True)
    assert [path.name for path in (tmp_path / "scan.ome.zarr" / "0").iterdir()] == ["c"]
    (tmp_path / "scan.json").unlink()
    with pytest.raises(UsageError, match="is not a result of this program"):
        save_folder(tmp_path, "four")
    assert (tmp_path / "scan.ome.zarr" / "0" / "c").read_text() == "three"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("when", ["writing", "scan.json", "scan.ome.zarr", "between"])
def test_a_process_killed_while_it_writes_a_folder_leaves_the_old_or_the_new_one(
    tmp_path: Path, when: str, former: bool
) -> None:
    if former:
        save_folder(tmp_path, "old")
    code = exit_code_of(KILLED_FOLDER.format(when=when), tmp_path)
    assert code == (0 if when == "between" and not former else -9)
    clear_leftovers(tmp_path)
    there = tmp_path / "scan.ome.zarr" / "0" / "c"
    if when in ("scan.ome.zarr", "between"):  # the record was there
        assert there.read_text() == "new"
    else:
        assert there.read_text() == "old" if former else not there.exists()
    save_folder(tmp_path, "again")
    assert there.read_text() == "again" and names(tmp_path) == ["scan.json", "scan.ome.zarr"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, None])
def test_a_folder_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    def refuse(_path: Path) -> None:
        raise OSError(code, os.strerror(code)) if code is not None else OSError("4096 requested and 0 written")

    if code is None:  # numpy's way of saying it
        monkeypatch.setattr("meduniseg_core.files._is_full", lambda _folder: True)
    with pytest.raises(UnwritableError, match=f"^{tmp_path} cannot be written to .* choose another folder") as caught:
        write_result(tmp_path / "scan.json", {"made_by": 1}, {"scan.nii.gz": refuse}, OURS)
    assert caught.value.exit_code == 3 and isinstance(caught.value, OSError)
    assert names(tmp_path) == []


def test_a_disk_without_locks_and_links_still_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    def no_locks(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(outputs.FileLock, "acquire", no_locks)
    save(tmp_path)
    assert names(tmp_path) == ["scan.json", "scan.nii.gz"]
    save(tmp_path, "new")
    assert (tmp_path / "scan.nii.gz").read_text() == "new"


def test_names_that_the_disk_cannot_hold_are_found_before(tmp_path: Path) -> None:
    check_name(tmp_path / "not" / "there" / ("x" * 248 + ".nii.gz"))
    with pytest.raises(BadInputError, match="256 bytes long and the disk takes 255"):
        check_name(tmp_path / ("x" * 249 + ".nii.gz"))
    with pytest.raises(BadInputError, match="bytes long"):
        check_name(tmp_path / ("ä" * 125 + ".nii.gz"))
    save(tmp_path, name="y." + "x" * 246 + ".nii.gz")  # as long as can be, through a temporary file
