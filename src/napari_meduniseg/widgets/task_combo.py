"""A list of tasks, of which one is chosen: shown by their titles, known by their names."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from meduniseg_core.preprocessing import TaskPlan


class TaskCombo(QComboBox):
    """The data of an entry is the task's name."""

    def task(self) -> str:
        """The chosen task's name; empty where there is none."""
        return str(self.currentData() or "")

    def choose(self, task: str) -> None:
        """Choose a task; the first one where it is not there."""
        self.setCurrentIndex(max(0, self.findData(task)))

    def fill(self, plans: Mapping[str, TaskPlan]) -> None:
        """List tasks, keeping the chosen one if it is still there. Emits nothing."""
        before = self.task()
        with signals_blocked(self):
            self.clear()
            for task, plan in plans.items():
                self.addItem(plan.shown_title, task)
                about = f"{task}: {', '.join(plan.classes)}"
                self.setItemData(self.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
            self.choose(before)
