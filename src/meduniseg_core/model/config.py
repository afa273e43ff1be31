"""The architecture as data: the paper's network, its variants, smaller ones and its predecessor UniSeg."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from meduniseg_core.model.peer_table import PEERS

Stride = tuple[int, int, int]
_UNIVERSAL = ("meduniseg", "dodnet", "universal-model", "ccq", "hermes")


def _known(method: str) -> str:
    if method not in (*_UNIVERSAL, *PEERS):
        raise ValueError(f"there is no method {method}; there are {', '.join((*_UNIVERSAL, *PEERS))}")
    return method


class PriorDesign(BaseModel):
    """How a network is told modality and task: MedUniSeg's way by default (docs/spec.md section 10).

    A description names only what differs from the defaults: files and hashes of runs are those of before these choices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    also_left_out: ClassVar[tuple[str, ...]] = ()
    """Fields of a subclass that are named only where they differ from their defaults, too."""

    method: Annotated[str, AfterValidator(_known)] = Field(
        default="meduniseg",
        description=f"another name: that paper's network; {', '.join(_UNIVERSAL[1:])} on the same backbone "
        f"(docs/spec.md section 13), {', '.join(PEERS)} for one data set (section 15)",
    )
    modal_prior_at: Literal["image", "bottleneck"] = Field(
        default="image", description="image: MMap's map is added to it; bottleneck: SEFU's prior joins the features"
    )
    task_prior_at: Literal["bottleneck", "decoder"] = Field(
        default="bottleneck", description="decoder: only the heads see the prior (MedUniSeg-T)"
    )
    modal_prompts: Literal["each", "one"] = Field(default="each", description="each modality its own, or one for all")
    task_prompts: Literal["one", "each"] = Field(default="one", description="one for all tasks, or each its own")
    learned_prompts: bool = Field(default=True, description="False: all prompts are and stay zero")
    fuse_blocks: int = Field(default=3, ge=1, le=16, description="blocks of FUSE and SEFU")
    fuse_divisor: int = Field(default=4, ge=1, le=64, description="their middle blocks have C / fuse_divisor channels")

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_its_paper(cls, given: Any) -> Any:
        method = given.get("method") if isinstance(given, dict) else None
        peer = PEERS.get(method) if isinstance(method, str) else None
        if peer is None:
            return given
        sizes, features = peer.sizes, given.get("features")
        if peer.strides is not None and isinstance(features, list | tuple) and len(features) > 1:
            sizes["strides"] = peer.strides[: len(features) - 1]  # with fewer stages its first ones
        return {**sizes, **given}

    @property
    def single_task(self) -> bool:
        """Whether it is a network for one task, which is told neither task nor modality."""
        return self.method in PEERS

    @model_validator(mode="after")
    def _tells_tasks_apart(self) -> Self:
        if self.task_prompts == "each" and not self.learned_prompts:
            raise ValueError("prompts that stay zero cannot be the tasks' own (task_prompts = each)")
        return self

    @model_validator(mode="after")
    def _variants_are_meduniseg_s(self) -> Self:
        fields = PriorDesign.model_fields
        changed = [name for name in fields if name != "method" and getattr(self, name) != fields[name].default]
        if self.method != "meduniseg" and changed:
            raise ValueError(f"{changed[0]} is a setting of MedUniSeg, and {self.method} has no such prior")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        later = (*PriorDesign.model_fields, *self.also_left_out)
        same = {name for name in later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in written.items() if name not in same}


class ModelConfig(PriorDesign):
    """Everything that fixes the network's shape (docs/spec.md sections 2-4).

    ``modalities = 0`` leaves the modal prior out (UniSeg); ``tasks = 0`` leaves the task prior out (downstream
    networks, plain backbone); both 0 is the bare backbone. ``dimension = 2`` is the 2D counterpart of the backbone
    (Conv2d modules).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    strides: tuple[Stride, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    stems: tuple[int, ...] = (1, 2, 3, 4)
    classes: int = Field(
        default=4, ge=2, description="output channels: the largest class count of all tasks, with background"
    )
    dimension: Literal[2, 3] = 3

    modalities: int = Field(default=9, ge=0)
    modal_prompt_length: int = Field(default=512, ge=1)

    tasks: int = Field(default=17, ge=0)
    task_prompt_channels: int = Field(default=100, ge=1, description="K")
    task_prompt_size: tuple[int, int, int] = (4, 6, 6)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.strides) != len(self.features) - 1:
            need, have = len(self.features) - 1, len(self.strides)
            raise ValueError(f"one stride for every encoder stage after the first: {need} here, not {have}")
        if not self.stems or list(self.stems) != sorted(set(self.stems)) or self.stems[0] < 1:
            raise ValueError("stems are distinct channel counts in rising order")
        if self.single_task:
            if self.tasks or self.modalities or len(self.stems) != 1:
                raise ValueError(f"{self.method} is for one task: tasks = modalities = 0, and one stem")
            PEERS[self.method].check(self.features, self.strides, self.dimension)
            return self
        if self.dimension == 2 and (self.modalities or self.tasks):
            raise ValueError("the 2D counterpart is a plain backbone: modalities = tasks = 0")
        if self.method != "meduniseg" and not self.tasks:
            raise ValueError(
                f"{self.method} is for one task at least; the plain backbone is MedUniSeg's without priors"
            )
        if (self.method == "hermes" and not self.modalities) or (
            self.method in ("dodnet", "universal-model", "ccq") and self.modalities
        ):
            raise ValueError("of the baselines hermes alone, and always, is told the modality")
        return self

    @property
    def total_stride(self) -> Stride:
        """Down-sampling from image to bottleneck along (D, H, W)."""
        d = h = w = 1
        for sd, sh, sw in self.strides:
            d, h, w = d * sd, h * sh, w * sw
        return d, h, w


# The architectures whose parameter counts docs/spec.md section 2 fixes to the digit.
ARCHITECTURES: dict[str, ModelConfig] = {
    "backbone-3d": ModelConfig(stems=(3,), classes=2, modalities=0, tasks=0),
    "backbone-2d": ModelConfig(stems=(3,), classes=2, modalities=0, tasks=0, dimension=2),
    "downstream-siim": ModelConfig(stems=(3,), classes=2, modalities=1, tasks=0),
    "meduniseg": ModelConfig(),
    "uniseg": ModelConfig(stems=(1, 2, 4), modalities=0, tasks=11, task_prompt_channels=11),
    # the paper's variants (docs/spec.md section 10)
    "no-modal-prior": ModelConfig(modalities=0),
    "multiple-prompts": ModelConfig(task_prompts="each"),
    "universal-prompts": ModelConfig(modal_prompts="one"),
    "fixed-prompts": ModelConfig(learned_prompts=False),
    "bottleneck-prompts": ModelConfig(modal_prior_at="bottleneck"),
    "meduniseg-t": ModelConfig(task_prior_at="decoder"),
    # other papers' universal networks on the same backbone (docs/spec.md section 13)
    "dodnet": ModelConfig(method="dodnet", modalities=0),
    "universal-model": ModelConfig(method="universal-model", modalities=0),
    "ccq": ModelConfig(method="ccq", modalities=0),
    "hermes": ModelConfig(method="hermes"),
    # other papers' networks for one task (docs/spec.md section 15)
    **{
        peer.name: ModelConfig(
            method=peer.name, stems=(1,), classes=2, modalities=0, tasks=0, dimension=max(peer.dimensions)
        )
        for peer in PEERS.values()
    },
}
