"""The universal miniature: from raw folders to the table, with two training processes (Gloo on the CPU).

    python experiments/universal_miniature/run.py FOLDER

FOLDER receives small copies of the sixteen sets (six training and two test cases of each, all from the training images:
the held-out ones are for final figures), the cache and the run. Each command's time and what it printed goes to
`results/log.txt`, the table to `results/table.txt`, the training's log to `results/log.jsonl`. Then every command runs
a second time and must find nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from meduniseg_core.files import write_if_changed
from meduniseg_core.preprocessing import RawDataset

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "miniature.toml"
TRAINING, TEST = 6, 2
OF_CASES = ("patient_of", "source_of")  # keys of dataset.json that name cases


def main() -> None:
    """Make the sets, run the commands twice, keep what they said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    data = Path(os.environ["MEDUNISEG_SHARED"]) / "data"
    sets = [small_copy(source, folder / source.name) for source in sorted(data.glob("Dataset1*"))]
    os.environ["MEDUNISEG_MINIATURE"] = str(folder)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with (results / "log.txt").open("w", encoding="utf-8") as log:
        for _ in range(2):
            table = commands(sets, folder, log)
    (results / "table.txt").write_text(table, "utf-8")
    shutil.copyfile(folder / "run" / "log.jsonl", results / "log.jsonl")


def small_copy(source: Path, target: Path) -> Path:
    """A data set of a few of another's training cases, of which the last ones (of other patients) are for tests."""
    cases = [case for case in RawDataset.open(source).cases("Tr") if case.label is not None]
    train = cases[:TRAINING]
    known = {case.patient for case in train}
    test = [case for case in cases if case.patient not in known][-TEST:]
    for split, chosen in (("Tr", train), ("Ts", test)):
        for case in chosen:
            assert case.label is not None
            for kind, paths in (("images", case.images), ("labels", (case.label,))):
                for path in paths:
                    copy = target / f"{kind}{split}" / path.name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    if not copy.exists():
                        shutil.copy2(path, copy)
    description = json.loads((source / "dataset.json").read_text("utf-8"))
    names = {case.case for case in (*train, *test)}
    for key in OF_CASES:
        if key in description:
            description[key] = {case: value for case, value in description[key].items() if case in names}
    write_if_changed(target / "dataset.json", json.dumps({**description, "numTraining": len(train)}))
    return target


def commands(sets: list[Path], folder: Path, log: TextIO) -> str:
    """Run them in order; the table."""
    program = [sys.executable, "-m", "training_cli"]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training_cli"]
    said(log, folder, [*program, "dataset", "check", *map(str, sets), "--progress", "none"])
    said(log, folder, [*two, "train", str(CONFIG), "--only-changed", "--progress", "none"])
    said(log, folder, [*program, "test", str(CONFIG), "--progress", "none"])
    return said(log, folder, [*program, "paper-table", str(folder / "run" / "test"), "--others"])


def said(log: TextIO, folder: Path, command: list[str]) -> str:
    """Run a command; what it printed, which is also written to the log with its time."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    seconds = time.monotonic() - began
    text = (
        f"$ python {' '.join(command[1:])}\n{done.stdout}{done.stderr}({seconds:.0f} s, exit code {done.returncode})\n"
    )
    for path, name in ((folder, "FOLDER"), (HERE, "experiments/universal_miniature")):
        text = text.replace(str(path), name)
    print(text, file=log, flush=True)
    assert done.returncode == 0, text
    return done.stdout


if __name__ == "__main__":
    main()
