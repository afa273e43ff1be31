"""A network on its device, as the sliding window calls it: one encoder pass, and one decoder pass per task."""

from __future__ import annotations

import copy
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.sliding_window import WindowNetwork
from meduniseg_core.model.compute import autocast, inference_autocast, optimised_for, resolve_precision
from meduniseg_core.model.features import Features
from meduniseg_core.model.networks import Network
from meduniseg_core.weights import Model, Pack
from meduniseg_core.weights.pack_file import refined_network

Watch = Callable[[Features], None]
_REFINED_NETWORKS = 4  # kept at a time; making one takes a fraction of a second
_COMPILERS = ("c++", "g++", "clang++", "cl")


class Engine:
    """A copy of a network, optimised for a device and precision; the original does not change.

    Args:
        network: the network.
        device: where it runs.
        dtype: the dtype of its convolutions.
        compile: compile encoder and decoder with frozen weights. The first window of every shape then takes half a
            minute longer and all others about a sixth less, which pays off for many images of one size.

    Raises:
        UsageError: ``compile`` is set and there is no C++ compiler.
    """

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype, compile: bool = False) -> None:
        if compile and device.type == "cpu" and not any(shutil.which(name) for name in _COMPILERS):
            raise UsageError("Compiling the network needs a C++ compiler and none was found; run without compile.")
        self.device = device
        self.dtype = dtype
        self.network = optimised_for(copy.deepcopy(network), device, dtype, eager=not compile)
        self._autocast = inference_autocast
        self._parts: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
        for part in self.network.parts:
            if compile:
                options: dict[str, Any] = {"freezing": True}
                compiled = torch.compile(part.encode, options=options), torch.compile(part.decode, options=options)
                self._parts.append(compiled)
            else:
                self._parts.append((part.encode, part.decode))

    @classmethod
    def borrowing(cls, network: Network, device: torch.device, dtype: torch.dtype) -> Self:
        """Use a network as it is, without a copy: one in training, whose weights go on changing.

        Args:
            network: on ``device`` already, in evaluation mode.
            device: where it is.
            dtype: of its convolutions, by autocast.

        Returns:
            The engine.
        """
        engine = cls.__new__(cls)
        engine.device, engine.dtype, engine.network = device, dtype, network
        engine._autocast = autocast
        engine._parts = [(part.encode, part.decode) for part in network.parts]
        return engine

    @property
    def members(self) -> int:
        """The number of networks whose logits are averaged."""
        return len(self._parts)

    def for_members(self, watch: Watch | None = None) -> WindowNetwork:
        """The members of an ensemble for one task, each as an output of its own.

        Args:
            watch: called with the first member's features of every batch.

        Returns:
            A function of windows that yields the logits of the members at the wanted positions.
        """

        def run(images: Tensor, outputs: Sequence[int]) -> Iterator[Tensor]:
            for position in outputs:
                encode, decode = self._parts[position]
                with self._autocast(self.device, self.dtype):
                    features = encode(images, None)
                if watch is not None and position == 0:
                    watch(features)
                with self._autocast(self.device, self.dtype):
                    logits = decode(features, None, 1)[0]
                del features
                yield logits

        return run

    def for_tasks(self, tasks: Sequence[int], modality: int, watch: Watch | None = None) -> WindowNetwork:
        """The network for tasks of one modality, each as an output of its own.

        Args:
            tasks: indices of the tasks in the model.
            modality: index of the modal prompt.
            watch: called with the encoder's features of every batch (of an ensemble, the first member's).

        Returns:
            A function of windows that yields the logits of the tasks at the wanted positions.
        """
        config = self.network.config

        def run(images: Tensor, outputs: Sequence[int]) -> Iterator[Tensor]:
            count = images.shape[0]
            prompt = torch.full((count,), modality, device=self.device) if config.modalities else None

            def logits_of(part: tuple[Callable[..., Any], Callable[..., Any]]) -> Iterator[Tensor]:
                encode, decode = part
                with self._autocast(self.device, self.dtype):
                    features = encode(images, prompt)
                if watch is not None and part is self._parts[0]:
                    watch(features)
                for position in outputs:
                    task = torch.full((count,), tasks[position], device=self.device) if config.tasks else None
                    with self._autocast(self.device, self.dtype):
                        logits = decode(features, task, 1)[0]
                    yield logits

            if len(self._parts) == 1:
                yield from logits_of(self._parts[0])
                return
            # one member after the other, so that only one's features are there at a time
            sums = [logits.float() for logits in logits_of(self._parts[0])]
            for part in self._parts[1:]:
                for total, logits in zip(sums, logits_of(part), strict=True):
                    total.add_(logits)
            yield from (total.div_(len(self._parts)) for total in sums)

        return run

    def features_of(self, tasks: Sequence[int], modality: int) -> WindowNetwork:
        """The decoder's last features instead of logits: those of an ensemble's first member.

        Args:
            tasks: indices of the tasks in the model.
            modality: index of the modal prompt.

        Returns:
            A function of windows that yields the features (B, features, D, H, W) of the tasks at the wanted positions.
        """
        config, part = self.network.config, self.network.parts[0]

        def run(images: Tensor, outputs: Sequence[int]) -> Iterator[Tensor]:
            count = images.shape[0]
            prompt = torch.full((count,), modality, device=self.device) if config.modalities else None
            with self._autocast(self.device, self.dtype):
                encoded = part.encode(images, prompt)
            for position in outputs:
                task = torch.full((count,), tasks[position], device=self.device) if config.tasks else None
                with self._autocast(self.device, self.dtype):
                    found = part.decode_features(encoded, task)
                yield found

        return run

    def seconds_per_voxel(self, window: Shape3, channels: int, task: int, modality: int) -> float:
        """Time one window.

        Args:
            window: (D, H, W) in voxels.
            channels: the image's channels.
            task: index of the task in the model.
            modality: index of the modal prompt.

        Returns:
            Seconds for each voxel of a window, without the preparation of kernels.

        Raises:
            MemoryError: memory does not suffice, as does RuntimeError on an accelerator.
        """
        network = self.for_tasks([task], modality)
        images = torch.zeros((1, channels, *window), device=self.device)
        seconds = []
        with torch.inference_mode():
            for _ in range(2):  # the first pass prepares kernels
                began = time.perf_counter()
                for logits in network(images.contiguous(memory_format=torch.channels_last_3d), [0]):
                    float(logits.flatten()[0])  # waits for an accelerator
                seconds.append(time.perf_counter() - began)
        return min(seconds) / math.prod(window)


