"""How many cases a converted data set has beside the paper's (docs/spec.md sections 6 and 7)."""

from __future__ import annotations

from meduniseg_core.conversion.table import Conversion


def deviation(conversion: Conversion, train: int, test: int) -> str | None:
    """Say in one sentence how the counts differ from the paper's.

    Args:
        conversion: The data set.
        train: Training cases.
        test: Test cases.

    Returns:
        The sentence; None where they are the paper's.
    """
    task = conversion.task
    if (train, test) == (task.train, task.test):
        return None
    here, paper = train + test, task.train + task.test
    why = f"; {conversion.paper}" if conversion.paper is not None else ""
    how = f"{abs(here - paper)} {'fewer' if here < paper else 'more'}" if here != paper else "divided otherwise"
    return (
        f"{conversion.name} has {train} training and {test} test cases, in the paper {task.train} and {task.test} "
        f"({how}){why}."
    )
