"""Whether an image is what a task expects, asked before anything is computed: one place for every front end."""

from __future__ import annotations

from meduniseg_core.images import Finding, Image
from meduniseg_core.images.appearance import mismatch
from meduniseg_core.preprocessing import TaskPlan


def check_image(image: Image, plan: TaskPlan) -> tuple[Finding, ...]:
    """What speaks against segmenting ``image`` (C, D, H, W) by the task of ``plan``; empty where nothing does."""
    text = mismatch(image, plan.modality)
    return () if text is None else (Finding("intensity_mismatch", text),)
