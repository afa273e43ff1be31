"""``meduniseg segment`` and the user's files: what is overwritten, what a bad file costs, names of all kinds."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_inputs import write_photograph, write_volume

from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_image, read_labels, write_image
from training_cli.case_work import CaseWork


@pytest.fixture
def run(meduniseg, tiny_model):
    """Segment with the tiny model, by default its task 'organ' of volumes."""

    def go(*arguments, task: str = "organ"):
        return meduniseg("segment", *arguments, "-m", tiny_model, "-t", task, "--precision", "fp32")

    return go


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_input_is_not_overwritten_whatever_ran_before(run, tmp_path, monkeypatch) -> None:
    photo = write_photograph(tmp_path / "photo.png")
    before = photo.read_bytes()
    assert run(photo, "-o", tmp_path, task="disc_cup").returncode == 2
    done = run(photo, "-o", tmp_path, "--format", "tif", task="disc_cup")
    assert done.returncode == 0, done.stderr
    files = json.loads((tmp_path / "photo.json").read_text())["files"]
    assert files == {"photo.tif": sha256_of(tmp_path / "photo.tif")}
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in (photo, tmp_path / "link" / "photo.png", Path("link/photo.png")):
        done = run(path, "-o", tmp_path, task="disc_cup")
        assert done.returncode == 2 and "is an input" in done.stderr, done.stderr
    # another image of that name: the photograph is none of ours
    (tmp_path / "other").mkdir()
    other = write_photograph(tmp_path / "other" / "photo.png", seed=3)
    done = run(other, "-o", tmp_path, task="disc_cup")
    assert done.returncode == 2 and "not a result of this program" in done.stderr
    assert photo.read_bytes() == before


def test_probabilities_overwrite_no_stranger_s_file_and_are_vouched_for(run, tmp_path) -> None:
    volume = write_volume(tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    (out / "scan_probabilities.nii.gz").write_text("mine")
    done = run(volume, "-o", out, "--probabilities")
    assert done.returncode == 2 and "scan_probabilities.nii.gz" in done.stderr
    assert listed(out) == ["scan_probabilities.nii.gz"]
    (out / "scan_probabilities.nii.gz").unlink()
    for _ in range(2):
        assert run(volume, "-o", out, "--probabilities").returncode == 0
    assert sorted(json.loads((out / "scan.json").read_text())["files"]) == ["scan.nii.gz", "scan_probabilities.nii.gz"]


def test_a_result_that_was_edited_outside_is_kept_and_that_stands_in_the_json(run, tmp_path) -> None:
    volume = write_volume(tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    assert run(volume, "-o", out).returncode == 0
    shutil.copy(volume, out / "scan.nii.gz")  # another program saved into it
    done = run(volume, "-o", out, "--json", "--progress", "none")
    assert done.returncode == 0
    (warning,) = json.loads(done.stdout)["warnings"]
    assert (warning["case"], warning["code"]) == ("scan", "result_kept")
    assert (out / "scan.nii.gz").read_bytes() == volume.read_bytes()
    assert run(volume, "-o", out, "--overwrite-edited").returncode == 0
    assert read_labels(out / "scan.nii.gz").array.max() <= 1


def test_two_runs_at_once_end_with_both_results_or_a_refusal(run, tiny_model, tmp_path, process_environment) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    volumes = [write_volume(tmp_path / name / "scan.nii.gz", seed=seed) for seed, name in enumerate("ab")]
    command = [
        sys.executable,
        "-m",
        "training_cli",
        "segment",
        "-t",
        "organ",
        "-m",
        str(tiny_model),
        "--precision",
        "fp32",
        "-o",
    ]
    out = tmp_path / "out"
    results: list[subprocess.CompletedProcess[str]] = []

    def start(volume: Path) -> None:
        results.append(
            subprocess.run(
                [*command, str(out), str(volume)],
                capture_output=True,
                encoding="utf-8",
                env=process_environment,
                check=False,
            )
        )

    threads = [threading.Thread(target=start, args=(volume,)) for volume in volumes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # whichever began later, and however much later: the other's result is of another image
    assert sorted(done.returncode for done in results) == [0, 3], [done.stderr for done in results]
    (refused,) = [done for done in results if done.returncode == 3]
    assert "is the result of another image" in refused.stderr, refused.stderr
    assert all(read_image(volume).sha256[:12] in refused.stderr for volume in volumes), refused.stderr
    assert listed(out) == ["scan.json", "scan.nii.gz"]
    assert json.loads((out / "scan.json").read_text())["files"]["scan.nii.gz"] == sha256_of(out / "scan.nii.gz")


def test_a_second_run_that_finds_a_new_result_refuses(run, tmp_path, monkeypatch) -> None:
    """The same as above, at the worst moment."""
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        write_volume(tmp_path / name / "scan.nii.gz", seed=seed)
    out = tmp_path / "out"
    whole = CaseWork.work
    inner: list[int] = []

    def work(self, ready, events):
        if not inner:
            inner.append(1)
            assert run(tmp_path / "b" / "scan.nii.gz", "-o", out).returncode == 0
        return whole(self, ready, events)

    monkeypatch.setattr(CaseWork, "work", work)
    done = run(tmp_path / "a" / "scan.nii.gz", "-o", out)
    assert done.returncode == 3 and "result of another image" in done.stderr


def test_a_batch_that_begins_while_another_writes_takes_none_of_its_results_for_former_ones(
    tiny_model, tmp_path, process_environment
) -> None:
    """Two real processes, the second begun once the first has written: what is there is the first's to the end."""
    names = [f"case{number}" for number in range(4)]
    sums: dict[str, dict[str, str]] = {"a": {}, "b": {}}
    for seed, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            volume = write_volume(tmp_path / folder / f"{name}.nii.gz", seed=100 * seed + number)
            sums[folder][name] = read_image(volume).sha256
    out = tmp_path / "out"
    command = [sys.executable, "-m", "training_cli", "segment", "-t", "organ", "-m", str(tiny_model)]
    command += ["--precision", "fp32", "--json", "--progress", "none", "-o", str(out)]

    def start(folder: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, str(tmp_path / folder)], text=True, env=process_environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    first = start("a")
    while first.poll() is None and not any(out.glob("*.nii.gz")):
        time.sleep(0.01)
    second = start("b")
    (said_a, _), (said_b, told) = first.communicate(timeout=300), second.communicate(timeout=300)
    done = {
        folder: [one["case"] for one in json.loads(said)["results"]]
        for folder, said in zip("ab", (said_a, said_b), strict=True)
    }
    assert sorted(done["a"] + done["b"]) == names  # each by one of them
    assert names[0] in done["a"] and second.returncode == 3
    for folder, cases in done.items():
        for case in cases:
            record = json.loads((out / f"{case}.json").read_text())
            assert record["image_sha256"] == sums[folder][case]
            assert record["files"][f"{case}.nii.gz"] == sha256_of(out / f"{case}.nii.gz")
    for case in done["a"]:
        assert f"{case}: " in told and sums["a"][case][:12] in told and sums["b"][case][:12] in told
    again = subprocess.run([*command, str(tmp_path / "a")], env=process_environment, capture_output=True, check=False)
    assert again.returncode == (0 if done["a"] == names else 3)  # the same images again: replaced, as ever


