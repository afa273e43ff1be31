"""How a network is run: typed options, shown as a form by magicgui."""

# no postponed annotations: magicgui reads those of the fields as they are
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from magicgui import magicgui
from magicgui.widgets import FileEdit, FunctionGui

from meduniseg_core.model.compute import device_choices

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ComputeOptions:
    """How the network is run. The texts are the form's tooltips.

    Args:
        device: Where the network runs; auto takes a GPU if there is one.
        precision: auto takes what is fastest on this machine.
        overlap: How far neighbouring parts of the image overlap: more is smoother and slower.
        tta: Test-time mirroring: a little better, several times slower.
        probabilities: Add image layers with every class's probability and with the uncertainty.
        server: The address of 'meduniseg serve' on another machine, which then computes; empty: this machine.
        boxes: Add a layer with a box and a score for each lesion (connected piece of a class).
        head: A file of 'meduniseg classify-fit' for this model: the class of the whole image is said, too.
    """

    device: str = "auto"
    precision: Precision = "auto"
    overlap: Annotated[float, {"min": 0.0, "max": 0.9, "step": 0.1}] = 0.5
    tta: bool = False
    probabilities: bool = False
    server: str = ""
    boxes: bool = False
    head: Path | None = None


def compute_form() -> FunctionGui[..., ComputeOptions]:
    """Make the form.

    Returns:
        A widget with a field for each option; calling it gives the options as they stand.
    """
    form: FunctionGui[..., ComputeOptions] = magicgui(
        ComputeOptions,
        call_button=False,
        labels=False,
        device={"choices": device_choices(), "label": "Device"},
        precision={"label": "Precision"},
        overlap={"label": "Overlap"},
        tta={"text": "Average over mirrored images"},
        probabilities={"text": "Probabilities and uncertainty"},
        server={"label": "Server"},
        boxes={"text": "Lesions as boxes"},
        head={"label": "Class head", "filter": "*.json"},
    )
    assert isinstance(form.head, FileEdit)
    form.head.choose_btn.text = "..."
    return form
