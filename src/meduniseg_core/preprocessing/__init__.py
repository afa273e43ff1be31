"""Preprocessing: fingerprint, plan, orientation, crop, resampling, normalisation, cache; and the exact way back.

The scheme is nnU-Net's. Arrays are ``(C, D, H, W)``, spacings in mm along ``(D, H, W)``.
"""

from meduniseg_core.preprocessing.cache import preprocess_dataset
from meduniseg_core.preprocessing.cached_cases import CachedCase, CachedDataset
from meduniseg_core.preprocessing.channel_names import files_per_case, is_colour
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset
from meduniseg_core.preprocessing.dataset_check import check_dataset
from meduniseg_core.preprocessing.dataset_doubts import image_doubts
from meduniseg_core.preprocessing.dataset_plan import plan_dataset
from meduniseg_core.preprocessing.fingerprint import Fingerprint, case_seed, extract_fingerprint
from meduniseg_core.preprocessing.label_ids import IGNORED
from meduniseg_core.preprocessing.object_scale import ObjectScale, object_scale
from meduniseg_core.preprocessing.pipeline import preprocess, preprocess_labels
from meduniseg_core.preprocessing.plan import IntensityStatistics, Normalisation, TaskPlan
from meduniseg_core.preprocessing.plan_file import load_plans, save_plans
from meduniseg_core.preprocessing.planning import make_plan
from meduniseg_core.preprocessing.spatial_transform import Preprocessed, SpatialTransformRecord

__all__ = [
    "IGNORED",
    "CachedCase",
    "CachedDataset",
    "Fingerprint",
    "IntensityStatistics",
    "Normalisation",
    "ObjectScale",
    "Preprocessed",
    "RawCase",
    "RawDataset",
    "SpatialTransformRecord",
    "TaskPlan",
    "case_seed",
    "check_dataset",
    "extract_fingerprint",
    "files_per_case",
    "image_doubts",
    "is_colour",
    "load_plans",
    "make_plan",
    "object_scale",
    "plan_dataset",
    "preprocess",
    "preprocess_dataset",
    "preprocess_labels",
    "save_plans",
]
