"""Universal training over any number of data sets (SPEC section 6)."""

from meduniseg_core.training.config import NetworkSettings, PlanSettings, TrainingConfig
from meduniseg_core.training.loop import TrainingResult, train

__all__ = ["NetworkSettings", "PlanSettings", "TrainingConfig", "TrainingResult", "train"]
