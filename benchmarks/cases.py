"""The situations of users (``shared/cases``) once more: the command of each `case.md`, what is right, and what came.

    MEDUNISEG_SHARED=../shared python benchmarks/cases.py [--only 03 05]

Every command runs in a process of its own, as the user's did; a `repro.py` is run as it lies there. The values are also
held by tests (`tests/real`). Exit code 1 where one differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meduniseg_core.images import read_image, read_labels

ROOT = Path(__file__).resolve().parent.parent
HEAD = ("--task", "head_neck_organs")


@dataclass(frozen=True)
class Tried:
    """A row: what is right, what came, and whether that is right."""

    right: str
    came: str
    holds: bool


class Desk:
    """A user with an empty folder of results, and the cases' inputs."""

    def __init__(self, folder: Path, cases: Path) -> None:
        self.folder, self.cases = folder, cases
        (folder / "bin").mkdir(parents=True)
        command = folder / "bin" / "meduniseg"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m training_cli "$@"\n')
        command.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "MEDUNISEG_HOME": str(folder / "home"),
            "NO_COLOR": "1",
        }

    def case(self, number: str) -> Path:
        """The folder of a case."""
        (found,) = self.cases.glob(f"{number}-*")
        return found

    def run(self, *words: object, code: int | None = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """``meduniseg WORDS``; a wrong exit code is said with what was printed."""
        command = [sys.executable, "-m", "training_cli", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **variables}, capture_output=True, text=True,
            errors="backslashreplace", check=False,
        )  # fmt: skip
        if code is not None and done.returncode != code:
            raise AssertionError(f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return done

    def repro(self, number: str) -> tuple[Path, str]:
        """Where the case's own script wrote, and what it printed."""
        target = self.folder / number
        target.mkdir()
        command = [sys.executable, str(self.case(number) / "repro.py"), str(target)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return target, done.stdout + done.stderr

    def warnings(self, record: Path) -> list[str]:
        """The codes of the findings in a result's JSON."""
        return [entry["code"] for entry in json.loads((self.folder / record).read_text())["warnings"]]


def new_labels_on_oblique(desk: Desk) -> Tried:
    _, said = desk.repro("01")
    apart = re.search(r"apart ([\d.]+) mm", said)
    return Tried(
        "labels 0.0 mm from the object", apart[0] if apart else said[-200:], bool(apart and float(apart[1]) < 0.1)
    )


def no_orientation_codes(desk: Desk) -> Tried:
    target, _ = desk.repro("02")
    alone = not (target / "r" / "no_codes.nii.gz").exists()
    desk.run("segment", target / "no_codes.nii.gz", "-o", "02ras", *HEAD, "--assume-orientation", "RAS")
    with_codes = read_labels(target / "r" / "with_codes.nii.gz").array
    same = np.array_equal(with_codes, read_labels(desk.folder / "02ras" / "no_codes.nii.gz").array)
    came = f"{'no' if alone else 'a'} label map; with --assume-orientation RAS {'as' if same else 'NOT as'} with codes"
    return Tried("refused for sided classes; right once it is said", came, alone and same)


def exif_photo(desk: Desk) -> Tried:
    folder = desk.case("03")
    photos = [folder / f"{name}.jpg" for name in ("phone_turned_90", "phone_turned_180", "upright")]
    desk.run("segment", *photos, "-o", "03", "--task", "skin_lesion")
    sizes = [read_labels(desk.folder / "03" / f"{photo.stem}.png").array.shape[2:] for photo in photos]
    mask = folder / "mask_drawn_on_the_displayed_photo.png"
    add = ("corrections", "add", "ledger", photos[1], "--labels", mask, "--task", "skin_lesion")
    desk.run(*add, "--modality", "dermoscopy", "--classes", "lesion", code=3)
    pair = ("evaluate", "03/phone_turned_180.png", mask)
    desk.run(*pair, code=3)
    turned, upright = (
        json.loads(desk.run("evaluate", f"03/{name}.png", mask, "--drawn-on", "shown", "--json").stdout)["dice"]["mean"]
        for name in ("phone_turned_180", "upright")
    )
    told = "orientation_applied" in desk.warnings(Path("03/phone_turned_90.json"))
    shown = read_image(photos[2]).array.astype(float)  # the others were compressed anew
    apart = max(float(np.abs(read_image(photo).array - shown).mean()) for photo in photos[:2])
    return Tried(
        "said; read as the upright one; no pair taken misaligned (3, 3); compared once it is said",
        f"{'said' if told else 'NOT said'}; {apart:.1f} grey levels apart; add and evaluate refused; "
        f"Dice {turned:.2f}, upright's {upright:.2f}; labels {sizes}",
        told and apart < 10 and turned > 0.5,
    )


def ct_not_hu(desk: Desk) -> Tried:
    files = [desk.case("04") / f"{name}.nii.gz" for name in ("ct_plus_1024", "ct_0_to_1")]
    desk.run("segment", *files, "-o", "04", *HEAD)
    found = [
        desk.warnings(Path("04") / f"{name}.json").count("intensity_mismatch") for name in ("ct_plus_1024", "ct_0_to_1")
    ]
    return Tried("a warning for both, in the JSON", f"intensity_mismatch {found}", found == [1, 1])


def field_of_view(desk: Desk) -> Tried:
    target, said = desk.repro("05")
    names = ("tile_1x1", "tile_2x2", "tile_4x4", "crop_third")
    warned = ["field_of_view" in desk.warnings(target / "r" / f"{name}.json") for name in names]
    dice = re.findall(r"Dice ([\d.]+)", said)
    for name, scale in (("tile_4x4", 5.3), ("crop_third", 0.44)):
        desk.run("segment", target / f"{name}.png", "-o", target / "scaled", "--task", "gland", "--scale", scale)
    share = [float((read_labels(target / folder / "tile_4x4.png").array > 0).mean()) for folder in ("r", "scaled")]
    return Tried(
        "2x2, 4x4 and a ninth warned, the field as in training not",
        f"warned {warned}; Dice {', '.join(dice)}; 4x4 with its scale {share[1]:.2f} gland (without {share[0]:.2f})",
        warned == [False, True, True, True],
    )


def other_objects(desk: Desk) -> Tried:
    shapes = []
    for beside in ("seg", "rtdose", "screenshot"):
        source = desk.case("06") / f"ct_and_{beside}"
        desk.run("segment", source, "-o", "06", *HEAD, "--series", "1.2.3.4.5")
        desk.run("segment", source, "-o", "06again", *HEAD)
        shapes.append(read_labels(desk.folder / "06" / f"{source.name}.nii.gz").geometry.shape)
    return Tried("the CT of 12 slices, with and without --series", f"{shapes}", all(shape[0] == 12 for shape in shapes))


def orientation_noise(desk: Desk) -> Tried:
    desk.run("segment", desk.case("07") / "series", "-o", "07", *HEAD)
    geometry = read_labels(desk.folder / "07" / "series.nii.gz").geometry
    came = f"{geometry.shape[0]} slices, {geometry.spacing[0]:.3f} mm"
    return Tried("one series, 12 slices, 5 mm", came, came == "12 slices, 5.000 mm")


def radiographs(desk: Desk) -> Tried:
    return _cases(desk, desk.case("09") / "xrays", ("--task", "chest"), ["patient0", "patient1", "patient2"])


def numbered_like_channels(desk: Desk) -> Tried:
    folder = desk.case("10")
    amos = _names(desk, folder / "amos", HEAD)
    pat = _names(desk, folder / "pat", HEAD)
    _names(desk, folder / "pat", ("--task", "sarcoma"))
    doubt = "channel_pair_doubtful" in desk.warnings(Path("pat-sarcoma/pat.json"))
    return Tried(
        "amos: 3 cases; pat: 2 for one channel; CT+PET of two CTs warned",
        f"{len(amos)} ({amos[0]}...); {len(pat)} ({', '.join(pat)}); {'warned' if doubt else 'NOT warned'}",
        (len(amos), len(pat), doubt) == (3, 2, True),
    )


def name_not_utf8(desk: Desk) -> Tried:
    (plain,) = (desk.case("11") / "in").glob("*.nii.gz")
    (desk.folder / "11").mkdir()
    shutil.copy(plain, os.fsencode(desk.folder / "11") + b"/M\xfcller.nii.gz")
    for _ in range(2):
        desk.run("segment", "11", "-o", "11out", *HEAD)
    written = sorted(os.fsencode(path.name) for path in (desk.folder / "11out").iterdir())
    return Tried(
        "exit 0 twice, labels and JSON", f"exit 0, 0; {written}", written == [b"M\xfcller.json", b"M\xfcller.nii.gz"]
    )


def output_encoding(desk: Desk) -> Tried:
    (scan,) = desk.case("12").glob("*.nii.gz")
    report = json.loads(desk.run("segment", scan, "-o", "12", *HEAD, "--json", PYTHONIOENCODING="cp1252").stdout)
    desk.run("segment", scan, "-o", "12", *HEAD, PYTHONIOENCODING="ascii")
    name = report["results"][0]["case"]
    return Tried("exit 0, JSON on stdout", f"exit 0, JSON of case {name!a}", name == scan.name.removesuffix(".nii.gz"))


def masks_0_255(desk: Desk) -> Tried:
    folder = desk.case("14")
    pair = ("evaluate", folder / "predictions", folder / "references", "--json")
    reports = [json.loads(desk.run(*pair, *extra).stdout) for extra in ((), ("--classes", "lesion"))]
    came = [(report["dice"]["mean"], report["warnings"][0]["code"]) for report in reports]
    return Tried("matched and said, or refused; never 0.0000", f"{came}", came == [(1.0, "labels_matched")] * 2)


def other_axis_order(desk: Desk) -> Tried:
    folder = desk.case("15")
    done = desk.run("evaluate", folder / "prediction.nii.gz", folder / "reference_ras.nii.gz", "--json")
    dice = json.loads(done.stdout)["dice"]["mean"]
    return Tried("compared: Dice 1", f"Dice {dice}", dice == 1.0)


def cropped_seg_nrrd(desk: Desk) -> Tried:
    folder = desk.case("17")
    add = ("corrections", "add", "bones", folder / "ct.nrrd", "--labels", folder / "bone.seg.nrrd", "--task", "x")
    desk.run(*add, "--modality", "ct", "--classes", "bone")
    (stored,) = (desk.folder / "bones" / "labelsTr").glob("*")
    labels, part = read_labels(stored).array, read_labels(folder / "bone.seg.nrrd").array
    placed = np.array_equal(labels[:, 3:8, 10:20, 8:20], part) and labels.sum() == part.sum()
    came = "at Slicer's offset (8, 10, 3)" if placed else "elsewhere"
    return Tried("padded onto the image's grid, exactly", came, placed)


def multi_frame(desk: Desk) -> Tried:
    folder = desk.case("19")
    desk.run("segment", folder / "enhanced_ct.dcm", "-o", "19", *HEAD)
    desk.run("segment", folder / "us_cine.dcm", "-o", "19", "--task", "breast_lesion")
    image = read_image(folder / "enhanced_ct.dcm")
    frames = read_labels(desk.folder / "19" / "us_cine.nii.gz").geometry.shape[0]
    came = f"{image.geometry.shape}, {image.geometry.spacing} mm; cine of {frames} frames"
    return Tried(
        "12x32x28 of 5x4x4 mm; the cine frame by frame", came, image.geometry.spacing == (5.0, 4.0, 4.0) and frames == 3
    )


def subfolders(desk: Desk) -> Tried:
    disc = _names(desk, desk.case("20") / "cd", HEAD)
    cohort = _names(desk, desk.case("20") / "cohort", HEAD)
    return Tried("cd: one case; cohort: P001, P002", f"{disc}; {cohort}", (disc, cohort) == (["cd"], ["P001", "P002"]))


def dataset_json(desk: Desk) -> Tried:
    came = []
    for name in ("Dataset902_Listed", "Dataset903_Regions", "Dataset904_Ignore", "Dataset905_Bom"):
        done = desk.run("dataset", "check", desk.case("21") / name, code=None)
        came.append(f"{name.split('_')[1]} {done.returncode}")
    right = ["Listed 0", "Regions 3", "Ignore 0", "Bom 0"]
    return Tried("listed, ignore and BOM fit; regions refused with the ids to name", ", ".join(came), came == right)


def variable_slice_distance(desk: Desk) -> Tried:
    said = desk.run("segment", desk.case("23") / "head_ct", "-o", "23", *HEAD, code=3).stderr.strip()
    return Tried(
        "refused for its two slice distances, nothing called missing", said[:90] + "...", "two slice distances" in said
    )


def hostile(desk: Desk) -> Tried:
    files = sorted(path for path in (desk.cases / "hostile").iterdir() if path.suffix != ".md")
    done = desk.run("segment", *files, "-o", "hostile", *HEAD, code=3)
    sentences = [line for line in done.stderr.splitlines() if any(f": {path.name}" in line for path in files)]
    came = f"exit 3, {len(sentences)} of {len(files)} named, no result"
    return Tried(
        "one sentence each, exit 3", came, len(sentences) == len(files) and not (desk.folder / "hostile").exists()
    )


def _names(desk: Desk, source: Path, words: Sequence[str]) -> list[str]:
    output = f"{source.name}-{words[-1]}"
    report = json.loads(desk.run("segment", source, "-o", output, *words, "--json").stdout)
    return [result["case"] for result in report["results"]]


def _cases(desk: Desk, source: Path, words: Sequence[str], right: list[str]) -> Tried:
    names = _names(desk, source, words)
    return Tried(f"cases {', '.join(right)}", ", ".join(names), names == right)


CASES: dict[str, Callable[[Desk], Tried]] = {
    "01": new_labels_on_oblique,
    "02": no_orientation_codes,
    "03": exif_photo,
    "04": ct_not_hu,
    "05": field_of_view,
    "06": other_objects,
    "07": orientation_noise,
    "09": radiographs,
    "10": numbered_like_channels,
    "11": name_not_utf8,
    "12": output_encoding,
    "14": masks_0_255,
    "15": other_axis_order,
    "17": cropped_seg_nrrd,
    "19": multi_frame,
    "20": subfolders,
    "21": dataset_json,
    "23": variable_slice_distance,
    "hostile": hostile,
}


def main() -> int:
    """Try the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    chosen = parser.parse_args()
    shared = Path(os.environ.get("MEDUNISEG_SHARED", ROOT.parent / "shared")).resolve()
    print("| case | right | came | verdict |\n| --- | --- | --- | --- |", flush=True)
    failed = 0
    for number in chosen.only:
        with tempfile.TemporaryDirectory() as folder:
            try:
                tried = CASES[number](Desk(Path(folder), shared / "cases"))
            except (AssertionError, KeyError, OSError, ValueError) as error:
                tried = Tried("-", f"{type(error).__name__}: {error}", False)
        failed += not tried.holds
        cells = (
            number,
            tried.right,
            tried.came.replace("|", "/").replace("\n", " "),
            "holds" if tried.holds else "FAILS",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{len(chosen.only)} cases, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
