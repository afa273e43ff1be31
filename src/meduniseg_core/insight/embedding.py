"""Task priors in two dimensions, and how well they part the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.insight.priors import PriorSample

_COMPONENTS = 30  # of the PCA that t-SNE starts from


@dataclass(frozen=True)
class Embedding:
    """Places of all samples (n, 2) by PCA and by t-SNE, with the task and case of each.

    ``explained`` is the share of the variance that the two components of the PCA have. ``silhouette`` is the mean
    silhouette coefficient (-1 to 1) of the priors themselves, not of the picture, ``by_task`` that of each task.
    """

    tasks: tuple[str, ...]
    cases: tuple[str, ...]
    pca: np.ndarray
    tsne: np.ndarray
    explained: float
    silhouette: float
    by_task: dict[str, float]


def embed(samples: Sequence[PriorSample], *, seed: int = 0) -> Embedding:
    """Embed the priors of two or more tasks.

    Args:
        samples: the priors of each task's own images.
        seed: of t-SNE.

    Returns:
        The embedding.

    Raises:
        UsageError: there are fewer than two tasks, or fewer than two samples of one; or all priors are the same.
    """
    from sklearn.decomposition import PCA  # late: costs a second
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_samples

    if len(samples) < 2 or any(len(one.cases) < 2 for one in samples):
        raise UsageError("An embedding needs two tasks, and two samples of each; give more data sets or samples.")
    rows = np.concatenate([one.own for one in samples]).astype(np.float64)
    if not np.ptp(rows, axis=0).any():  # t-SNE would crash
        raise UsageError(
            "All task priors of the model are the same, so there is nothing to embed; give one that was trained for "
            "longer, or leave out the data sets to see its modal priors and costs alone."
        )
    tasks = np.array([one.task for one in samples for _ in one.cases])
    components = min(_COMPONENTS, *rows.shape)
    pca = PCA(n_components=components, random_state=seed).fit(rows)
    reduced = pca.transform(rows)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    scores = silhouette_samples(rows, tasks)
    return Embedding(
        tasks=tuple(tasks.tolist()),
        cases=tuple(case for one in samples for case in one.cases),
        pca=reduced[:, :2],
        tsne=np.asarray(tsne),
        explained=float(pca.explained_variance_ratio_[:2].sum()),
        silhouette=float(scores.mean()),
        by_task={one.task: float(scores[tasks == one.task].mean()) for one in samples},
    )
