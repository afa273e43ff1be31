"""The priors of a trained MedUniSeg: task priors of patches (the paper's Fig. 6), and the maps of the modal prompts."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import read_image
from meduniseg_core.inference.windows import window_shape
from meduniseg_core.model import MedUniSeg
from meduniseg_core.model.modal_prior import MAP_SIZE_2D, MAP_SIZE_3D
from meduniseg_core.preprocessing import RawDataset, TaskPlan, preprocess
from meduniseg_core.weights import Model

SAMPLES = 1000
"""Patches of a task, as in the paper."""
_AT_A_TIME = 4


@dataclass(frozen=True)
class PriorSample:
    """Task priors of patches of one data set.

    ``cases`` names the case of each patch. ``own`` (n, p) are the priors of the data set's own task, on the task
    prompt's grid, as vectors; zero columns where the model lacks the task. ``all_tasks`` (n, N * p) are those of all N
    tasks of the model.
    """

    task: str
    cases: tuple[str, ...]
    own: np.ndarray
    all_tasks: np.ndarray


def sample_priors(
    model: Model,
    dataset: RawDataset,
    plan: TaskPlan,
    *,
    count: int = SAMPLES,
    most_cases: int = 50,
    seed: int = 0,
    device: str | torch.device = "cpu",
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> PriorSample:
    """Compute task priors of random patches of a data set's training images; with replacement where they are few.

    Args:
        model: a MedUniSeg with task priors.
        dataset: the images; labels are not read.
        plan: how they are prepared: the model's own of this task, or another.
        count: number of patches.
        most_cases: of so many images at most, chosen at random.
        seed: of images and patches.
        device: where the network runs.
        events: receives progress (stage "priors").
        cancel: stops between two images.

    Returns:
        The priors.

    Raises:
        UsageError: the model has no task priors, or no prompt for the plan's modality.
        BadInputError: an image cannot be used, or there are none.
        CancelledError: ``cancel`` was set.
    """
    network = _network(model, device)
    config = network.config
    info = model.info
    if config.modalities and plan.modality not in info.modalities:
        raise UsageError(
            f"Model {info.name} has no prompt for '{plan.modality}', the modality of {dataset.name}; it has: "
            f"{', '.join(info.modalities)}."
        )
    modality = info.modalities.index(plan.modality) if config.modalities else 0
    known = [own.task for own in info.tasks]
    rng = np.random.default_rng([seed, *dataset.task.encode()])
    cases = dataset.cases("Tr")
    if not cases:
        raise BadInputError(f"{dataset.folder} holds no training images; give another data set.")
    chosen = [cases[place] for place in sorted(rng.permutation(len(cases))[:most_cases])]
    shares = np.full(len(chosen), count // len(chosen))
    shares[: count % len(chosen)] += 1
    names: list[str] = []
    rows: list[np.ndarray] = []
    began = time.monotonic()
    for number, (case, share) in enumerate(zip(chosen, shares.tolist(), strict=True)):
        if cancel is not None:
            cancel.raise_if_cancelled()
        events(Progress("priors", number, len(chosen), time.monotonic() - began, case.case))
        if not share:
            continue
        data = torch.from_numpy(preprocess(read_image(case.images), plan).data)
        for first in range(0, share, _AT_A_TIME):
            patches = torch.stack(
                [_patch(data, plan, config.total_stride, rng) for _ in range(min(_AT_A_TIME, share - first))]
            )
            rows.append(_priors(network, patches.to(device), modality, len(known)).reshape(len(patches), -1))
        names += [case.case] * share
    everything = np.concatenate(rows)
    width = everything.shape[1] // len(known)
    place = known.index(dataset.task) if dataset.task in known else None
    own = np.zeros((len(names), 0)) if place is None else everything[:, place * width : (place + 1) * width]
    return PriorSample(dataset.task, tuple(names), own, everything)


def modal_maps(model: Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The modal prior of every modality, as it is added to images that are as large as its grid.

    Args:
        model: a MedUniSeg whose modal prior joins the image.

    Returns:
        By modality: the map of images (12, 12), and that of volumes (4, 6, 6), in units of the normalised image's
        standard deviation.

    Raises:
        UsageError: the model has no such prior.
    """
    network = model.universal_network
    if network.modal_map is None:
        raise UsageError(f"Model {model.info.name} adds no modal prior to images; there is nothing to show.")
    found = {}
    with torch.inference_mode():
        for place, name in enumerate(model.info.modalities):
            prompt = torch.tensor([0 if network.config.modal_prompts == "one" else place])
            flat, deep = (network.modal_map(prompt, size)[0, 0].numpy() for size in (MAP_SIZE_2D, MAP_SIZE_3D))
            found[name] = flat, deep
    return found


def _network(model: Model, device: str | torch.device) -> MedUniSeg:
    network = model.universal_network
    if not network.config.tasks:
        raise UsageError(f"Model {model.info.name} has no task priors (it is for one task); give a universal one.")
    return copy.deepcopy(network).to(device).eval()


def _patch(data: torch.Tensor, plan: TaskPlan, stride: tuple[int, int, int], rng: np.random.Generator) -> torch.Tensor:
    """A patch (C, D, H, W) at a random place, filled up with the image's smallest values where it is too small."""
    depth, height, width = (int(size) for size in data.shape[1:])
    window = window_shape((depth, height, width), plan.patch, stride)
    lack = [max(0, size - length) for size, length in zip(window, (depth, height, width), strict=True)]
    if any(lack):
        size = [length + more for length, more in zip((depth, height, width), lack, strict=True)]
        filled = data.amin(dim=(1, 2, 3)).reshape(-1, 1, 1, 1).expand(-1, *size).clone()
        filled[:, :depth, :height, :width] = data
        data = filled
    starts = [int(rng.integers(0, length - size + 1)) for length, size in zip(data.shape[1:], window, strict=True)]
    return data[:, *(slice(start, start + size) for start, size in zip(starts, window, strict=True))]


def _priors(network: MedUniSeg, patches: torch.Tensor, modality: int, tasks: int) -> np.ndarray:
    """The priors of all tasks (B, N, p) on the task prompt's grid."""
    with torch.inference_mode():
        prompt = torch.full((len(patches),), modality, device=patches.device)
        features = network.encode(patches, prompt)
        each = [network.task_prior(features, torch.full_like(prompt, task)) for task in range(tasks)]
        priors = torch.cat([prior for prior in each if prior is not None], dim=1)
        deep = priors if priors.dim() == 5 else priors.unsqueeze(2)
        resampled = F.interpolate(
            deep.float(), size=network.config.task_prompt_size, mode="trilinear", align_corners=False
        )
    return resampled.flatten(2).cpu().numpy()
