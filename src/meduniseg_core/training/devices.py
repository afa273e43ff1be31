"""The device that a process of a training runs on."""

from __future__ import annotations

import os

import torch

from meduniseg_core.errors import UsageError
from meduniseg_core.model import resolve_device
from meduniseg_core.training.group import Group


def device_of(name: str, group: Group) -> torch.device:
    """Choose a process's device: each of several processes on a machine takes the GPU with its number there.

    Args:
        name: as in the configuration.
        group: the processes of the training.

    Returns:
        The device.

    Raises:
        UsageError: this machine has no such device, or fewer GPUs than processes.
    """
    device = resolve_device(name)
    if group.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.type != str(device):
        raise UsageError(f'Several processes cannot share the device \'{name}\'; write device = "cuda" or "cpu".')
    count = torch.cuda.device_count()
    # some launchers let each process see its own GPU only
    own = int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else 0
    if own >= count:
        raise UsageError(f"This machine has {count} GPUs and more processes; start one process for each GPU.")
    torch.cuda.set_device(own)
    return torch.device("cuda", own)
