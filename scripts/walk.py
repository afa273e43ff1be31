"""One day of the walk: ``walk.py DAY HOME SHOTS``; ``walk.sh`` gives it a screen, and calls it for each day.

The first day ends with a crash (kill -9) in the middle of a training and with a stroke that nobody saved, the others
with a closed window. Everything is done by the X server's own mouse and keys at the places where the widgets are
on the screen; the program is only looked at. It ends with exit code 1 at the first step that does not come out as the
documentation says.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

DAY, HOME, SHOTS = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
os.environ["MEDUNISEG_HOME"] = str(HOME)
os.environ["NAPARI_CONFIG"] = str(HOME / "napari.yaml")

from walking import correcting, learning, the_rest  # noqa: E402 - after the settings' place
from walking.images import Images  # noqa: E402
from walking.user import User, as_user  # noqa: E402

from meduniseg_core.adaptation.runs import runs  # noqa: E402
from training_cli.viewer import napari as meduniseg_napari  # noqa: E402

IMAGES = Images(HOME)
LAST_STROKE = HOME / "last_stroke.npy"


def first_day(user: User) -> None:
    """Segment, correct, accept; labels of one's own; learn; a crash."""
    correcting.open_images(user, IMAGES)
    right = correcting.segment(user, "right_eye.png")
    edit = correcting.correct(user, right)
    correcting.grow(user, edit, right)
    correcting.save(user, edit, right)
    correcting.accept(user, edit, held_back=False)
    correcting.accepted(user, IMAGES, "disc_cup", IMAGES.right_eye)

    user.tab("Segment")
    again = correcting.segment(user, "right_eye.png")
    the_rest.review(user, right, again)

    user.tab("Segment")
    left = correcting.segment(user, "left_eye.png")
    correcting.correct(user, left)
    correcting.grow(user, edit, left)
    correcting.accept(user, edit, held_back=True)
    correcting.accepted(user, IMAGES, "disc_cup", IMAGES.left_eye)

    own = correcting.own_labels(user, edit, "scan0.nii.gz", "lesion")
    correcting.paint_ball(user, edit, own, "scan0.nii.gz")
    correcting.on_the_grid_of(user, correcting.save(user, edit, own), IMAGES.scan(0))
    correcting.accept(user, edit, held_back=False, task="lesion", modality="MR")
    correcting.accepted(user, IMAGES, "lesion", IMAGES.scan(0))
    other = correcting.own_labels(user, edit, "scan1.nii.gz", "lesion")
    correcting.fill_between(user, edit, other)
    correcting.on_the_grid_of(user, correcting.save(user, edit, other), IMAGES.scan(1))

    learning.start_learning(user)
    the_rest.leave_a_stroke(user, own, LAST_STROKE)
    user.say("the program is killed")
    os.kill(os.getpid(), signal.SIGKILL)


def second_day(user: User) -> None:
    """What the crash left; the training's end; the new model; many images; closing."""
    restored = the_rest.restore(user, LAST_STROKE)
    learning.finish_learning(user)
    name = learning.adopt(user, IMAGES)
    correcting.open_file(user, IMAGES.right_eye)
    learning.adopted_is_chosen(user, name)
    correcting.segment(user, "right_eye.png")
    the_rest.batch(user, IMAGES, name)
    the_rest.models(user, name)
    the_rest.close(user, restored.name)


def third_day(user: User) -> None:
    """The stroke comes back from the bin."""
    the_rest.bring_back(user, LAST_STROKE)
    the_rest.close(user, "scan0")


DAYS: dict[int, tuple[Callable[[User], None], Callable[[], list[Path]]]] = {
    1: (first_day, lambda: [IMAGES.right_eye]),
    2: (second_day, lambda: [IMAGES.scan(0)]),
    3: (third_day, lambda: [IMAGES.scan(0)]),
}


def main() -> None:
    """The program, as ``meduniseg napari IMAGE`` starts it, and its user."""
    walk, images = DAYS[DAY]
    if DAY == 1:
        IMAGES.write()
    user = User(f"{SHOTS.name} day {DAY}", SHOTS, DAY)
    walked = closed = False

    def begin() -> None:
        nonlocal walked
        try:
            user.panel("Segment")
            user.pause(2)
            walk(user)
            walked = True
        except Exception:
            traceback.print_exc()
            if not closed:
                user.shot("trouble")
            for run in runs():
                run.stop()
            os._exit(1)

    thread = as_user(begin)
    meduniseg_napari(images())
    closed = True
    thread.join(60)
    if not walked:
        sys.exit(f"{SHOTS.name}: the window closed by itself")
    user.say("walked")


main()
