"""How a model is trained: typed options, shown as a form by magicgui."""

# no postponed annotations: magicgui reads those of the fields as they are
from dataclasses import dataclass

from magicgui import magicgui
from magicgui.widgets import FunctionGui

from meduniseg_core.model.compute import device_choices
from meduniseg_core.weights import Registry

METHODS = (("Fine-tune: a model of its own", "finetune"), ("Refine: a small pack beside the model", "refine"))


@dataclass(frozen=True)
class Budget:
    """How long to train; ``quick`` adapts to the corrected places of a few cases."""

    title: str
    iterations: int
    quick: bool = False


BUDGETS = (
    Budget("Quick adapt: 300 steps", 300, quick=True),
    Budget("A first look: 100 steps", 100, quick=True),
    Budget("Short: 1,000 steps", 1000),
    Budget("Long: 5,000 steps", 5000),
    Budget("The paper's: 25,000 steps", 25_000),
)


@dataclass(frozen=True)
class LearnOptions:
    """How a model is trained. The texts are the form's tooltips.

    Args:
        method: Fine-tuning makes a model for this task alone. Refining keeps the model and adds a pack of a few MB for
            a task that it knows; its other tasks stay exactly as they are.
        base: The model to start from; it is not changed.
        name: What the new model will be called.
        budget: How long to train; it can be paused and stopped at any time.
        device: Where to train; auto takes a GPU if there is one.
    """

    method: str  # one of METHODS; of a Literal magicgui would show the values, not their titles
    base: str
    name: str = ""
    budget: Budget = BUDGETS[0]
    device: str = "auto"


def learn_form() -> FunctionGui[..., LearnOptions]:
    """Make the form.

    Returns:
        A widget with a field for each option; calling it gives the options as they stand.
    """
    form: FunctionGui[..., LearnOptions] = magicgui(
        LearnOptions,
        call_button=False,
        labels=False,
        method={"choices": METHODS, "label": "Method"},
        base={"choices": _models, "label": "Start from"},
        name={"label": "Name"},
        budget={"choices": [(budget.title, budget) for budget in BUDGETS], "label": "Budget"},
        device={"choices": device_choices(), "label": "Device"},
    )
    return form


def _models(_field: object) -> list[str]:
    return [entry.name for entry in Registry().list() if entry.info is not None]
