"""What a fine-tuned network takes over from a universal one (docs/spec.md section 7)."""

from __future__ import annotations

from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.model import MedUniSeg
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.training import Start, rescale_like
from meduniseg_core.weights import Model, ModelInfo

PROMPTS = "modal_map.prompts"


class Downstream(Start):
    """Starts a training from ``base``: encoder, decoder and modal branch are taken over (see :func:`rescale_like` for
    their scale), FUSE is not; the modal prompt is frozen, MMap's linear layer learns. The head is new, unless the base
    has a task of the same classes and channels: then that task's head is kept.

    The stem is that of the base's most similar task, first by modality; where that has another number of channels its
    stem is spread over the channels. (A stem of the right number may never have learnt, or knows PET and not MRI.)

    One modal prompt is left, that of the data's modality. UsageError where the base has no prompt for it (``modality``
    names another to start from).
    """

    def __init__(self, base: Model, modality: str | None = None) -> None:
        self._base, self._modality = base, modality

    @property
    def identity(self) -> str:
        """The base's file and the prompt that was asked for."""
        return f"downstream of {self._base.sha256}, modality {self._modality or 'of the data'}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """The downstream network for the run's only task: no FUSE, one modal prompt, the base's features."""
        plan = only_task(info)
        base = self._base.info
        prompt = self._prompt(plan)
        config = downstream_config(base.universal_config, len(plan.channels), plan.class_count)
        provenance = {
            **info.provenance,
            "kind": "fine-tuned",
            "base": base.name,
            "base_sha256": self._base.sha256,
            "stem_of_channels": self._stem(plan),
            "modal_prompt_of": base.modalities[prompt] if config.modalities else None,
            "head": "kept" if self._same_task(plan) is not None else "new",
        }
        modalities = (plan.modality,) if config.modalities else ()
        return info.model_copy(update={"config": config, "modalities": modalities, "provenance": provenance})

    def load(self, network: MedUniSeg, info: ModelInfo) -> None:
        """Copy the weights and freeze the modal prompt."""
        plan = only_task(info)
        fresh = network.state_dict()
        known = with_stem(self._base.network.state_dict(), self._stem(plan), len(plan.channels))
        state = downstream_state(known, fresh, self._prompt(plan))
        state = rescale_like(fresh, state, flat=plan.dimension == 2)
        if self._same_task(plan) is not None:
            heads = {name: value for name, value in self._base.network.state_dict().items() if _is_head(name)}
            state.update({name: value[: plan.class_count].clone() for name, value in heads.items()})
        network.load_state_dict(state)
        if network.modal_map is not None:
            network.modal_map.prompts.requires_grad_(False)

    def plan_of(self, dataset: RawDataset) -> TaskPlan | None:
        """The base's own plan where it knows the very task: its weights know images that are preprocessed so, and a
        few cases' intensities say less than those the base was planned with."""
        for known in self._base.info.tasks:
            same = (known.task, known.classes, known.dimension) == (dataset.task, dataset.classes, dataset.dimension)
            if same and len(known.channels) == len(dataset.channels):
                return known
        return None

    def _prompt(self, plan: TaskPlan) -> int:
        base = self._base.info
        if not base.config.modalities:
            return 0
        wanted = self._modality or plan.modality
        if wanted not in base.modalities:
            raise UsageError(
                f"Model {base.name} has no prompt for the modality '{wanted}'; give one to start from with --modality: "
                f"{', '.join(base.modalities)}."
            )
        return base.modalities.index(wanted)

    def _stem(self, plan: TaskPlan) -> int:
        """The number of channels whose stem the run starts with."""
        wanted = len(plan.channels)
        known = min(
            self._base.info.tasks,
            key=lambda task: (
                task.modality != plan.modality,
                len(task.channels) != wanted,
                task.dimension != plan.dimension,
                abs(len(task.channels) - wanted),
            ),
        )
        return len(known.channels)

    def _same_task(self, plan: TaskPlan) -> str | None:
        """The base's task with the same classes in the same order and as many channels."""
        for known in self._base.info.tasks:
            if known.classes == plan.classes and len(known.channels) == len(plan.channels):
                return known.task
        return None


def only_task(info: ModelInfo) -> TaskPlan:
    """The task of a run that has one. UsageError for several: a downstream network is for one task."""
    if len(info.tasks) != 1:
        raise UsageError("Fine-tuning is for one data set; train several with 'meduniseg train'.")
    return info.tasks[0]


def downstream_config(base: ModelConfig, channels: int, classes: int) -> ModelConfig:
    """The base without FUSE, with one stem and one modal prompt (docs/spec.md section 2, "fine-tuned MedUniSeg")."""
    modalities = min(base.modalities, 1)
    return base.model_copy(update={"stems": (channels,), "classes": classes, "tasks": 0, "modalities": modalities})


def downstream_state(base: dict[str, Tensor], fresh: dict[str, Tensor], prompt: int) -> dict[str, Tensor]:
    """``fresh`` with everything that ``base`` has for it; heads stay as they are.

    The base's first decoder level also takes the task prior, as its last input channel: that weight is left out, as if
    the prior were 0.
    """
    state = {}
    for name, own in fresh.items():
        if _is_head(name):
            state[name] = own
        elif name == PROMPTS:
            state[name] = base[name][prompt : prompt + 1].clone()
        elif name.startswith("decoder.") and base[name].shape != own.shape:
            state[name] = base[name][: own.shape[0]].clone()
        else:
            state[name] = base[name].clone()
        if state[name].shape != own.shape:
            raise UsageError(f"The base's weight {name} does not fit: {tuple(base[name].shape)}, {tuple(own.shape)}.")
    return state


def with_stem(base: dict[str, Tensor], learnt: int, wanted: int) -> dict[str, Tensor]:
    """``base`` with a stem for ``wanted`` channels made of that for ``learnt`` ones: each channel gets an equal share
    of what that one makes of an image whose channels are alike."""
    if learnt == wanted:
        return base
    own, other = f"encoder.stems.{wanted}", f"encoder.stems.{learnt}"
    weight = base[f"{other}.weight"]
    spread = weight.sum(dim=1, keepdim=True).expand(-1, wanted, *weight.shape[2:]) / wanted
    return {**base, f"{own}.weight": spread, f"{own}.bias": base[f"{other}.bias"]}


def _is_head(name: str) -> bool:
    return name.endswith("head.weight")
