"""Chooses where the results of ``segment`` go, and prevents overwriting anything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.former_results import Identity, Standing, identities, standing
from meduniseg_core.outputs import check_name, clear_leftovers
from training_cli.inputs import same_name

if TYPE_CHECKING:
    from meduniseg_core.dicom_objects import DicomFormat
    from meduniseg_core.images import Case, Image


def chosen_ending(ending: str | None) -> str | None:
    """The ending of ``--format`` with its dot, of DICOM objects that of their files; UsageError where labels cannot be
    written so, or where the library for it is missing."""
    from meduniseg_core.dicom_objects.formats import result_ending

    return None if ending is None else result_ending(ending)


@dataclass(frozen=True)
class Targets:
    """The files that a run will write: ``OUT_DIR/CASE.ext`` for one task, ``OUT_DIR/TASK/CASE.ext`` for several.

    A DICOM object holds all tasks of its case, and is ``OUT_DIR/CASE.ext`` in any case.
    ``ending`` is that of ``--format`` (None: NIfTI for volumes, PNG for images of depth 1). ``tables`` names the tables
    of classes that are written beside each label map (`label_tables.TABLES`). ``bids`` has the tasks' modalities where
    the results are laid out as a BIDS derivative. ``boxes``: a list of instances is written beside each label map.
    """

    output: Path
    tasks: Sequence[str]
    ending: str | None = None
    probabilities: bool = False
    inputs: frozenset[Identity] = frozenset()
    tables: tuple[str, ...] = ()
    bids: Mapping[str, str] | None = None
    boxes: bool = False

    def labels(self, case: str, task: str, *, is_2d: bool) -> Path:
        """The label file of a case."""
        if self.bids is not None:
            from meduniseg_core.archive.bids import bids_stem

            folder, stem = bids_stem(case, task, self.bids[task])
            return self.output / folder / f"{stem}{self.ending or '.nii.gz'}"
        return self._folder(task) / f"{case}{self.ending or ('.png' if is_2d else '.nii.gz')}"

    def survey(self, cases: Iterable[Case]) -> dict[tuple[str, str], Standing]:
        """What lies now where each case's result of each task will go.

        UsageError where a result would overwrite an input, another task's result, another result of this run or a file
        that is not ours at all. A former result of the same case and task is replaced: that is what running a command
        again is for.
        """
        from meduniseg_core.provenance import recorded_task

        there_already = next(path for path in (self.output, *self.output.absolute().parents) if path.exists())
        if not there_already.is_dir():
            raise UsageError(f"{there_already} is a file; give a folder for the results.")
        cases = list(cases)
        clear_leftovers(self.output)
        found: dict[tuple[str, str], Standing] = {}
        taken: dict[tuple[str, str], str] = {}
        for task in self.tasks:
            for folder in {self.labels(case.name, task, is_2d=False).parent for case in cases}:
                clear_leftovers(folder)
            for case in cases:
                for name in self._names(case.name, task):
                    other = taken.setdefault((task, same_name(name)), case.name)
                    if other != case.name:
                        raise UsageError(
                            f"The results of {other} and {case.name} would both be called {name}; rename one or leave "
                            "out --probabilities."
                        )
                there = found[case.name, task] = self.standing(case.name, task)
                owner = recorded_task(there.content)
                if owner is not None and not self._own(owner, task):
                    raise UsageError(
                        f"{there.record} belongs to the result of task '{owner}'; choose another folder for task "
                        f"'{task}'."
                    )
        return found

    def standing(self, case: str, task: str) -> Standing:
        """What lies now where a case's result of a task will go, whether it is 2D or not, with all that belongs to a
        former result: in another format, say."""
        from meduniseg_core.provenance import RESULT, provenance_path

        record = provenance_path(self.labels(case, task, is_2d=False))
        return standing(record, self._names(case, task), RESULT, self.inputs, former=True)

    def check_names(self, case: str, *, is_2d: bool) -> None:
        """BadInputError where the disk cannot hold files of the names that the case's result would have."""
        if not case:
            raise BadInputError("This case has no name for its result; give a file or a folder with a name.")
        for task in self.tasks:
            labels = self.labels(case, task, is_2d=is_2d)
            for name in (labels.name, *self._beside(labels)):
                check_name(labels.with_name(name))

    @property
    def together(self) -> bool:
        """Whether all tasks of a case go into one file."""
        return len(self.tasks) > 1 and self._dicom() is not None

    def files_of(self, tasks: Sequence[str]) -> list[list[str]]:
        """These tasks of a case, those of one file together."""
        if self.together:
            return [list(tasks)] if tasks else []
        return [[task] for task in tasks]

    def _own(self, owner: str, task: str) -> bool:
        """Whether a result that is there is a former one of this run's tasks."""
        return set(owner.split(",")) <= set(self.tasks) if self.together else owner == task

    def _folder(self, task: str) -> Path:
        return self.output if len(self.tasks) == 1 or self.together else self.output / task

    def _names(self, case: str, task: str) -> list[str]:
        """All names that the result may have: whether it is 2D is known once the image is read."""
        labels = {self.labels(case, task, is_2d=flat) for flat in (False, True)}
        return [name for path in sorted(labels) for name in (path.name, *self._beside(path)[1:])]

    def _beside(self, labels: Path) -> list[str]:
        from meduniseg_core.images.instances import boxes_name
        from meduniseg_core.images.label_tables import table_name
        from meduniseg_core.provenance import probabilities_name, provenance_path

        dicom = self._dicom()
        return [
            provenance_path(labels).name,
            *([probabilities_name(labels)] if self.probabilities else []),
            *([boxes_name(labels)] if self.boxes else []),
            *(dicom.names(labels)[1:] if dicom is not None else ()),
            *(table_name(labels, kind) for kind in self.tables),
        ]

    def _dicom(self) -> DicomFormat | None:
        from meduniseg_core.dicom_objects import dicom_format_of

        return dicom_format_of(Path(f"case{self.ending or ''}"))

    def check_image(self, image: Image) -> None:
        """BadInputError where the result would be a DICOM object and the image cannot have one, or a picture of a
        volume."""
        from meduniseg_core.images.formats import ENDINGS

        slices = image.geometry.shape[0]
        if slices > 1 and self.ending is not None and ENDINGS[self.ending] == "raster":
            raise BadInputError(f"{image.name} has {slices} slices and a {self.ending[1:]} file holds one; use nii.gz.")
        dicom = self._dicom()
        if dicom is not None:
            dicom.check_image(image)


