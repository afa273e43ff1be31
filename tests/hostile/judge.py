"""Read hostile files in a process of its own and say, line by line, what came of each (run by the test).

``python judge.py FOLDER < CASES``: CASES is a JSON list of ``[name, labels]``. A file that takes longer than the limit
ends the process; memory is bounded by the operating system, and the most that a file took is measured.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

SECONDS = 20
BYTES = 1 << 30


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status, 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def main() -> None:
    """Judge all."""
    from meduniseg_core.errors import MedUniSegError
    from meduniseg_core.images import read_image, read_labels

    warnings.simplefilter("ignore")
    folder, cases = Path(sys.argv[1]), json.load(sys.stdin)
    read_all_formats_once(folder)
    if status("VmSize"):
        resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 2 * BYTES, resource.RLIM_INFINITY))
    for name, labels in cases:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        print(json.dumps({"begun": name}), flush=True)
        signal.alarm(SECONDS)
        began = time.monotonic()
        answer: dict[str, object] = {"name": name}
        try:
            image = (read_labels if labels else read_image)(folder / name)
        except MedUniSegError as error:
            answer |= {"verdict": "refused", "text": str(error)}
        except BaseException as error:
            answer |= {"verdict": "escaped", "text": f"{type(error).__name__}: {error}"}
        else:
            answer |= {"verdict": "read", "text": str(image.array.shape)}
        signal.alarm(0)
        answer |= {"seconds": time.monotonic() - began, "peak": status("VmHWM")}
        print(json.dumps(answer), flush=True)


def read_all_formats_once(folder: Path) -> None:
    """Import what readers import late, so that it counts for none of the files."""
    from meduniseg_core.errors import MedUniSegError
    from meduniseg_core.images import read_image

    for path in sorted(folder.glob("*_plain.*")):
        try:
            read_image(path)
        except MedUniSegError:
            continue


if __name__ == "__main__":
    main()
