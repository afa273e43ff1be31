"""Starts a universal training from whatever fits of another network's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.events import EventSink, Message
from meduniseg_core.files import write_text
from meduniseg_core.importers.foreign_weights import ForeignWeights, read_foreign_weights
from meduniseg_core.importers.places import HEAD, NO_LAYER
from meduniseg_core.model import UniversalNetwork
from meduniseg_core.model.config import ModelConfig, Stride
from meduniseg_core.model.peer_table import PEERS
from meduniseg_core.model.weight_rows import rows_of, same_rows, with_rows
from meduniseg_core.training.rescaling import rescale_like
from meduniseg_core.training.start import Start
from meduniseg_core.weights import ModelInfo
from meduniseg_core.weights.model_file import expected_shapes

REPORT_FILE = "initial_weights.json"
_FROM_THE_PRIORS = "decoder.levels.0.up.weight"  # takes the priors' channels, too, which other networks lack

Extent = Literal["whole", "without the priors' channels", "rows of the same names", "as the middle slice"]


class Taken(BaseModel):
    """A weight of the run's network that comes from the file, its name there, and how much of it was taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: str
    theirs: str
    shape: tuple[int, ...]
    extent: Extent


class TransferReport(BaseModel):
    """What a run took from a file: ``taken``; ``fresh`` of the run's weights began anew, ``unused`` are the file's
    (with the reasons)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str
    layout: str
    parameters: int
    parameters_taken: int
    taken: tuple[Taken, ...]
    fresh: tuple[str, ...]
    unused: dict[str, str]

    def sentence(self) -> str:
        """Say in a sentence what was taken.

        Returns:
            The sentence.
        """
        share = 100 * self.parameters_taken / self.parameters
        return (
            f"Initial weights from {self.file} ({self.layout}): {len(self.taken)} of the network's "
            f"{len(self.taken) + len(self.fresh)} weights are its ({share:.1f} % of the parameters), the other "
            f"{len(self.fresh)} begin at random; {len(self.unused)} of the file's are not used ({REPORT_FILE})."
        )


class InitialWeights(Start):
    """Starts a universal training from a file's weights that fit the network by name and shape.

    Of a model of this program all that fits is taken: rows of FUSE by task name, modal prompts by modality, heads by
    class number. Of other programs' networks the layers that the backbone has, too: kernels of 2D networks become the
    middle slice of 3D ones (images pass through those alone), and heads are left out. Convolutions before a norm are
    scaled to the length that they have in a fresh network (`rescale_like`). Swin UNETR and UNETR take MONAI's files of
    the same network whole but for the head.

    Args:
        source: a file, or the name of an installed model.
        features: of the run's encoder stages, finest first.
        strides: between the stages (D, H, W).
        method: of the run's network.

    Raises:
        UsageError: no model of this name is installed, or nothing of the encoder fits.
        BadInputError: the file is damaged or of no network known here.
    """

    def __init__(
        self, source: str | Path, features: Sequence[int], strides: Sequence[Stride], method: str = "meduniseg"
    ) -> None:
        self._source: ForeignWeights = read_foreign_weights(source, len(strides), method)
        self._check_encoder(_bare(method, tuple(features), tuple(strides)))
        self._report: TransferReport | None = None

    @property
    def identity(self) -> str:
        """The file's content."""
        return f"initial weights {self._source.sha256}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the run's model; its provenance names the file.

        Args:
            info: description of the run's model.

        Returns:
            A changed copy.
        """
        own = {"initial_weights": self._source.path.name, "initial_weights_sha256": self._source.sha256}
        return info.model_copy(update={"provenance": {**info.provenance, **own}})

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Copy into a fresh network what fits.

        Args:
            network: changed in place.
            info: description of the run's model.

        """
        source, fresh = self._source, network.state_dict()
        state, unused = dict(fresh), dict(source.passed_over)
        taken: list[Taken] = []
        for theirs, ours in source.places.items():
            old = source.tensors[theirs]
            reason = self._unsuited(ours, network.config)
            if reason is None and ours not in fresh:
                reason = NO_LAYER
            if reason is not None:
                unused[theirs] = reason
                continue
            fitted = self._fitted(ours, fresh[ours], old, network.config, info)
            if fitted is None:
                unused[theirs] = f"{_text(old.shape)}, and {ours} is {_text(fresh[ours].shape)}"
                continue
            state[ours], extent = fitted
            taken.append(Taken(weight=ours, theirs=theirs, shape=tuple(old.shape), extent=extent))
        named = {one.weight for one in taken}
        self._report = TransferReport(
            file=str(source.path),
            sha256=source.sha256,
            layout=source.layout,
            parameters=sum(value.numel() for value in fresh.values()),
            parameters_taken=sum(min(fresh[one.weight].numel(), source.tensors[one.theirs].numel()) for one in taken),
            taken=tuple(taken),
            fresh=tuple(name for name in fresh if name not in named),
            unused=unused,
        )
        network.load_state_dict(rescale_like(fresh, state, flat=False))

    def report(self, folder: Path, events: EventSink) -> None:
        """Write ``folder/initial_weights.json``, and say what was taken.

        Args:
            folder: the run's folder.
            events: receives the sentence.
        """
        assert self._report is not None  # `load` was called
        write_text(folder / REPORT_FILE, self._report.model_dump_json(indent=1) + "\n")
        events(Message("info", self._report.sentence()))

    def _check_encoder(self, bare: ModelConfig) -> None:
        """UsageError where no kernel of the encoder fits: before a run's images are prepared for hours."""
        shapes, source, differing = expected_shapes(bare), self._source, ""
        fewest = 2 if bare.single_task else 4  # axes of a kernel; transformers have dense layers
        for theirs, ours in source.places.items():
            kernel = source.tensors[theirs]
            of_encoder = ours.endswith("weight") and not ours.startswith(("decoder.", "head"))
            if of_encoder and kernel.dim() >= fewest and ours in shapes:
                own = shapes[ours]
                if tuple(kernel.shape) == own or (kernel.dim() == 4 and (*own[:2], *own[3:]) == tuple(kernel.shape)):
                    return
                differing = f"{theirs} is {_text(kernel.shape)}, and {ours} is {_text(own)}"
        why = (
            f"{differing}; give [network] the features of the file"
            if differing
            else "it has other layers; give another file"
        )
        raise UsageError(
            f"{source.path}: nothing of its encoder ({source.layout}) fits the run's network: {why}, or train without "
            "it."
        )

    def _unsuited(self, ours: str, config: ModelConfig) -> str | None:
        """Why a weight of one of this program's networks means something else in this one."""
        if self._source.info is None or not isinstance(self._source.info.config, ModelConfig):
            return None
        known = self._source.info.config
        backbone = ours.startswith(("encoder.", "decoder.")) and ".head." not in ours
        alike = known.method == config.method and (config.single_task or config.method == "meduniseg")
        if backbone or alike:
            return None
        return HEAD if ".head." in ours else "it belongs to the tasks of the file's model"

    def _fitted(
        self, name: str, own: Tensor, old: Tensor, config: ModelConfig, info: ModelInfo
    ) -> tuple[Tensor, Extent] | None:
        extent: Extent = "whole"
        if old.dim() == 4 and own.dim() == 5:
            old, extent = _deepened(old, own, upwards=name.endswith("up.weight")), "as the middle slice"
        rows = rows_of(config, name) if self._source.info is not None else None
        if rows is not None:
            return self._rows(own, old, self._positions(rows, own, old, info))
        if old.shape == own.shape:
            return old.clone(), extent
        if name == _FROM_THE_PRIORS and old.shape[1:] == own.shape[1:]:
            shared = min(len(old), len(own))
            merged = own.clone()
            merged[:shared] = old[:shared]
            return merged, "without the priors' channels"
        return None

    def _positions(self, rows: str, own: Tensor, old: Tensor, info: ModelInfo) -> dict[int, int]:
        assert self._source.info is not None
        known = self._source.info
        if rows == "classes":
            return {row: row for row in range(min(len(own), len(old)))}
        if rows == "tasks":
            return same_rows([plan.task for plan in info.tasks], [plan.task for plan in known.tasks])
        return same_rows(list(info.modalities), list(known.modalities))

    def _rows(self, own: Tensor, old: Tensor, rows: dict[int, int]) -> tuple[Tensor, Extent] | None:
        if not rows or old.dim() != own.dim() or old.shape[1:] != own.shape[1:] or max(rows.values()) >= len(old):
            return None
        return with_rows(own, old, rows), "rows of the same names"


def _bare(method: str, features: tuple[int, ...], strides: tuple[Stride, ...]) -> ModelConfig:
    """The run's network as far as it is known before its data sets are read."""
    peer = PEERS.get(method)
    if peer is None:
        return ModelConfig(features=features, strides=strides, classes=2, modalities=0, tasks=0)
    return ModelConfig(
        method=method,
        features=features,
        strides=strides,
        dimension=max(peer.dimensions),
        stems=(1,),
        classes=2,
        modalities=0,
        tasks=0,
    )


def _deepened(flat: Tensor, own: Tensor, *, upwards: bool) -> Tensor:
    """A 2D kernel as a 3D one that treats images alike; one that enlarges treats all slices of volumes alike, too."""
    if upwards:
        return flat.unsqueeze(2).expand(-1, -1, own.shape[2], -1, -1).clone()
    deep = torch.zeros(*flat.shape[:2], own.shape[2], *flat.shape[2:])
    deep[:, :, own.shape[2] // 2] = flat
    return deep


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)