class Engines:
    """A session's networks by device and pack, each built when it is first asked for.

    A pack is merged into a copy of the weights: a window then takes no longer than with the model alone, and nothing
    changes under a pass that runs in another thread. A few refined networks are kept.

    Args:
        model: the model.
        device: the session's device.
        dtype: the dtype of the convolutions there; elsewhere it is chosen anew.
        compile: as for `Engine`.
    """

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype, compile: bool) -> None:
        self._model = model
        self._device = device
        self._dtype = dtype
        self._compile = compile
        self._made: dict[tuple[torch.device, str | None], Engine] = {}
        self._making = threading.Lock()  # several images may be segmented at once

    def __len__(self) -> int:
        return len(self._made)

    def __call__(self, device: torch.device, pack: Pack | None = None) -> Engine:
        """Find the network on a device.

        Args:
            device: the device.
            pack: the pack that refines the network; None for the model alone.

        Returns:
            The network.
        """
        key = _key(device, pack)
        with self._making:
            if key not in self._made:
                self._make_room()
                # fp32 stays what it is; a half precision of the session's device need not exist on another one
                kept = device == self._device or self._dtype == torch.float32
                dtype = self._dtype if kept else resolve_precision("auto", device)
                self._made[key] = Engine(self._network(pack), device, dtype, self._compile)
            return self._made[key]

    def exact(self, pack: Pack | None = None) -> ExactEngines:
        """Give the same network in fp32, for one image that needs it.

        Args:
            pack: the pack that refines the network; None for the model alone.

        Returns:
            The network by device.
        """
        return ExactEngines(lambda: self._network(pack), lambda device: self._made.get(_key(device, pack)))

    def _network(self, pack: Pack | None) -> Network:
        return self._model.network if pack is None else refined_network(self._model, pack)

    def _make_room(self) -> None:
        """Make room for one more refined network; the oldest ones go first."""
        refined = [key for key in self._made if key[1] is not None]
        for key in refined[: len(refined) - _REFINED_NETWORKS + 1]:
            del self._made[key]


def _key(device: torch.device, pack: Pack | None) -> tuple[torch.device, str | None]:
    return device, None if pack is None else pack.sha256


class ExactEngines:
    """A network in fp32 by device, for one image that needs it: made when asked for, gone with this object.

    ``network`` gives the network, ``made`` the session's engine on a device, where there is one. Nothing is compiled
    for one image.
    """

    def __init__(self, network: Callable[[], Network], made: Callable[[torch.device], Engine | None]) -> None:
        self._network = network
        self._made = made
        self._engines: dict[torch.device, Engine] = {}

    def __call__(self, device: torch.device) -> Engine:
        """Find the engine for a device.

        Args:
            device: where the image is to be segmented.

        Returns:
            The session's own engine where that is exact, else one of this object's.
        """
        kept = self._made(device)
        if kept is not None and kept.dtype == torch.float32:
            return kept
        if device not in self._engines:
            self._engines[device] = Engine(self._network(), device, torch.float32)
        return self._engines[device]
