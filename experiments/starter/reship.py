"""Give the shipped model's plans what they lacked when it was trained; its weights stay bit for bit.

    export MEDUNISEG_SHARED=../shared
    python experiments/starter/reship.py

Statistics of the training images and classes (today's training images: those it learned from, and more of their kind),
and the HU window of the abdomen task's pictures. The next starter is trained with both (`sixteen.toml`).
"""

from __future__ import annotations

import sys

from run import HERE, universal

from meduniseg_core.files import write_text
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.weights import load_model, save_model
from meduniseg_core.weights.registry import SHIPPED
from meduniseg_core.weights.statistics_step import with_statistics


def main() -> int:
    model = load_model("starter")
    datasets = [RawDataset.open(folder) for folder in universal().datasets]
    settings = TrainingConfig.from_toml(HERE / "sixteen.toml").plan
    windows = {task: plan.hu_window for task, plan in settings.items() if plan.hu_window is not None}
    info = with_statistics(model.info, datasets)
    tasks = tuple(
        plan.model_copy(update={"hu_window": windows[plan.task]}) if plan.task in windows else plan
        for plan in info.tasks
    )
    path = SHIPPED / "starter.safetensors"
    sha256 = save_model(path, info.model_copy(update={"tasks": tasks}), model.network.state_dict(), "fp16")
    write_text(path.with_name(f"{path.name}.sha256"), f"{sha256}  {path.name}\n")
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
