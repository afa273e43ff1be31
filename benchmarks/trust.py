"""All figures on hostile input, faults and long use in one table: what `SECURITY.md` promises, tried on this machine.

    python benchmarks/trust.py [--fuzz-seconds 60] [--kills 50] [--segmentations 500] [--edits 100] [--only kill soak]

Runs tests and scripts that stand on their own and says of each what it said and whether it held; nothing is tried here
that they do not try. Exit code 1 where a part failed. A part that could not run (a skipped test, a script that is not
there) is no success and is said. ``--fuzz-seconds 1 --kills 2 --segmentations 20 --edits 20`` is a first look; the
whole sizes take much longer.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELD, FAILED, PARTLY, MISSING = "holds", "FAILS", "holds in part", "not run"
PARSERS_SECONDS = "MEDUNISEG_FUZZ_SECONDS"


@dataclass(frozen=True)
class Part:
    """A row: what is tried, at what size, by which arguments of Python."""

    title: str
    size: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def parts(chosen: argparse.Namespace) -> list[Part]:
    """All rows, in the order of the table."""
    kills, fuzz = str(chosen.kills), str(chosen.fuzz_seconds)
    script = "benchmarks/kills.py"
    ledger, outputs = "tests/core/corrections/test_ledger_crashes.py", "tests/core/test_outputs.py"
    segment, registry = "tests/cli/test_segment_safety.py", "tests/core/weights/test_registry.py"
    disk = f"{segment}::test_a_disk_that_is_really_full"
    full = f"{segment}::test_a_full_disk_is_bad_input_that_names_the_folder_and_ends_the_run"
    two = ("-k", "two_runs_at_once or begins_while_another_writes")
    soak = ("benchmarks/soak.py", "--segmentations", str(chosen.segmentations), "--edits", str(chosen.edits))
    return [
        Part("hostile files", "whole corpus", _tests("tests/hostile")),
        Part("fuzzer", f"{fuzz} s a parser", _tests("-m", "slow", "tests/fuzzing"), ((PARSERS_SECONDS, fuzz),)),
        Part("kill: labels", "at each step", _tests(outputs, "-k", "killed or kill_and")),
        Part("kill: batch; two programs", f"{kills}; 5", (script, "--only", "batch", "--kills", kills)),
        Part("kill: ledger; two programs", f"{kills}; 10", (script, "--only", "ledger", "--kills", kills)),
        Part("kill: model install", kills, (script, "--only", "install", "--kills", kills)),
        Part("kill: fine-tuning", kills, (script, "--only", "training", "--kills", kills)),
        Part("kill: napari", kills, (script, "--only", "napari", "--kills", kills)),
        Part("fault: disk full", "64 KiB", _tests(disk)),
        Part("fault: disk full, simulated", "in a batch", _tests(full)),
        Part("fault: read-only, simulated", "5 errors", _tests(f"{outputs}::test_a_folder_that_refuses_is_named")),
        Part("fault: disk full: ledger, models, training", "512 KiB", _tests("tests/core/test_full_disk.py")),
        Part("fault: disk full: autosave", "256 KiB", _tests("tests/plugin/test_autosave_full_disk.py")),
        Part("fault: clock set", "at each offset", _tests("tests/core/adaptation/test_detached.py", "-k", "clock")),
        Part("fault: clock set: edits", "at each offset", _tests("tests/plugin/test_clock.py")),
        Part("fault: two on one ledger", "2 x 12", _tests(f"{ledger}::test_two_processes_at_once_lose_nothing")),
        Part("fault: two on one folder", "2 runs", _tests(segment, *two)),
        Part("fault: two on one model", "2 x 10", _tests(registry, "-k", "two_processes")),
        Part("source: no shell, pickle, connection", "all modules", _tests("tests/project/test_no_hidden_ways.py")),
        Part("soak", f"{chosen.segmentations}, {chosen.edits}", soak),
    ]


def _tests(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)


def carried_out(part: Part) -> tuple[str, str]:
    """The verdict, and what the part said of itself."""
    files = [argument.split("::")[0] for argument in part.arguments if "/" in argument]
    absent = [file for file in files if not (ROOT / file).exists()]
    if absent:
        return MISSING, f"{absent[0]} is not there"
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24"]
    needed = sys.platform == "linux" and "DISPLAY" not in os.environ and shutil.which(screen[0])
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, **dict(part.environment), "PYTHONPATH": path}
    done = subprocess.run(
        [*(screen if needed else ()), sys.executable, *part.arguments], cwd=ROOT, env=environment, text=True,
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["nothing was said"]
    if "pytest" not in part.arguments:
        said = [line for line in lines if "killed" in line or "two programs" in line or "answers;" in line]
        return (HELD if done.returncode == 0 else FAILED), "; ".join(
            said if done.returncode == 0 and said else lines[-1:]
        )
    return pytest_verdict(done.returncode, lines[-1]), lines[-1]


def pytest_verdict(code: int, summary: str) -> str:
    """What pytest's exit code and last line come to: tests that were skipped are no success."""
    if code:
        return FAILED
    passed, skipped = (re.search(rf"(\d+) {word}", summary) for word in ("passed", "skipped"))
    if not passed:
        return MISSING
    return PARTLY if skipped else HELD


def main() -> int:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz-seconds", type=int, default=60, help="for each of the parsers")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--segmentations", type=int, default=500, help="at least 20: what grew is seen in tenths")
    parser.add_argument("--edits", type=int, default=100, help="at least 20")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="rows whose title begins so: hostile fuzzer kill fault source"
    )
    chosen = parser.parse_args()
    rows = [part for part in parts(chosen) if not chosen.only or part.title.startswith(tuple(chosen.only))]
    print("| what | size | verdict | seconds | figures |\n| --- | --- | --- | --- | --- |", flush=True)
    verdicts = []
    for part in rows:
        began = time.monotonic()
        verdict, said = carried_out(part)
        verdicts.append(verdict)
        said = said.replace("|", "/")
        print(f"| {part.title} | {part.size} | {verdict} | {time.monotonic() - began:.0f} | {said} |", flush=True)
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (HELD, PARTLY, MISSING, FAILED))
    print(f"\n{len(rows)} rows: {counts}")
    return 1 if FAILED in verdicts or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
