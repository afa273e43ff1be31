"""The modules of this folder are imported as ``hostile.corpus`` and so on, also by the process that reads."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
