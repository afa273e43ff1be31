"""Which files a data set's cases have: by name in imagesTr and labelsTr, or as dataset.json lists them.

nnU-Net v2's list "dataset" (case -> "images", "label") is used where there is one. The older list "training" (entries
with "image" and "label") is used where there is no folder imagesTr. Test cases are always found by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from meduniseg_core.images.cases import folder_cases, group_files
from meduniseg_core.images.formats import channel_of, composed, stem_of

Split = Literal["Tr", "Ts"]
_CaseName = Annotated[str, StringConstraints(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$", max_length=200)]


class ListedCase(BaseModel):
    """One entry of a list: its images (one per channel) and label map, as paths relative to the data set's folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    images: tuple[str, ...] = Field(min_length=1)
    label: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _image_or_images(cls, value: Any) -> Any:
        if isinstance(value, str):  # the "test" lists of older sets hold bare paths
            value = {"images": value}
        if not isinstance(value, dict):
            return value
        images = value.get("images", value.get("image"))
        return {**value, "images": [images] if isinstance(images, str) else images}


CaseList = dict[_CaseName, ListedCase]


def named_list(value: Any) -> Any:
    """Turn a "training" list into a `CaseList`.

    Args:
        value: What dataset.json holds.

    Returns:
        The cases by name: that of the label file, or of the first image. Anything but a list is returned as it is.

    Raises:
        ValueError: Two entries have the same name, or an entry is malformed.
    """
    if not isinstance(value, list):
        return value
    named: dict[str, ListedCase] = {}
    for entry in value:
        listed = ListedCase.model_validate(entry)
        name = stem_of(Path(listed.label)) if listed.label else channel_of(stem_of(Path(listed.images[0])))[0]
        if name in named:
            raise ValueError(f"two entries are of the case {name}; give every case its own name")
        named[name] = listed
    return named


@dataclass(frozen=True)
class CaseFiles:
    """A case's image files (one per channel), and where its label map is or should be (None: it needs none)."""

    case: str
    images: tuple[Path, ...]
    label: Path | None


@dataclass
class FoundFiles:
    """The cases of a split, sorted by name, and the faults in their names, one sentence each."""

    cases: list[CaseFiles] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def by_name(folder: Path, split: Split, ending: str, channels: int) -> FoundFiles:
    """Find the cases in ``imagesTr`` (or ``imagesTs``) by nnU-Net's naming.

    Args:
        folder: The data set's folder.
        split: "Tr" or "Ts".
        ending: The ending of image and label files.
        channels: How many files a case has.

    Returns:
        The cases. Faults are missing channels, cases that are there twice, and labels without an image.
    """
    images, labels = folder / f"images{split}", folder / f"labels{split}"
    if not images.is_dir():
        return FoundFiles()
    files = _files(images, ending)
    label_files = _files(labels, ending) if labels.is_dir() else []
    # an archive packed on macOS may encode the accents of one folder's names in another way than those of the other
    label_of = {composed(path.name[: -len(ending)]): path for path in label_files}
    found = FoundFiles(faults=_missing_channels(images, files, ending, channels))
    for case in folder_cases(images, ending, channels) if files else ():
        if case.fault is None:
            label = labels / f"{case.name}{ending}"
            if label not in label_files:
                label = label_of.get(composed(case.name), label)
            found.cases.append(CaseFiles(case.name, case.paths, label))
        elif "has no channel" not in str(case.fault):  # all of those are named above, each by its file
            found.faults.append(str(case.fault))
    known = {channel_of(path.name[: -len(ending)])[0] for path in files} if channels > 1 else set()
    known = {composed(name) for name in known | {case.name for case in group_files(files, channels, ending)}}
    found.faults += [
        f"{path} has no image in {images.name}; add {path.name[: -len(ending)]}_0000{ending} or remove it."
        for path in label_files
        if composed(path.name[: -len(ending)]) not in known
    ]
    return found


def by_list(folder: Path, listed: CaseList, channels: int) -> FoundFiles:
    """Find the cases that dataset.json lists.

    Args:
        folder: The data set's folder.
        listed: The list.
        channels: How many files a case has.

    Returns:
        The cases. Faults are files outside the folder, missing images, and a wrong number of images.
    """
    found, where = FoundFiles(), folder / "dataset.json"
    for case, entry in sorted(listed.items()):
        names = [*entry.images, *([entry.label] if entry.label is not None else [])]
        outside = [name for name in names if not _inside(folder, name)]
        images = tuple(_path(folder, name) for name in entry.images)
        if outside:
            found.faults.append(
                f"{where} lists {outside[0]} for {case}, which lies outside the data set's folder; move it into the "
                "folder and list it from there."
            )
        elif len(images) not in (1, channels):
            found.faults.append(
                f"{where} lists {len(images)} images for {case} and a case has {channels} here; make them agree."
            )
        elif missing := [path for path in images if not path.is_file()]:
            found.faults.append(f"{missing[0]} is missing, which {where.name} lists for {case}; add it or remove it.")
        else:
            found.cases.append(CaseFiles(case, images, _path(folder, entry.label) if entry.label is not None else None))
    return found


def _missing_channels(images: Path, files: list[Path], ending: str, wanted: int) -> list[str]:
    channels: dict[str, set[int]] = {}
    for path in files if wanted > 1 else ():
        case, channel = channel_of(path.name[: -len(ending)])
        if channel is not None:
            channels.setdefault(case, set()).add(channel)
    return [
        f"{images / f'{case}_{channel:04d}{ending}'} is missing; add that channel or remove the case."
        for case, have in sorted(channels.items())
        for channel in range(wanted)
        if channel not in have
    ]


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(ending.lower()) and not path.name.startswith(".") and len(path.name) > len(ending)
    )


def _inside(folder: Path, name: str) -> bool:
    """Whether a listed path stays within the folder; by its words, for a data set may be made of links."""
    plain = name.replace("\\", "/")
    if Path(name).is_absolute():
        return Path(name).is_relative_to(folder.resolve()) and ".." not in Path(name).parts
    parts = PurePosixPath(plain).parts
    return bool(parts) and not plain.startswith("/") and ":" not in parts[0] and ".." not in parts


def _path(folder: Path, name: str) -> Path:
    return folder / (name if Path(name).is_absolute() else PurePosixPath(name.replace("\\", "/")))
