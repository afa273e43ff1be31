"""Adaptation: fine-tuning on corrections, refinement by LoRA, the gate between a candidate and its base, and runs."""
