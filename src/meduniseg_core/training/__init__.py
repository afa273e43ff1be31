"""Universal training over any number of data sets (docs/spec.md section 6)."""

from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.loop import TrainingResult, train
from meduniseg_core.training.rescaling import rescale_like
from meduniseg_core.training.settings import NetworkSettings, PlanSettings
from meduniseg_core.training.start import Start

__all__ = ["NetworkSettings", "PlanSettings", "Start", "TrainingConfig", "TrainingResult", "rescale_like", "train"]
