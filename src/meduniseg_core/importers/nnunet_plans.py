"""Reads nnU-Net v2's ``plans.json`` and ``dataset.json`` without trusting them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small
from meduniseg_core.structured_text import parse_json
from meduniseg_core.validation import place_and_fault

PLANS, DATASET = "plans.json", "dataset.json"
_IGNORE = "ignore"
_MAX_LABEL = 65535

Axes3 = tuple[int, int, int]
Sizes = Annotated[tuple[int, ...], Field(min_length=2, max_length=3)]
_Content = TypeVar("_Content", bound=BaseModel)


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Architecture(_Read):
    """The network as plans of nnU-Net 2.4 and newer describe it."""

    network_class_name: str
    arch_kwargs: dict[str, Any]


class Configuration(_Read):
    """One configuration (2d, 3d_fullres, 3d_lowres) with inheritance resolved. The last fields are those of old-style
    plans."""

    patch_size: Sizes
    spacing: Annotated[tuple[float, ...], Field(min_length=2, max_length=3)]
    normalization_schemes: Annotated[tuple[str, ...], Field(min_length=1)]
    use_mask_for_norm: tuple[bool, ...]
    preprocessor_name: str = "DefaultPreprocessor"
    resampling_fn_data: str = "resample_data_or_seg_to_shape"
    resampling_fn_data_kwargs: dict[str, Any] = Field(default_factory=lambda: {"order": 3, "force_separate_z": None})
    resampling_fn_probabilities: str = "resample_data_or_seg_to_shape"
    resampling_fn_probabilities_kwargs: dict[str, Any] = Field(
        default_factory=lambda: {"order": 1, "force_separate_z": None}
    )
    previous_stage: str | None = None
    architecture: Architecture | None = None

    UNet_class_name: str | None = None
    UNet_base_num_features: Annotated[int, Field(ge=1)] | None = None
    unet_max_num_features: Annotated[int, Field(ge=1)] | None = None
    n_conv_per_stage_encoder: Any = None
    n_conv_per_stage_decoder: Any = None
    conv_kernel_sizes: Any = None
    pool_op_kernel_sizes: Any = None


class Figures(_Read):
    """Intensity statistics of one channel over the data set's foreground."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Plans(_Read):
    """The content of ``plans.json``."""

    dataset_name: str = ""
    plans_name: str = ""
    image_reader_writer: str
    transpose_forward: Axes3
    configurations: dict[str, dict[str, Any]]
    label_manager: str = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, Figures] = Field(default_factory=dict)
    foreground_intensity_properties_by_modality: dict[str, Figures] = Field(default_factory=dict)

    @property
    def figures(self) -> Mapping[str, Figures]:
        """Intensity statistics by channel; older plans have them under another name."""
        return self.foreground_intensity_properties_per_channel or self.foreground_intensity_properties_by_modality


def _listed(value: Any) -> Any:
    """Channel names; some old files have a list."""
    return {str(index): name for index, name in enumerate(value)} if isinstance(value, list) else value


def _label_or_region(value: Any) -> int | tuple[int, ...]:
    """A label, or a region of several; nnU-Net itself takes "1" and 1.0 for 1."""
    return tuple(_label(part) for part in value) if isinstance(value, list | tuple) else _label(value)


def _label(value: Any) -> int:
    whole = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        label = int(value) if whole else -1
    except (ValueError, OverflowError):
        label = -1
    if not 0 <= label <= _MAX_LABEL or (isinstance(value, float) and label != value):
        raise ValueError(f"a label is a whole number from 0 to {_MAX_LABEL}, and a region is a list of labels")
    return label


class Dataset(_Read):
    """The content of ``dataset.json``: channels and labels."""

    channel_names: Annotated[dict[str, str], BeforeValidator(_listed)] | None = None
    modality: Annotated[dict[str, str], BeforeValidator(_listed)] | None = None
    labels: dict[str, Annotated[int | tuple[int, ...], PlainValidator(_label_or_region)]] = Field(min_length=2)
    regions_class_order: tuple[Annotated[int, Field(ge=1, le=_MAX_LABEL)], ...] | None = None
    name: str = ""
    description: str = ""
    licence: str = ""

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names in the network's order."""
        names = self.channel_names or self.modality or {}
        try:
            return tuple(names[key].strip() or key for key in sorted(names, key=int))
        except ValueError:
            return ()


class Labels(_Read):
    """The meaning of the network's outputs.

    ``classes`` are the class names, that of label 1 first; ``regions`` are the labels that each output writes, for
    models trained on overlapping regions.
    """

    classes: tuple[str, ...]
    regions: tuple[int, ...] | None
    outputs: int