def test_only_results_of_the_same_image_are_replaced_whatever_the_options(run, tmp_path) -> None:
    out, volume = tmp_path / "out", write_volume(tmp_path / "scan.nii.gz", seed=1)
    assert run(volume, "-o", out).returncode == 0
    kept = (out / "scan.json").read_bytes(), (out / "scan.nii.gz").read_bytes()
    write_volume(volume, seed=2)
    for options in ((), ("--overwrite-edited",), ("--format", "nrrd"), ("--probabilities",), ("--tta",)):
        done = run(volume, "-o", out, *options)
        assert done.returncode == 3 and "result of another image" in done.stderr, done.stderr
        assert ((out / "scan.json").read_bytes(), (out / "scan.nii.gz").read_bytes()) == kept
    assert listed(out) == ["scan.json", "scan.nii.gz"]
    write_volume(volume, seed=1)
    for options in ((), ("--format", "nrrd"), ("--probabilities",), ("--tta",)):
        assert run(volume, "-o", out, *options).returncode == 0
    write_volume(tmp_path / "scan.nrrd", seed=1)  # the same image in another file
    assert run(tmp_path / "scan.nrrd", "-o", out).returncode == 0


def test_a_former_result_in_another_format_stays_and_is_what_counts_where_it_was_edited(run, tmp_path) -> None:
    out, volume = tmp_path / "out", write_volume(tmp_path / "scan.nii.gz")
    assert run(volume, "-o", out, "--format", "nrrd").returncode == 0
    assert run(volume, "-o", out).returncode == 0
    assert listed(out) == ["scan.json", "scan.nii.gz", "scan.nrrd"]
    assert list(json.loads((out / "scan.json").read_text())["files"]) == ["scan.nii.gz"]
    (out / "scan.nii.gz").write_bytes(b"corrected")
    for options in ((), ("--format", "nrrd")):
        done = run(volume, "-o", out, *options)
        assert done.returncode == 0 and "edited by hand and is kept; --overwrite-edited" in done.stderr
        assert (out / "scan.nii.gz").read_bytes() == b"corrected"
    assert run(volume, "-o", out, "--format", "nrrd", "--overwrite-edited").returncode == 0
    record = json.loads((out / "scan.json").read_text())
    assert list(record["files"]) == ["scan.nrrd"] and list(record["earlier_files"]) == ["scan.nii.gz"]
    assert (out / "scan.nii.gz").read_bytes() == b"corrected"
    assert run(volume, "-o", out, "--format", "nrrd").returncode == 0