def targets_of(
    cases: Iterable[Case],
    tasks: Sequence[str],
    output: Path,
    ending: str | None = None,
    probabilities: bool = False,
    tables: Sequence[str] = (),
    bids: Mapping[str, str] | None = None,
    *,
    boxes: bool = False,
) -> Targets:
    """The targets of a run; the files of all ``cases`` are never written over. UsageError where BIDS has no place for
    what was asked for, or one file no place for it."""
    read = identities(path for case in cases for path in case.paths)
    named = (*tables, *(("bids",) if bids is not None else ()))
    targets = Targets(output, tasks, ending, probabilities, read, named, bids, boxes)
    if targets.together and (probabilities or boxes or tables):
        what = "--probabilities" if probabilities else "--boxes" if boxes else "--label-descriptions"
        raise UsageError(f"{what} is for one task at a time where all tasks go into one DICOM object; leave it out.")
    if bids is not None and (probabilities or boxes or ending not in (None, ".nii.gz", ".nii")):
        what = "--probabilities" if probabilities else "--boxes" if boxes else f"--format {str(ending).lstrip('.')}"
        raise UsageError(f"{what} and --layout bids exclude each other: a BIDS segmentation is a NIfTI file.")
    return targets


def with_name_faults(cases: Iterable[Case], targets: Targets) -> list[Case]:
    """The cases; those whose results could not be named on the disk get a fault."""
    return [_with_name_fault(case, targets) for case in cases]


def _with_name_fault(case: Case, targets: Targets) -> Case:
    if case.fault is not None:
        return case
    try:
        targets.check_names(case.name, is_2d=True)  # the shorter names; with the image it is known
    except BadInputError as error:
        return replace(case, fault=error)
    return case
