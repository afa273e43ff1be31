"""Review, Batch, Models; what a crash left, and what lies in the bin; closing the window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication, QTextBrowser

from napari_meduniseg import _autosave
from walking.correcting import home
from walking.images import Images
from walking.user import LONG, TroubleError, User


def review(user: User, corrected: Any, again: Any) -> None:
    """Corrected labels against what the model says."""
    user.menu("Plugins", "MedUniSeg", "Review")
    panel = user.panel("Review")
    user.wait(panel.isVisible, 30, "Review")
    user.choose(panel.first, again.name)
    user.choose(panel.second, corrected.name)
    user.press(panel.compare_button)
    user.wait(lambda: not panel.busy and panel.table.rowCount() == 2, 60, "the comparison")
    dice = user.look(lambda: [float(panel.table.item(row, 1).text()) for row in range(2)])
    user.check(lambda: 0.3 < min(dice) < 1, f"Dice {dice}: the rim has grown, so it is not the same")
    before = user.look(lambda: len(user.viewer.layers))
    user.press(panel.difference_button)
    user.wait(lambda: len(user.viewer.layers) > before, 30, "the differences")
    differ = user.look(lambda: int(np.count_nonzero(user.viewer.layers[-1].data)))
    expected = user.look(lambda: int((corrected.data != again.data).sum()))
    user.check(lambda: differ == expected, f"{differ} pixels differ")
    user.shot("review")
    user.press(panel.export_button)
    path = user.answer_file(Path(_home(user)) / "comparison.csv")
    user.wait(path.is_file, 30, "the table")


def _home(user: User) -> str:
    return str(_autosave.folder().parent)


def leave_a_stroke(user: User, own: Any, keep: Path) -> None:
    """Paint, save nothing, and wait until it is kept; ``keep`` gets the labels, to compare with."""
    user.tab("Edit")
    user.select(own)
    user.check(lambda: user.panel("Edit").layer_box.currentText() == own.name, "Edit follows the layer list")
    home(user)
    user.zoom_in(own)
    user.click(user.look(lambda: user.controls(own).paint_button))
    before = user.look(lambda: np.array(own.data))
    user.drag([(0.42, 0.4), (0.46, 0.42)])
    user.settled(lambda: int((own.data != before).sum()))
    user.check(lambda: (own.data != before).any(), "a stroke more")
    painted = user.look(lambda: np.array(own.data))
    np.save(keep, painted)
    kept = _autosave._path(own)  # it may have been kept while the stroke settled: what counts is what it holds
    user.wait(lambda: kept.is_file() and np.array_equal(_autosave._labels(kept), painted), 90, "the kept edits")
    user.pause(1)
    user.shot("before_the_crash")


def restore(user: User, keep: Path) -> Any:
    """What the crash left is offered by the first panel."""
    panel = user.panel("Segment")
    from napari_meduniseg.widgets.recovery import Recovery

    offer = user.look(lambda: panel.findChild(Recovery))
    user.wait(offer.restore_button.isVisible, 30, "the offer")
    user.shot("offer")
    user.choose(offer.box, "scan0")
    before = user.look(lambda: len(user.viewer.layers))
    user.press(offer.restore_button)
    user.wait(lambda: len(user.viewer.layers) > before, 30, "the restored labels")
    restored = user.look(lambda: user.viewer.layers[-1])
    user.check(lambda: (restored.data == np.load(keep)).all(), f"'{restored.name}' has the last stroke")
    scan = user.layer("scan0.nii.gz")
    user.check(
        lambda: np.allclose(restored.scale, scan.scale) and np.allclose(restored.translate, scan.translate),
        "and lies on its scan",
    )
    user.shot("restored")
    return restored


def batch(user: User, images: Images, model: str) -> None:
    """A folder with a broken file."""
    user.menu("Plugins", "MedUniSeg", "Batch")
    panel = user.panel("Batch")
    user.wait(panel.isVisible, 30, "Batch")
    results = images.home / "results"
    user.enter(panel.folder, str(images.batch))
    user.enter(panel.output, str(results))
    user.choose(panel.model, model)
    user.choose(panel.task, "Optic disc and cup")
    user.press(panel.run_button)
    user.wait(lambda: panel.busy, 10, "the batch")
    user.wait(lambda: not panel.busy, LONG, "the end of the batch")
    lines = user.look(panel.queue.lines)
    user.check(lambda: sum(line.startswith("✓") for line in lines) == 2, f"two cases are done: {lines}")
    user.check(lambda: any(line.startswith("✗") and "eye_half" in line for line in lines), "the broken one is named")
    user.check(lambda: "failed" in panel.said.text(), f"it says: {user.look(panel.said.text)}")
    user.shot("batch")
    row = user.look(lambda: next(n for n in range(panel.queue.rowCount()) if panel.queue.item(n, 0).text()[0] == "✓"))
    before = user.look(lambda: len(user.viewer.layers))
    user.click(panel.queue.viewport(), lambda: panel.queue.visualItemRect(panel.queue.item(row, 0)).center(), times=2)
    user.wait(lambda: len(user.viewer.layers) == before + 2, 30, "image and labels of the result")
    user.shot("result_of_the_batch")


def models(user: User, name: str) -> None:
    """What the adopted model says about itself; it is whole."""
    user.menu("Plugins", "MedUniSeg", "Models")
    panel = user.panel("Models")
    user.wait(panel.isVisible, 30, "Models")
    item = user.look(
        lambda: next(panel.list.item(n) for n in range(panel.list.count()) if name in panel.list.item(n).text())
    )
    user.click(panel.list.viewport(), lambda: panel.list.visualItemRect(item).center())
    details: QTextBrowser = panel.details
    user.check(lambda: "Adopted for: disc_cup" in details.toPlainText(), "Models tells what it is adopted for")
    user.press(panel.verify_button)
    user.wait(lambda: not panel.busy and "is whole" in panel.said.text(), 60, "the verification")
    user.shot("models")


def close(user: User, unsaved: str) -> None:
    """The window manager's way; the question names what is not saved."""
    for _ in range(2):  # a menu that has just closed may still hold the keyboard: as a user would, once more
        user.act("windowfocus", user.look(lambda: int(user.window.winId())))
        user.keys("alt+F4")
        try:
            user.wait(lambda: QApplication.activeModalWidget() is not None, 10, "the question")
            break
        except TroubleError:
            continue
    asked = user.answer("Close")
    if unsaved not in asked:
        raise TroubleError(f"closing does not name '{unsaved}': {asked!r}")
    user.say(f"ok   closing asks: {asked!r}")


def bring_back(user: User, keep: Path) -> None:
    """What was not saved lies in the bin."""
    user.menu("Plugins", "MedUniSeg", "Edit")
    recovery = user.panel("Edit").recovery
    user.wait(recovery.bin_button.isVisible, 30, "Discarded edits")
    before = user.look(lambda: len(user.viewer.layers))
    user.press(recovery.bin_button)
    user.choose_in(recovery._menu, "Bring back")
    user.wait(lambda: len(user.viewer.layers) > before, 30, "the labels")
    layer = user.look(lambda: user.viewer.layers[-1])
    user.check(lambda: (layer.data == np.load(keep)).all(), f"'{layer.name}' came back from the bin")
    user.shot("brought_back")
