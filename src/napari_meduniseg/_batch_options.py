"""How Batch segments its cases: typed options, shown as a form by magicgui."""

# no postponed annotations: magicgui reads those of the fields as they are
from dataclasses import dataclass
from typing import Annotated, Any

from magicgui import magicgui
from magicgui.widgets import FunctionGui

from meduniseg_core.inference.quality.assessment import REVIEW_BELOW

REVIEW_FIELD: dict[str, Any] = {
    "min": 0.0,
    "max": 1.0,
    "step": 0.05,
    "label": "Review below",
    "tooltip": "Results of a lower predicted Dice are red, and those that may be lower amber.",
}
"""The field of the Dice below which results should be looked at, here and beside Segment's results."""


@dataclass(frozen=True)
class BatchOptions:
    """What every case can be told. Orientation and scale are not here: their rows come and go with the task.

    Args:
        tta: A little better, several times slower.
        review_below: The Dice below which results should be looked at.
    """

    tta: bool = False
    review_below: Annotated[float, REVIEW_FIELD] = REVIEW_BELOW


def batch_form() -> FunctionGui[..., BatchOptions]:
    """Make the form.

    Returns:
        A widget with a field for each option; calling it gives the options as they stand.
    """
    form: FunctionGui[..., BatchOptions] = magicgui(
        BatchOptions,
        call_button=False,
        labels=False,
        tta={"text": "Average over mirrored images"},
    )
    return form
