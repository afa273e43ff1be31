"""A quick task: the classifier that strokes on one image taught, as a small JSON file for the next image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.errors import UsageError
from meduniseg_core.files import write_text
from meduniseg_core.interactive.classifier import VoxelClassifier
from meduniseg_core.interactive.taught import ImageFeatures
from meduniseg_core.interactive.teacher import Teacher
from meduniseg_core.structured_text import json_text
from meduniseg_core.validation import read_as

_MAX_BYTES = 16 << 20
Name = Annotated[str, Field(min_length=1, max_length=200)]


class QuickTask(BaseModel):
    """A classifier and the features that it needs: those of these ``tasks`` of the model with this hash.

    ``classes``: the names of the labels above 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["meduniseg-quick-task-1"] = "meduniseg-quick-task-1"
    name: Name
    classes: dict[Annotated[int, Field(ge=1, le=65535)], Name]
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    tasks: tuple[Name, ...] = Field(max_length=16)
    classifier: VoxelClassifier

    @model_validator(mode="after")
    def _named(self) -> Self:
        unnamed = [label for label in self.classifier.classes if label and label not in self.classes]
        if unnamed:
            raise ValueError(f"label {unnamed[0]} has no name")
        if tuple(part.name for part in self.classifier.parts) != ("image", *self.tasks):
            raise ValueError("the classifier's parts are not the image and the tasks")
        return self

    @classmethod
    def taught(cls, name: str, teacher: Teacher, classes: dict[int, str]) -> QuickTask:
        """Make a quick task of what a teacher has learned.

        Args:
            name: the user's name for it.
            teacher: with strokes, not correcting other labels.
            classes: names of its labels.

        Returns:
            The quick task.

        Raises:
            UsageError: there is too little to learn from, or the strokes correct labels of this image, which other
                images do not have.
        """
        if teacher.base is not None:
            raise UsageError("Strokes that correct a label cannot be kept for other images; start from an empty one.")
        learned, features = teacher.classifier, teacher.features
        names = {label: classes.get(label, f"class {label}") for label in learned.classes if label}
        return cls(
            name=name, classes=names, model_sha256=features.model_sha256, tasks=features.tasks, classifier=learned
        )

    def teacher(self, features: ImageFeatures) -> Teacher:
        """Prepare to label another image.

        Args:
            features: of that image, by this quick task's model and tasks.

        Returns:
            A teacher that has learned already.

        Raises:
            UsageError: the features are of another model or other tasks.
        """
        if self.tasks and features.model_sha256 != self.model_sha256:
            raise UsageError(f"Quick task {self.name} was taught with another model; choose that model.")
        return Teacher.by_task(features, self.classifier)

    def save(self, path: Path) -> None:
        """Write the file, completely or not at all.

        Args:
            path: the file.

        Raises:
            UnwritableError: the file cannot be written.
        """
        write_text(path, json_text(self.model_dump(mode="json")))

    @classmethod
    def load(cls, path: Path) -> QuickTask:
        """Read a file, which a stranger may have written.

        Args:
            path: the file.

        Returns:
            The quick task.

        Raises:
            BadInputError: it cannot be read or is no quick task.
        """
        return read_as(path, cls, "a quick task", "save it again from Teach", _MAX_BYTES)
