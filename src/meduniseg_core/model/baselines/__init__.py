"""Universal networks of other papers on MedUniSeg's backbone, for comparisons (docs/spec.md section 13)."""

from meduniseg_core.model.baselines.ccq import CCQ
from meduniseg_core.model.baselines.dodnet import DoDNet
from meduniseg_core.model.baselines.hermes import Hermes
from meduniseg_core.model.baselines.universal_model import UniversalModel

__all__ = ["CCQ", "DoDNet", "Hermes", "UniversalModel"]
