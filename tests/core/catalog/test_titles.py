"""Tasks are shown by titles that people know."""

from __future__ import annotations

from meduniseg_core.catalog import TASKS, task_title
from meduniseg_core.weights import load_model


def test_every_task_of_the_starter_has_a_title() -> None:
    titles = {plan.task: plan.shown_title for plan in load_model("starter").info.tasks}
    assert (
        titles["disc_cup"] == "Optic disc and cup" and titles["brain_tumour_t1c"] == "Brain tumour (T1 with contrast)"
    )
    assert all(title != task and "_" not in title for task, title in titles.items())
    assert len(set(titles.values())) == len(titles)


def test_the_papers_titles_are_only_those_of_the_papers_classes() -> None:
    liver = TASKS["liver"]
    assert task_title("liver", "ct", liver.classes) == "Liver and liver tumour"
    assert task_title("liver", "ct", ["liver"]) == "liver" and task_title("liver", "mri", liver.classes) == "liver"


def test_a_task_of_that_name_but_of_another_kind_keeps_its_name() -> None:
    assert task_title("chest", "xray", ("lung", "infection")) == "Lungs and infection"
    assert task_title("chest", "xray", ("heart",)) == "chest" and task_title("gland", "ct", ("gland",)) == "gland"
    assert task_title("my_lesion", "mri", ("lesion",)) == "my_lesion"


def test_what_the_plan_says_itself_goes_first() -> None:
    plan = load_model("starter").info.plan_of("polyp")
    assert plan.model_copy(update={"title": "Colon polyp"}).shown_title == "Colon polyp"