def read_plans(folder: Path) -> Plans:
    """Read ``plans.json``.

    Args:
        folder: the model folder.

    Returns:
        The plans.

    Raises:
        BadInputError: the file is missing, or does not hold plans of nnU-Net v2 that this program can follow.
    """
    plans = _read(folder / PLANS, Plans)
    if plans.label_manager != "LabelManager":
        refuse(folder, f"its labels are read by '{plans.label_manager:.60}', which this program does not know")
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        refuse(folder / PLANS, "its transpose_forward is not an order of three axes")
    return plans


def read_dataset(folder: Path) -> Dataset:
    """Read ``dataset.json``.

    Args:
        folder: the model folder.

    Returns:
        The description.

    Raises:
        BadInputError: the file is missing, or does not hold a description with channels.
    """
    dataset = _read(folder / DATASET, Dataset)
    if not dataset.channels:
        refuse(folder / DATASET, "it names no channels")
    return dataset


def configuration_of(folder: Path, plans: Plans, name: str) -> Configuration:
    """Find a configuration in the plans.

    Args:
        folder: the model folder, for error messages.
        plans: its plans.
        name: the configuration's name.

    Returns:
        The configuration, with what it inherits.

    Raises:
        BadInputError: it is missing, is the second stage of a cascade, or has an unknown preprocessor.
    """
    content: dict[str, Any] = {}
    seen: list[str] = []
    current: Any = name
    while current is not None:
        if current in seen or not isinstance(current, str) or current not in plans.configurations:
            refuse(folder / PLANS, f"its configuration {name!r:.60} is not there or inherits in a circle")
        seen.append(current)
        own = plans.configurations[current]
        content = {**own, **content}
        current = own.get("inherits_from")
    found = _validated(folder / PLANS, Configuration, content)
    if found.previous_stage is not None:
        refuse(
            folder,
            f"configuration {name} is the second stage of a cascade and takes the result of {found.previous_stage:.60}",
            "import 3d_fullres or 3d_lowres instead",
        )
    if found.preprocessor_name != "DefaultPreprocessor":
        refuse(folder, f"its images are prepared by '{found.preprocessor_name:.60}', which this program does not know")
    if len(found.patch_size) != len(found.spacing) or min(found.patch_size) < 1:
        refuse(folder / PLANS, "patch_size and spacing of its configuration do not belong together")
    return found


def labels_of(folder: Path, dataset: Dataset) -> Labels:
    """Sort the labels into classes, and into regions in the order in which they are written.

    Args:
        folder: the model folder, for error messages.
        dataset: its description.

    Returns:
        The classes and, where labels overlap, the regions.

    Raises:
        BadInputError: nnU-Net itself would refuse the labels.
    """
    file = folder / DATASET
    wanted = {name: label for name, label in dataset.labels.items() if name != _IGNORE}
    background = wanted.get("background")
    if background not in (0, (0,)):
        refuse(file, "its background is not label 0")
    ids = {name: (label,) if isinstance(label, int) else label for name, label in wanted.items()}
    if not all(ids.values()):
        refuse(file, "a region of it holds no label")
    every = sorted({value for values in ids.values() for value in values})
    if any(len(values) > 1 for values in ids.values()):
        regions = [name for name, values in ids.items() if set(values) != {0}]
        order = dataset.regions_class_order
        if order is None or len(order) != len(regions):
            refuse(file, "its regions_class_order does not have one label per region")
        names = {value: " and ".join(n for n, v in zip(regions, order, strict=True) if v == value) for value in order}
        classes = tuple(names.get(value) or f"label {value} (unused)" for value in range(1, max(order) + 1))
        return Labels(classes=classes, regions=order, outputs=len(order))
    if every != list(range(len(every))):
        refuse(file, f"its labels are not 0, 1, 2, ... without gaps but {every!s:.60}")
    called = {value: " and ".join(n for n, v in ids.items() if value in v) for value in every}
    return Labels(classes=tuple(called[value] for value in every[1:]), regions=None, outputs=len(every))


def refuse(place: Path, reason: str, remedy: str = "check that it is a model folder of nnU-Net v2") -> NoReturn:
    """Refuse to import a file or folder.

    Args:
        place: the file or folder at fault.
        reason: what is wrong, to follow "because".
        remedy: what the user should do.

    Raises:
        BadInputError: always.
    """
    raise BadInputError(f"{place}: cannot be imported, because {reason}; {remedy}.")


def _read(path: Path, schema: type[_Content]) -> _Content:
    try:
        content = parse_json(read_small(path))
    except ValueError as error:
        refuse(path, f"it is not JSON ({error!s:.100})")
    return _validated(path, schema, content)


def _validated(path: Path, schema: type[_Content], content: Any) -> _Content:
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        place, fault = place_and_fault(error)
        refuse(path, f"it is wrong at '{place or 'the whole':.80}' ({fault:.120})")
