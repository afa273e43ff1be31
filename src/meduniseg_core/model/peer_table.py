"""Other papers' networks for one task, as data: their names, their papers' sizes and the images that they serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

_FEWEST = 3
_HALVED = (2, 2, 2)
Strides = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Peer:
    """A network of `meduniseg_core.model.peers` (docs/spec.md section 15).

    ``builder`` is the name of its class there. ``features`` are its paper's widths, the image's resolution first, and
    ``strides`` lie between them; both None: the backbone's. A network with strides of its own has no others, and may
    only have fewer stages. ``strided``: it begins with a stride and has no stage of the image's size, so that the first
    two features are the same; ``one_sequence``: the last two sizes are attended to together and have one width.
    """

    name: str
    builder: str
    dimensions: tuple[Literal[2, 3], ...] = (2, 3)
    features: tuple[int, ...] | None = None
    strides: Strides | None = None
    strided: bool = False
    one_sequence: bool = False

    @property
    def sizes(self) -> dict[str, Any]:
        """Its paper's sizes as settings of an architecture."""
        given = {"features": self.features, "strides": self.strides}
        return {name: value for name, value in given.items() if value is not None}

    def check(self, features: tuple[int, ...], strides: Strides, dimension: int) -> None:
        """Check that the network can be built so.

        Args:
            features: widths of its stages.
            strides: between its stages, (D, H, W).
            dimension: 2 or 3.

        Raises:
            ValueError: it does not serve such images, or has other strides or widths.
        """
        if dimension not in self.dimensions:
            serves = "volumes, not for 2D images" if dimension == 2 else "2D images, not for volumes"
            raise ValueError(f"{self.name} is for {serves}")
        if self.strides is not None and strides != self.strides[: len(strides)]:
            raise ValueError(f"{self.name} has strides of its own, {self.strides}; leave strides out")
        if self.strides is not None and len(features) < _FEWEST:
            raise ValueError(f"{self.name} has {_FEWEST} features at least")
        if self.strided and features[0] != features[1]:
            raise ValueError(f"{self.name} begins with a stride: its first two features are the same")
        if self.one_sequence and features[-1] != features[-2]:
            raise ValueError(f"{self.name} makes one sequence of its last two sizes: their features are the same")


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("u-mamba-bot", "UMambaBot"),
        Peer("nnformer", "NNFormer", (3,), (192, 192, 384, 768, 1536), ((2, 4, 4), *(_HALVED,) * 3), strided=True),
        Peer(
            "cotr",
            "CoTr",
            (3,),
            (64, 64, 192, 384, 384),
            ((1, 2, 2), *(_HALVED,) * 3),
            strided=True,
            one_sequence=True,
        ),
        Peer("mit", "MiT", (2, 3), (32, 32, 48, 128, 256, 512), ((1, 2, 2), *(_HALVED,) * 4), strided=True),
        Peer("swin-unetr", "SwinUNETR", (3,), (48, 48, 96, 192, 384, 768), (_HALVED,) * 5),
        Peer("unetr", "UNETR", (3,), (16, 32, 64, 128, 768), (_HALVED,) * 4),
        Peer("u-kan", "UKAN", (2,), (16, 16, 32, 128, 160, 256), ((1, 2, 2),) * 5),
        Peer("ux-net", "UXNet", (3,), (48, 96, 192, 384, 768), (_HALVED,) * 4),
    )
}
