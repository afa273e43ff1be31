"""Other papers' networks for one task, for comparisons (docs/spec.md section 15)."""

from meduniseg_core.model.peers.cotr import CoTr
from meduniseg_core.model.peers.mit import MiT
from meduniseg_core.model.peers.nnformer import NNFormer
from meduniseg_core.model.peers.swin_unetr import SwinUNETR
from meduniseg_core.model.peers.u_kan import UKAN
from meduniseg_core.model.peers.u_mamba import UMambaBot
from meduniseg_core.model.peers.unetr import UNETR
from meduniseg_core.model.peers.ux_net import UXNet

__all__ = ["UKAN", "UNETR", "CoTr", "MiT", "NNFormer", "SwinUNETR", "UMambaBot", "UXNet"]
