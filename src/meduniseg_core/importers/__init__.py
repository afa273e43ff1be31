"""Importers for models that were trained with other programs."""

from meduniseg_core.importers.nnunet import NnunetOptions, import_nnunet

__all__ = ["NnunetOptions", "import_nnunet"]
