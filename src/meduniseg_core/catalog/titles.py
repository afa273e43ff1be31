"""What people call a task, where its model does not say it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.catalog.lookup import TASKS, load_tables


class Title(BaseModel):
    """An entry of titles.toml: it holds for a task of this name and modality, and of these classes where they are
    given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    modality: str
    title: str = Field(min_length=1)
    classes: tuple[str, ...] | None = None


_TITLES = {(one.task, one.modality): one for one in map(Title.model_validate, load_tables("titles.toml", "title"))}


def task_title(task: str, modality: str, classes: Sequence[str]) -> str:
    """Name a task as people do.

    A user's task may have the name of another one, so modality and classes must fit, too.

    Args:
        task: the task's name, such as ``disc_cup``.
        modality: the modality's name.
        classes: the foreground classes, in the order of their labels.

    Returns:
        Its title, such as "Optic disc and cup"; the name itself where no title is known.
    """
    paper = TASKS.get(task)
    if paper is not None and (paper.modality, paper.classes) == (modality, tuple(classes)):
        return paper.title
    common = _TITLES.get((task, modality))
    if common is not None and common.classes in (None, tuple(classes)):
        return common.title
    return task
