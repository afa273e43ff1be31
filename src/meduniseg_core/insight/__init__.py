"""A look inside a trained model: its task and modal priors, what it takes for alike, and what it costs."""

from meduniseg_core.insight.embedding import Embedding, embed
from meduniseg_core.insight.neighbours import Neighbour, neighbours
from meduniseg_core.insight.priors import PriorSample, modal_maps, sample_priors

__all__ = ["Embedding", "Neighbour", "PriorSample", "embed", "modal_maps", "neighbours", "sample_priors"]
