"""Learning from what was accepted: start, pause, resume, a crash meanwhile; before and after, adopting, using it."""

from __future__ import annotations

from typing import Any

from meduniseg_core.weights import ActiveModels, Registry
from walking.correcting import tick_cup
from walking.images import Images
from walking.user import LONG, User


def start_learning(user: User) -> None:
    """A quick adaptation of the starter, paused once."""
    learn = open_learn(user)
    user.choose(learn.data, "disc_cup")
    user.wait(lambda: not learn.busy and not learn.cases.busy, 60, "the cases")
    user.check(lambda: learn.cases.rowCount() == 2, f"two cases: {user.look(learn.said.text)}")
    user.check(lambda: learn.base.currentText() == "starter", "it starts from the model that was corrected")
    user.choose(learn.budget, "Quick")
    user.shot("learn")
    user.press(learn.start_button)
    view = learn.run_view
    user.wait(lambda: view.isVisible() and view.progress.isVisible() and view.progress.value() > 0, LONG, "progress")
    user.wait(lambda: "left" in view.progress.text() and "Training" in view.progress.text(), LONG, "the time left")
    user.place(view.pause_button)
    user.shot("training")
    user.press(view.pause_button)
    user.wait(lambda: view.pause_button.text() == "Resume" and not view.busy, 60, "the pause")
    user.check(lambda: "Paused" in view.state.text(), f"it says: {user.look(view.state.text)}")
    user.shot("paused")
    user.press(view.pause_button)
    user.wait(lambda: view.pause_button.text() == "Pause" and view.progress.isVisible(), 60, "the training goes on")
    user.shot("resumed")


def finish_learning(user: User) -> None:
    """The training that outlived the viewer is offered again; its best state becomes the model."""
    learn = open_learn(user)
    view, gate = learn.run_view, learn.gate_view
    user.wait(view.isVisible, 30, "the training")
    user.check(lambda: learn.run_box.currentText().startswith("disc_cup"), "Learn offers the training again")
    user.place(view.pause_button)
    user.shot("training_again")
    user.wait(lambda: _points(view.loss) > 0 or gate.isVisible(), LONG, "the first point of the curve")
    user.shot("curve")
    if user.look(lambda: not gate.isVisible() and view.pause_button.text() == "Pause"):
        user.press(view.stop_button)
    user.wait(lambda: gate.isVisible() and gate.table.isVisible(), LONG, "before and after")
    user.pause(1)
    user.place(gate.heading)
    user.shot("before_and_after")
    user.check(lambda: gate.table.rowCount() == 2, f"{user.look(gate.heading.text)}: {user.look(gate.reason.text)}")


def adopt(user: User, images: Images) -> str:
    """Adopt, after a question where the comparison does not recommend it; the model's name."""
    learn = user.panel("Learn")
    gate = learn.gate_view
    recommended = user.look(lambda: gate._report.recommended)
    user.press(gate.adopt_button)
    if not recommended:
        user.say(f"asked: {user.answer('Yes')!r}")
    user.wait(lambda: not gate.busy and "adopted" in gate.said.text(), 60, "the adoption")
    user.place(gate.back_button)
    user.shot("adopted")
    used = ActiveModels().models().get("disc_cup", "")
    user.check(lambda: used in [entry.name for entry in Registry().list()], f"{used} is in use for disc_cup")
    return used


def adopted_is_chosen(user: User, name: str) -> None:
    """Segment has what is in use chosen, which is the adopted model for its task."""
    user.tab("Segment")
    form: Any = user.panel("Segment").form
    user.choose(form.modality_box, "undus")  # which a photograph does not tell
    tick_cup(user, form)
    user.check(lambda: name in form.choice().models.values(), f"Segment uses {name}")


def _points(plot: Any) -> int:
    return sum(len(curve.getData()[0]) for curve in plot.listDataItems() if curve.getData()[0] is not None)


def open_learn(user: User) -> Any:
    """The panel, by the menu."""
    user.menu("Plugins", "MedUniSeg", "Learn")
    learn = user.panel("Learn")
    user.wait(learn.isVisible, 30, "Learn")
    user.wait(lambda: not learn.busy, 60, "the collections")
    return learn
