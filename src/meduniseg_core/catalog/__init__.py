"""The catalogue: the modalities and the paper's tasks, as data.

A model file carries its own task list, so that no model is limited to the tasks named here.
"""

from meduniseg_core.catalog.entries import Modality, Task
from meduniseg_core.catalog.lookup import DOWNSTREAM, MODALITIES, TASKS, UPSTREAM, find_modality, find_task
from meduniseg_core.catalog.titles import task_title

__all__ = [
    "DOWNSTREAM",
    "MODALITIES",
    "TASKS",
    "UPSTREAM",
    "Modality",
    "Task",
    "find_modality",
    "find_task",
    "task_title",
]
