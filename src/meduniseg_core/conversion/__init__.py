"""From the official downloads of the paper's data sets to nnU-Net's raw layout (docs/how-to/convert.md)."""

from meduniseg_core.conversion.convert import ConversionResult, convert_dataset
from meduniseg_core.conversion.convert_all import convert_all
from meduniseg_core.conversion.find import recognise
from meduniseg_core.conversion.table import CONVERSIONS, Conversion, find_conversion

__all__ = [
    "CONVERSIONS",
    "Conversion",
    "ConversionResult",
    "convert_all",
    "convert_dataset",
    "find_conversion",
    "recognise",
]
