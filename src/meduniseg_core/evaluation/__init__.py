"""Evaluation of segmentations: metrics with a stated policy for empty masks, and reports."""

from meduniseg_core.evaluation.cases import CaseScores, ClassScores, evaluate_case
from meduniseg_core.evaluation.detection import DetectionSummary
from meduniseg_core.evaluation.folders import evaluate_folders
from meduniseg_core.evaluation.gaps import CaseGap, TaskGap, read_reports, task_gaps
from meduniseg_core.evaluation.intervals import BootstrapInterval, bootstrap_interval
from meduniseg_core.evaluation.metrics import (
    EMPTY_MASK_POLICY,
    SurfaceDistances,
    dice,
    hausdorff95,
    surface_dice,
    surface_distances,
    weighted_dice,
)
from meduniseg_core.evaluation.overlay import colour_of, overlay, png_bytes
from meduniseg_core.evaluation.paper_table import PaperTable, paper_tables, strangers
from meduniseg_core.evaluation.report import Report, Summary, summarise
from meduniseg_core.evaluation.writing import write_report

__all__ = [
    "EMPTY_MASK_POLICY",
    "BootstrapInterval",
    "CaseGap",
    "CaseScores",
    "ClassScores",
    "DetectionSummary",
    "PaperTable",
    "Report",
    "Summary",
    "SurfaceDistances",
    "TaskGap",
    "bootstrap_interval",
    "colour_of",
    "dice",
    "evaluate_case",
    "evaluate_folders",
    "hausdorff95",
    "overlay",
    "paper_tables",
    "png_bytes",
    "read_reports",
    "strangers",
    "summarise",
    "surface_dice",
    "surface_distances",
    "task_gaps",
    "weighted_dice",
    "write_report",
]
