"""Plans of one or several tasks in one JSON file that a person can read and edit."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import read_small, write_if_changed, write_text
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.structured_text import parse_json
from meduniseg_core.validation import first_fault

# a list over several lines without texts or lists in it; inside JSON texts line breaks are escaped, so they never match
_FLAT_LIST = re.compile(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]")


class _PlanFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["meduniseg-plans"] = "meduniseg-plans"
    version: Literal[1] = 1
    plans: tuple[TaskPlan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> _PlanFile:
        names = [plan.task for plan in self.plans]
        if len(set(names)) != len(names):
            raise ValueError("two plans have the same task name")
        return self


def save_plans(plans: Sequence[TaskPlan], path: Path, *, replace: bool = True) -> None:
    """Write plans to a JSON file, atomically. Lists of numbers stay on one line, so that the file reads well.

    Args:
        plans: Plans with different task names.
        path: The file to write.
        replace: Whether an existing file may be replaced.

    Raises:
        UsageError: The file exists and must not be replaced.
        UnwritableError: The folder or the disk refuses the file.
    """
    document = _PlanFile(plans=tuple(plans)).model_dump(mode="json")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    text = _FLAT_LIST.sub(lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]", text)
    try:
        if replace:
            write_if_changed(path, text + "\n")
        else:
            write_text(path, text + "\n", replace=False)
    except FileExistsError:
        raise UsageError(f"{path} was written by another program just now; give another name.") from None


def load_plans(path: Path) -> tuple[TaskPlan, ...]:
    """Read what `save_plans` wrote (and a person may have edited), or a file with one bare plan.

    Args:
        path: The file.

    Returns:
        The plans.

    Raises:
        BadInputError: The file is unreadable or wrong; the message names the entry at fault.
    """
    path = Path(path)
    try:
        document = parse_json(read_small(path))  # as bytes: Windows editors put a mark of the encoding in front
    except ValueError as error:
        raise BadInputError(f"The plans {path} are not JSON ({error}); correct that place or plan again.") from None
    try:
        if isinstance(document, dict) and "task" in document:
            return (TaskPlan.model_validate(document),)
        return _PlanFile.model_validate(document).plans
    except ValidationError as error:
        raise BadInputError(
            f"The plans {path} do not hold: {first_fault(error)}; correct that entry or plan again."
        ) from None
