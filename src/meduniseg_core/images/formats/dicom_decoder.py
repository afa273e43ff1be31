"""The process that decodes compressed DICOM frames. `dicom_codec` starts it; it imports SimpleITK and nothing of ours.

A request is one line of JSON on standard input: a file (``path``) and the bytes that its pixels take (``room``). The
answer is one line of JSON with ``shape`` and ``dtype``, followed by the values, or a line with ``error``.
"""

from __future__ import annotations

import json
import sys

import SimpleITK as sitk  # noqa: N813 - its usual name

_SPARE = 1 << 28


def _limit_memory(room: int) -> None:
    """Where the system knows such limits: what is taken now, and several times the pixels (decoders work in int32)."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        wanted = pages * resource.getpagesize() + _SPARE + 10 * room
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    except (ImportError, OSError, ValueError):
        return


def main() -> None:
    """Answer requests until standard input ends."""
    output = sys.stdout.buffer
    output.write(b"ready\n")
    output.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_memory(int(request["room"]))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(request["path"])
        try:
            array = sitk.GetArrayFromImage(reader.Execute())
        except (RuntimeError, MemoryError) as error:
            output.write(json.dumps({"error": type(error).__name__}).encode() + b"\n")
        else:
            output.write(json.dumps({"shape": array.shape, "dtype": str(array.dtype)}).encode() + b"\n")
            output.write(memoryview(array).cast("B"))
        output.flush()


if __name__ == "__main__":
    main()
