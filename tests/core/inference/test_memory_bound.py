"""Memory does not grow with the length of the volume, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource, sys
import torch
from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.windows import WindowGrid

class Last:
    def write(self, first, logits):
        self.planes = first + logits.shape[1]

def network(images, outputs):
    for position in outputs:
        yield images.expand(images.shape[0], 14, *images.shape[2:])

depth = int(sys.argv[1])
def run(depth):
    shape = (depth, 128, 128)
    sink = Last()
    image = torch.zeros(1, 1, 1, 1).expand(1, *shape)
    SlidingWindow().run(image, WindowGrid.over(shape, (32, 64, 64), 0.5), network, [Output(14, sink)])
    assert sink.planes == depth

run(40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(depth)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_volume_ten_times_as_long_needs_no_more_memory() -> None:
    process = subprocess.run([sys.executable, "-c", SCRIPT, "400"], capture_output=True, encoding="utf-8", check=True)
    grown = int(process.stdout) / 1024  # KiB on Linux
    if sys.platform == "darwin":
        grown /= 1024
    whole = 14 * 400 * 128 * 128 * 4 / 2**20
    assert whole > 300
    assert grown < 20, f"{grown:.0f} MiB more for a volume whose logits are {whole:.0f} MiB"
