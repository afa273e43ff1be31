"""Starts a universal training from the weights of a trained universal network."""

from __future__ import annotations

from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.model import UniversalNetwork
from meduniseg_core.model.config import PriorDesign
from meduniseg_core.model.weight_rows import rows_of, same_rows, with_rows
from meduniseg_core.training.class_embeddings import ClassEmbeddings
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.initial_weights import InitialWeights
from meduniseg_core.training.rescaling import rescale_like
from meduniseg_core.training.start import Start
from meduniseg_core.weights import Model, ModelInfo, load_model


class PretrainedWeights(Start):
    """Starts a universal training from ``base``, whose architecture (features, prompt sizes) must be the run's.

    Backbone, FUSE and MMap's linear layer are taken over. What belongs to one task, modality or class is matched: rows
    of FUSE by task name, modal prompts by modality, rows of the heads by class number. What the base does not have (a
    new task, a modality, a stem for another number of channels) starts as in a fresh network. Convolutions before a
    norm are scaled to the length they have in a fresh network (`rescale_like`), so that they learn as fast.

    Args:
        base: the trained model.
    """

    def __init__(self, base: Model) -> None:
        self._base = base

    @property
    def identity(self) -> str:
        """The base's file."""
        return f"pretrained weights {self._base.sha256}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the run's model; its provenance names the base.

        Args:
            info: description of the run's model.

        Returns:
            A changed copy.
        """
        provenance = {
            **info.provenance,
            "pretrained_weights": self._base.info.name,
            "pretrained_sha256": self._base.sha256,
        }
        return info.model_copy(update={"provenance": provenance})

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Copy the base's weights into a fresh network.

        Args:
            network: changed in place.
            info: description of the run's model.

        Raises:
            UsageError: the base has another architecture.
        """
        known_config = self._base.info.meduniseg_config
        if any(getattr(known_config, name) != getattr(network.config, name) for name in PriorDesign.model_fields):
            raise UsageError(
                f"{self._base.info.name} cannot be the pretrained weights of this run: it is told modality and task "
                "another way (docs/spec.md, section 10); give [network] its settings."
            )
        fresh = network.state_dict()
        known = self._base.universal_network.state_dict()
        base = self._base.info
        tasks = same_rows([plan.task for plan in info.tasks], [plan.task for plan in base.tasks])
        modalities = same_rows(list(info.modalities), list(base.modalities))
        state = {}
        for name, own in fresh.items():
            old = known.get(name)
            rows = rows_of(network.config, name)
            if rows == "tasks":
                state[name] = self._rows(name, own, old, tasks)
            elif rows == "modalities":
                state[name] = self._rows(name, own, old, modalities)
            elif rows == "classes":
                shared = min(len(own), 0 if old is None else len(old))
                state[name] = self._rows(name, own, old, {row: row for row in range(shared)})
            elif old is None and ".stems." in name:
                state[name] = own
            else:
                state[name] = self._whole(name, own, old)
        network.load_state_dict(rescale_like(fresh, state, flat=False))

    def _whole(self, name: str, own: Tensor, old: Tensor | None) -> Tensor:
        if old is None or old.shape != own.shape:
            raise self._does_not_fit(name, own, old)
        return old.to(own.dtype).clone()

    def _rows(self, name: str, own: Tensor, old: Tensor | None, rows: dict[int, int]) -> Tensor:
        if old is None or old.shape[1:] != own.shape[1:]:
            raise self._does_not_fit(name, own, old)
        return with_rows(own, old, rows)

    def _does_not_fit(self, name: str, own: Tensor, old: Tensor | None) -> UsageError:
        has = "none" if old is None else str(tuple(old.shape))
        return UsageError(
            f"{self._base.info.name} cannot be the pretrained weights of this run: its weight {name} is {has}, and the "
            f"config's network needs {tuple(own.shape)}; give [network] the features and prompt sizes of "
            f"{self._base.info.name}."
        )


def start_of(config: TrainingConfig) -> Start | None:
    """The weights, or the embeddings of classes, that a configuration asks for.

    Args:
        config: the run's configuration.

    Returns:
        The weights to start from; None for random ones.

    Raises:
        UsageError: no model of this name is installed, or nothing of the initial weights fits.
        BadInputError: the file of the weights or of the embeddings cannot be used.
    """
    if config.init is not None:
        network = config.network
        return InitialWeights(config.init, network.features, network.strides, network.method)
    if config.class_embeddings is not None:
        return ClassEmbeddings(config.class_embeddings)
    return None if config.pretrained_weights is None else PretrainedWeights(load_model(config.pretrained_weights))
