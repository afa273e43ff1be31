"""Models that other programs trained, taken in as models of this one."""

from meduniseg_core.importers.nnunet import NnunetOptions, import_nnunet

__all__ = ["NnunetOptions", "import_nnunet"]
