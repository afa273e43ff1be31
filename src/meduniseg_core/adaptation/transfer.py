"""What a fine-tuned network takes over from a universal one (docs/spec.md section 7)."""

from __future__ import annotations

from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.model import UniversalNetwork
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.weight_rows import MODAL_PROMPTS
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.training import Start, rescale_like
from meduniseg_core.weights import Model, ModelInfo


class Downstream(Start):
    """Starts a fine-tuning from a universal model.

    Encoder, decoder and modal branch are taken over (see :func:`rescale_like` for their scale), FUSE is not. Of the
    modal prompts only that of the data's modality is kept, frozen; MMap's linear layer learns. The head is new, unless
    the base has a task of the same classes and channels: then that task's head is kept.

    The stem is that of the base's most similar task, first by modality. If that task has another number of channels,
    its stem is spread over the channels. (A stem for the right number of channels may never have learnt, or know PET
    and not MRI.)

    Args:
        base: the universal model.
        modality: the modal prompt to start from; by default that of the data's modality.
    """

    def __init__(self, base: Model, modality: str | None = None) -> None:
        self._base, self._modality = base, modality

    @property
    def identity(self) -> str:
        """The base's file and the requested modal prompt."""
        return f"downstream of {self._base.sha256}, modality {self._modality or 'of the data'}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the fine-tuned network of the run's only task: no FUSE, one modal prompt, the base's features.

        Args:
            info: the model as the data set asks for it.

        Returns:
            A changed copy.

        Raises:
            UsageError: there are several tasks, ``base`` is not a universal model, or it has no prompt for the
                modality.
        """
        plan = only_task(info)
        base = self._base.info
        prompt = self._prompt(plan)
        config = downstream_config(base.meduniseg_config, len(plan.channels), plan.class_count)
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

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Load the base's weights and freeze the modal prompt.

        Args:
            network: the fine-tuned network; changed in place.
            info: its description.

        Raises:
            UsageError: the base's weights do not fit the network.
        """
        plan = only_task(info)
        fresh = network.state_dict()
        known = with_stem(self._base.network.state_dict(), self._stem(plan), len(plan.channels))
        state = downstream_state(known, fresh, self._prompt(plan))
        state = rescale_like(fresh, state, flat=plan.dimension == 2)
        if self._same_task(plan) is not None:
            heads = {name: value for name, value in self._base.network.state_dict().items() if _is_head(name)}
            # without the task prior's channel, where the base's heads take it
            state.update({name: of[: plan.class_count, : fresh[name].shape[1]].clone() for name, of in heads.items()})
        network.load_state_dict(state)
        for name, parameter in network.named_parameters():
            if name in MODAL_PROMPTS:
                parameter.requires_grad_(False)

    def plan_of(self, dataset: RawDataset) -> TaskPlan | None:
        """The base's own plan if it has this task (same name, classes, dimension and number of channels).

        The base's weights know images preprocessed that way, and the intensities of a few cases say less than those the
        base was planned with.

        Args:
            dataset: the run's data set.

        Returns:
            The plan; None to plan from the data.
        """
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
        """The base's task with the same classes in the same order and as many channels; None if there is none."""
        for known in self._base.info.tasks:
            if known.classes == plan.classes and len(known.channels) == len(plan.channels):
                return known.task
        return None


def only_task(info: ModelInfo) -> TaskPlan:
    """The task of a run that has exactly one.

    Args:
        info: description of the run's model.

    Returns:
        The task's plan.

    Raises:
        UsageError: there are several; a fine-tuned network has one task.
    """
    if len(info.tasks) != 1:
        raise UsageError("Fine-tuning is for one data set; train several with 'meduniseg train'.")
    return info.tasks[0]


def downstream_config(base: ModelConfig, channels: int, classes: int) -> ModelConfig:
    """The base's architecture without FUSE, with one stem and one modal prompt (docs/spec.md section 2, "fine-tuned
    MedUniSeg").

    Args:
        base: the base's configuration.
        channels: number of image channels.
        classes: number of outputs: the classes and the background.

    Returns:
        The configuration of the fine-tuned network.
    """
    modalities = min(base.modalities, 1)
    return base.model_copy(update={"stems": (channels,), "classes": classes, "tasks": 0, "modalities": modalities})


def downstream_state(base: dict[str, Tensor], fresh: dict[str, Tensor], prompt: int) -> dict[str, Tensor]:
    """The weights of a fine-tuned network: those of the base wherever it has them; heads stay as they are.

    The base's first decoder level also takes the task prior, as its last input channel. That weight is left out, as if
    the prior were 0.

    Args:
        base: state dict of the base, with a stem for the right number of channels (see :func:`with_stem`).
        fresh: state dict of the freshly initialised network.
        prompt: index of the modal prompt to keep.

    Returns:
        A state dict with the names and shapes of ``fresh``.

    Raises:
        UsageError: a weight of the base has another shape.
    """
    state = {}
    for name, own in fresh.items():
        if _is_head(name):
            state[name] = own
        elif name in MODAL_PROMPTS:
            all_share_one = len(base[name]) == 1
            state[name] = (base[name] if all_share_one else base[name][prompt : prompt + 1]).clone()
        elif name.startswith("decoder.") and base[name].shape != own.shape:
            state[name] = base[name][: own.shape[0]].clone()
        else:
            state[name] = base[name].clone()
        if state[name].shape != own.shape:
            raise UsageError(f"The base's weight {name} does not fit: {tuple(base[name].shape)}, {tuple(own.shape)}.")
    return state


def with_stem(base: dict[str, Tensor], learnt: int, wanted: int) -> dict[str, Tensor]:
    """Make a stem for another number of channels out of a trained one.

    Each channel gets an equal share of the trained stem's response to an image whose channels are all alike.

    Args:
        base: state dict of the base.
        learnt: number of channels of the trained stem.
        wanted: number of channels of the new stem.

    Returns:
        ``base`` with the new stem added; ``base`` itself if the numbers are equal.
    """
    if learnt == wanted:
        return base
    own, other = f"encoder.stems.{wanted}", f"encoder.stems.{learnt}"
    weight = base[f"{other}.weight"]
    spread = weight.sum(dim=1, keepdim=True).expand(-1, wanted, *weight.shape[2:]) / wanted
    return {**base, f"{own}.weight": spread, f"{own}.bias": base[f"{other}.bias"]}


def _is_head(name: str) -> bool:
    return name.endswith("head.weight")
