"""nnU-Net's side of compare.py, in nnU-Net's environment: predicts files, one JSON line per image on stdout.

``python theirs.py MODEL_FOLDER OUT_DIR IMAGE[,IMAGE...]... [--tta] [--single]``: an argument is one case, its channels
by commas. ``--jobs FILE``: a JSON list of such argument lists. ``--single``: sums of windows in single precision, where
nnU-Net keeps them in half precision.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import sys
import textwrap
import time
from pathlib import Path

os.environ.update({f"nnUNet_{name}": "/nonexistent" for name in ("raw", "preprocessed", "results")})

import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import export_prediction_from_logits


def main() -> None:
    """Predict what the command line names, or every job of a file (lists of such words)."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if sys.argv[1] == "--jobs":
        for job in json.loads(Path(sys.argv[2]).read_text()):
            predict(job)
    else:
        predict(sys.argv[1:])


def predict(arguments: list[str]) -> None:
    """Predict the cases of one model."""
    words = [word for word in arguments if not word.startswith("--")]
    folder, out, cases = words[0], Path(words[1]), words[2:]
    kind = single() if "--single" in arguments else predict_from_raw_data.nnUNetPredictor
    predictor = kind(use_mirroring="--tta" in arguments, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, None)
    settings, plans = predictor.configuration_manager, predictor.plans_manager
    for case in cases:
        began, busy = time.perf_counter(), time.process_time()
        preprocessor = settings.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case(case.split(","), None, plans, settings, predictor.dataset_json)
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
        name = Path(case.split(",")[0]).name.removesuffix(".nii.gz").removesuffix("_0000")
        export_prediction_from_logits(
            logits, properties, settings, plans, predictor.dataset_json, str(out / name), num_threads_torch=1
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"case": name, "seconds": seconds, "cpu": cpu, "peak": peak}), flush=True)


def single() -> type:
    """nnU-Net's predictor with sums in single precision."""
    base = predict_from_raw_data.nnUNetPredictor
    name = "_internal_predict_sliding_window_return_logits"
    source = textwrap.dedent(inspect.getsource(getattr(base, name)))
    source = source.replace("torch.half", "torch.float32")
    source = source.replace("value_scaling_factor=10,", "value_scaling_factor=10, dtype=torch.float32,")
    space = dict(vars(predict_from_raw_data))
    exec(source, space)
    return type("Single", (base,), {name: space[name]})


if __name__ == "__main__":
    main()
