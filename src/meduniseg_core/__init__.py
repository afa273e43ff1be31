"""meduniseg_core: one prompt-driven network for 2D and 3D medical image segmentation (MedUniSeg).

The three names a script needs are ``load_model``, ``read_image`` and ``segment``; they are imported on first use, so
that ``import meduniseg_core`` costs neither torch nor the image libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meduniseg_core.version import __version__

__all__ = ["__version__", "load_model", "read_image", "segment"]

if TYPE_CHECKING:
    from meduniseg_core.images import read_image
    from meduniseg_core.inference import segment
    from meduniseg_core.weights import load_model

_HOME = {
    "load_model": "meduniseg_core.weights",
    "read_image": "meduniseg_core.images",
    "segment": "meduniseg_core.inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
