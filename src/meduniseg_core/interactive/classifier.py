"""A linear voxel classifier (logistic regression), as data that a file can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sklearn.linear_model import LogisticRegression

from meduniseg_core.images.boxes import Slices
from meduniseg_core.interactive.features import FeaturePart

STRENGTH = 0.1
"""scikit-learn's C, the inverse of the regularisation; tried on six training images only."""

_MOST = 4000  # voxels of one class that the classifier learns from
Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]


class PartWeights(BaseModel):
    """The weights of one part's features: ``weights`` has one row for each class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    weights: tuple[tuple[Number, ...], ...] = Field(min_length=2, max_length=256)


class VoxelClassifier(BaseModel):
    """``argmax_k sum_parts weights_k . standardised features + bias_k``, for the labels ``classes``.

    Features are standardised by each image's own moments, so a classifier of one image suits the next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = Field(min_length=2, max_length=256)
    parts: tuple[PartWeights, ...] = Field(min_length=1, max_length=16)
    bias: tuple[Number, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        for part in self.parts:
            if len(part.weights) != len(self.classes) or len({len(row) for row in part.weights}) != 1:
                raise ValueError(f"the weights of {part.name} need one row of equal length for each class")
            if not 1 <= len(part.weights[0]) <= 4096:
                raise ValueError(f"the weights of {part.name} are for an impossible number of features")
        if len(self.bias) != len(self.classes):
            raise ValueError("the bias needs one number for each class")
        return self

    @classmethod
    def fit(
        cls,
        parts: Sequence[FeaturePart],
        where: tuple[np.ndarray, ...],
        labels: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> VoxelClassifier:
        """Learn from labelled voxels; every class has the same weight, however many voxels it has.

        Args:
            parts: features of the image.
            where: three index arrays (n,).
            labels: (n,) of at least two classes.
            weights: (n,), the weight of each voxel; None for equal weights.

        Returns:
            The classifier.

        Raises:
            ValueError: there are fewer than two classes.
        """
        chosen = _some(labels)
        place, known = tuple(index[chosen] for index in where), labels[chosen]
        given = None if weights is None else weights[chosen]
        features = np.concatenate([_standardised(part, part.at(place)) for part in parts], axis=1)
        model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=100, tol=1e-3)
        model.fit(features, known, sample_weight=given)
        rows, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # one row of log-odds: half for the one class, half against the other
            rows, bias = np.concatenate([-rows, rows]) / 2, np.array([-bias[0], bias[0]]) / 2
        found, first = [], 0
        for part in parts:
            own = rows[:, first : first + part.channels]
            found.append(PartWeights(name=part.name, weights=tuple(tuple(map(float, row)) for row in own)))
            first += part.channels
        return cls(
            classes=tuple(int(label) for label in model.classes_),
            parts=tuple(found),
            bias=tuple(float(value) for value in bias),
        )

    def fits(self, parts: Sequence[FeaturePart]) -> bool:
        """Check whether the classifier was fitted to such features.

        Args:
            parts: features of an image.

        Returns:
            Whether names and numbers of channels agree.
        """
        own = [(part.name, len(part.weights[0])) for part in self.parts]
        return own == [(part.name, part.channels) for part in parts]

    def scores(self, parts: Sequence[FeaturePart], box: Slices) -> np.ndarray:
        """Compute the classes' scores in a box of the image: log-probabilities up to a term that all classes share.

        Args:
            parts: features of the image.
            box: slices of its grid.

        Returns:
            float32 (classes, d, h, w).
        """
        total: np.ndarray | None = None
        bias = np.asarray(self.bias, np.float32)
        for part, own in zip(parts, self.parts, strict=True):
            mean, spread = part.moments
            weights = (np.asarray(own.weights, np.float32) / spread).astype(np.float32)
            bias = bias - weights @ mean
            scores = part.scores(weights, box)
            total = scores if total is None else np.add(total, scores, out=total)
        assert total is not None
        total += bias[:, None, None, None]
        return total


def _standardised(part: FeaturePart, values: np.ndarray) -> np.ndarray:
    mean, spread = part.moments
    found: np.ndarray = (values - mean) / spread
    return found


def _some(labels: np.ndarray) -> np.ndarray:
    """A regular sample of the voxels of large classes: neighbouring voxels are nearly alike."""
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        chosen.append(own[np.linspace(0, own.size - 1, min(own.size, _MOST)).astype(np.intp)])
    return np.sort(np.concatenate(chosen))
