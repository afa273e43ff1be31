"""Named GPUs: their memory and the rate of dense matrix products in bf16 (fp16 where there is none), by their makers'
data sheets, and the share of it that this project's steps reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """TFLOP/s of dense products, and GiB."""

    name: str
    peak: float
    memory: int


GPUS = (
    Gpu("V100 (fp16)", 125, 32),
    Gpu("RTX 3090", 71, 24),
    Gpu("RTX 4090", 165, 24),
    Gpu("A100", 312, 80),
    Gpu("L40S", 362, 48),
    Gpu("H100 SXM", 989, 80),
)

MEASURED_SHARE = 0.12
"""Of the peak: the one measurement there is, the forward pass of the paper's network on an H100 in fp32 with TF32: 59
of 495 TFLOP/s (docs/how-to/cluster.md)."""

HOPED_SHARE = 0.30
"""What well-tuned 3D convolutions reach; not measured here."""
