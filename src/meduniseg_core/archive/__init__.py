"""Runs over many cases: the manifest that proves them, shards, the overlap of reading, network and writing, and several
cases at once."""

from meduniseg_core.archive.manifest import Manifest, ManifestFile, input_record, read_manifest, relative_output
from meduniseg_core.archive.manifest_records import CaseLine, InputRecord, ManifestHeader, TaskRecord, UsedModel
from meduniseg_core.archive.overlap import Stages, overlapped
from meduniseg_core.archive.shards import Shard
from meduniseg_core.archive.side_by_side import Lanes, items_at_once, run_in_lanes
from meduniseg_core.archive.verify import ManifestReport, verify_manifest

__all__ = [
    "CaseLine",
    "InputRecord",
    "Lanes",
    "Manifest",
    "ManifestFile",
    "ManifestHeader",
    "ManifestReport",
    "Shard",
    "Stages",
    "TaskRecord",
    "UsedModel",
    "input_record",
    "items_at_once",
    "overlapped",
    "read_manifest",
    "relative_output",
    "run_in_lanes",
    "verify_manifest",
]
