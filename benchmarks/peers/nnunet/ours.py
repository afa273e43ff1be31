"""This program's side of speed.py: segments a file, one JSON line on stdout. ``python ours.py MODEL OUT IMAGE``."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import torch

from meduniseg_core.images import read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.weights import load_model


def main() -> None:
    """Load the model, then time from the image's file to the labels' file."""
    model, out, case = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    precision, tta = os.environ.get("PRECISION", "fp32"), "--tta" in sys.argv
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    predictor = Predictor(load_model(model), "cpu", precision)
    task = predictor.model.info.tasks[0].task
    began, busy = time.perf_counter(), time.process_time()
    predictor.segment(read_image(case), task, tta=tta)[task].save(out / case.name)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"case": case.name, "seconds": seconds, "cpu": cpu, "peak": peak, "dtype": str(predictor.dtype)}))


if __name__ == "__main__":
    main()