@pytest.mark.parametrize("without", [None, 7, ["x"], {}])
def test_a_json_of_before_the_hash_is_read_and_replaced_as_before(run, tmp_path, without) -> None:
    out, volume = tmp_path / "out", write_volume(tmp_path / "scan.nii.gz", seed=1)
    assert run(volume, "-o", out).returncode == 0
    record = json.loads((out / "scan.json").read_text())
    content = {key: value for key, value in record.items() if key != "image_sha256"}
    (out / "scan.json").write_text(json.dumps(content if without is None else {**content, "image_sha256": without}))
    write_volume(volume, seed=2)
    done = run(volume, "-o", out)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "scan.json").read_text())["image_sha256"] == read_image(volume).sha256


@pytest.mark.parametrize("error", [ValueError("absurd"), OSError("broken"), RecursionError(), ZeroDivisionError()])
def test_any_fault_of_reading_costs_its_own_case(run, tmp_path, monkeypatch, error) -> None:
    from meduniseg_core import images

    volumes = [write_volume(tmp_path / f"{name}.nii.gz") for name in "abc"]
    read = images.read_image

    def failing(path, **options):
        if Path(path).name == "b.nii.gz":
            raise error
        return read(path, **options)

    monkeypatch.setattr(images, "read_image", failing)
    done = run(*volumes, "-o", tmp_path / "out", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [result["case"] for result in report["results"]] == ["a", "c"]
    assert [failure["case"] for failure in report["failed"]] == ["b"]
    assert "1 of 3 cases failed: b." in done.stderr and "Traceback" not in done.stderr


def test_faults_of_names_are_said_before_the_work_and_cost_their_own_case(run, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(folder / "good.nii.gz")
    write_volume(folder / ("x" * 251 + ".nii"))
    for name in ("late_0000.nii.gz", "late_0001.nii.gz"):  # one channel: two patients
        write_volume(folder / name)
    done = run(folder, "-o", tmp_path / "out", "--json", "--progress", "lines")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert [result["case"] for result in report["results"]] == ["good", "late_0000", "late_0001"]
    assert [failure["case"] for failure in report["failed"]] == ["x" * 251]
    assert done.stderr.splitlines()[0].startswith("meduniseg: xxx")
    assert listed(tmp_path / "out") == [
        f"{case}.{ending}" for case in ("good", "late_0000", "late_0001") for ending in ("json", "nii.gz")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only names in UTF-8")
def test_a_name_that_is_not_utf8_is_escaped_and_its_pair_is_written(run, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(folder / "plain.nii.gz")
    write_volume(folder / "x.nii.gz").rename(folder / os.fsdecode(b"M\xfcller.nii.gz"))
    for _ in range(2):  # the second replaces the first's
        done = run(folder, "-o", tmp_path / "out", "--json", "--progress", "json")
        assert done.returncode == 0, done.stderr
        done.stdout.encode("ascii")
        result = json.loads(done.stdout)["results"][0]
        assert Path(result["labels"]).is_file() and os.fsencode(result["labels"]).endswith(b"M\xfcller.nii.gz")
        for line in done.stderr.splitlines():
            json.loads(line)
    assert [os.fsencode(path.name) for path in sorted((tmp_path / "out").iterdir(), key=os.fsencode)] == [
        b"M\xfcller.json", b"M\xfcller.nii.gz", b"plain.json", b"plain.nii.gz",
    ]  # fmt: skip
    record = json.loads((tmp_path / "out" / os.fsdecode(b"M\xfcller.json")).read_text("utf-8"))
    assert os.fsencode(record["image"]) == b"M\xfcller.nii.gz"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_an_output_whose_encoding_lacks_the_name_does_not_fail_the_run(
    tiny_model, tmp_path, process_environment, encoding
) -> None:
    volumes = [write_volume(tmp_path / f"{name}.nii.gz") for name in ("Čapek", "名前")]
    command = [sys.executable, "-m", "training_cli", "segment", *map(str, volumes), "-o", str(tmp_path / "out")]
    command += ["-t", "organ", "-m", str(tiny_model), "--precision", "fp32"]
    environment = {**process_environment, "PYTHONIOENCODING": encoding}
    plain = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert plain.returncode == 0, plain.stderr
    assert len(plain.stdout.decode(encoding).splitlines()) == 2
    report = subprocess.run(
        [*command, "--json", "--progress", "json"], capture_output=True, env=environment, check=False
    )
    assert report.returncode == 0, report.stderr
    found = json.loads(report.stdout.decode(encoding))
    assert [result["case"] for result in found["results"]] == ["Čapek", "名前"]
    events = [json.loads(line) for line in report.stderr.decode(encoding).splitlines()]
    assert [event["case"] for event in events if event["event"] == "casedone"] == ["Čapek", "名前"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
def test_a_line_break_in_a_name_forges_no_second_line(run, tmp_path) -> None:
    evil = tmp_path / "a\nmeduniseg: all is well\x1b[2J.nii.gz"
    evil.write_bytes(b"nothing")
    done = run(evil, "-o", tmp_path / "out", "--progress", "none")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "\\n" in done.stderr and "\x1b" not in done.stderr
    good = write_volume(tmp_path / "b\nc[red].nii.gz")
    done = run(good, evil, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert not any(line.startswith("meduniseg: all") for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr and "b\\nc[red]" in done.stderr
    assert done.stdout.count("\n") == 1
    assert listed(tmp_path / "out") == ["b\nc[red].json", "b\nc[red].nii.gz"]


def test_a_file_that_is_all_ending_is_named(run, tmp_path) -> None:
    shutil.copy(write_volume(tmp_path / "x.nii.gz"), tmp_path / ".nii.gz")
    done = run(tmp_path / ".nii.gz", tmp_path / "x.nii.gz", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3 and ".nii.gz" in done.stderr and "Unexpected" not in done.stderr
    assert listed(tmp_path / "out") == ["x.json", "x.nii.gz"]


def test_a_name_of_251_bytes_is_segmented(run, tmp_path) -> None:
    volume = write_volume(tmp_path / ("p." + "n" * 242 + ".nii.gz"))
    done = run(volume, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(listed(tmp_path / "out")) == 2


def test_a_full_disk_is_bad_input_that_names_the_folder_and_ends_the_run(run, tmp_path, monkeypatch) -> None:
    volumes = [write_volume(tmp_path / f"{name}.nii.gz") for name in "abc"]
    written: list[Path] = []

    def full(target: Path, *arguments, **options) -> None:
        written.append(target)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write_bytes(b"whole")

    monkeypatch.setattr("meduniseg_core.images.formats.nifti.write_nifti", full)
    out = tmp_path / "out"
    done = run(*volumes, "-o", out, "--json")
    assert done.returncode == 3
    assert f"{out} cannot be written to (no space left on device)" in done.stderr
    assert "1 of 3 cases failed: b; 1 were not begun." in done.stderr and "Unexpected" not in done.stderr
    assert [result["case"] for result in json.loads(done.stdout)["results"]] == ["a"]
    assert listed(out) == ["a.json", "a.nii.gz"]
    done = run(volumes[2], "-o", out)
    assert done.returncode == 3 and f"{out} cannot be written to" in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel does not close its file
def test_a_disk_that_is_really_full(run, tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("no tmpfs may be mounted here")
    try:
        volume = write_volume(tmp_path / "scan.nii.gz", (40, 64, 64))
        for ending in ("nii", "nrrd", "mha", "npy", "tif"):
            done = run(volume, "-o", disk, "--format", ending, "--probabilities")
            assert done.returncode == 3 and f"{disk} cannot be written to" in done.stderr, done.stderr
            assert listed(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_result_of_the_same_command_is_no_new_input(run, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "scan.nii.gz")
    for _ in range(2):
        done = run(tmp_path / "in", "-o", tmp_path / "in", "--format", "nrrd", "--probabilities")
        assert done.returncode == 0, done.stderr
    assert listed(tmp_path / "in") == ["scan.json", "scan.nii.gz", "scan.nrrd", "scan_probabilities.nrrd"]


def test_an_image_whose_gaps_were_filled_accepts_its_own_result_again(run, tmp_path) -> None:
    image = read_image(write_volume(tmp_path / "plain.nii.gz"))
    marked = np.round(image.array * 100).astype(np.int16)
    marked[..., :8] = -32768
    write_image(image.with_array(marked), tmp_path / "scan.nii.gz")
    for _ in range(2):
        done = run(tmp_path / "scan.nii.gz", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert "nodata_filled" in [finding["code"] for finding in said["warnings"]]
    assert said["image_sha256"] == read_image(tmp_path / "scan.nii.gz").sha256


@pytest.mark.parametrize("progress", ["none", "lines", "json", "bar"])
def test_warnings_stand_in_both_results_however_progress_is_shown(run, tmp_path, progress) -> None:
    image = read_image(write_volume(tmp_path / "plain.nii.gz"))
    write_image(image.with_array(np.full_like(image.array, 7)), tmp_path / "flat.nii.gz")
    done = run(tmp_path / "flat.nii.gz", "-o", tmp_path / "out", "--json", "--progress", progress)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["results"][0]["warnings"]
    assert "intensity_mismatch" in [finding["code"] for finding in said]
    assert json.loads((tmp_path / "out" / "flat.json").read_text())["warnings"] == said
