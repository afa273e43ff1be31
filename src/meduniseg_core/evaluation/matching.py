"""Whether the label ids of predictions and references mean the same classes. If they do not, scores mean little.

The rule looks at all cases together. If no id occurs on both sides and each side holds a single one, the masks are
binary (0/255 and 0/1, say) and the two ids are one class, which a finding says. With several ids and none in common,
nothing is guessed. Two ids that both have a class name stay two classes. Names that label files carry (3D Slicer's
segments) must agree. Ids that meet and lie at each other's places are said: classes in another order, an
inverted mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Finding, Image

_ELSEWHERE = 0.5  # Dice with another label from which on the two may be one class
_INVERTED = 0.8  # Dice of a label with the other side's background


@dataclass
class Sides:
    """The foreground ids that occur in predictions and in references, and the names that the files give them."""

    ignored: int | None = None
    trust_names: bool = True
    predicted: set[int] = field(default_factory=set)
    referred: set[int] = field(default_factory=set)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)  # id -> (name, the file that says so)
    _joint: Counter[tuple[int, int]] = field(default_factory=Counter)  # (predicted, reference) -> voxels

    def add(self, prediction: Image | None, reference: Image) -> None:
        """Add the ids and names of one case.

        Args:
            prediction: its label map, if there is one.
            reference: its reference, on the same grid.

        Raises:
            BadInputError: two files call an id by different names.
        """
        if prediction is not None:
            self._count(prediction.array, reference.array)
        for labels, ids in ((prediction, self.predicted), (reference, self.referred)):
            if labels is None:
                continue
            ids |= {int(label) for label in np.unique(labels.array)} - {0, self.ignored}
            for label, name in labels.meta.get("class_names", {}).items() if self.trust_names else ():
                known, where = self.names.setdefault(int(label), (str(name), labels.name))
                if known != name:
                    raise BadInputError(
                        f"{where} calls the label {label} '{known}' and {labels.name} calls it '{name}'; save both "
                        "with the same ids, or name the ids with --classes to compare by id alone."
                    )

    def same_class(self, named: Mapping[int, str] | None) -> int | None:
        """Find out whether both sides are binary masks of one class whose ids differ.

        Args:
            named: The classes by id, where they were given.

        Returns:
            The id that stands for the class; None where an id occurs on both sides, or the ids may differ.

        Raises:
            BadInputError: There are several ids, and none occurs on both sides.
        """
        if not self.predicted or not self.referred or self.predicted & self.referred:
            return None
        if named is not None and self.predicted | self.referred <= named.keys():
            return None
        if len(self.predicted) == len(self.referred) == 1:
            (guess,), (truth,) = self.predicted, self.referred
            classes = [label for label in (truth, guess) if named is None or label in named] or [*(named or ())]
            if named is None or len(classes) == 1:
                return classes[0]
        raise BadInputError(
            f"The predictions hold the labels {_listed(self.predicted)} and the references {_listed(self.referred)}, "
            "which never meet; save both with the same ids."
        )

    def check_named(self, named: Mapping[int, str]) -> None:
        """Check that a class occurs in some label map: otherwise nothing is left to measure.

        Args:
            named: the classes by id.

        Raises:
            BadInputError: the label maps hold classes, and none of these.
        """
        found = self.predicted | self.referred
        if found and not found & named.keys():
            raise BadInputError(
                f"The label maps hold the labels {_listed(found)}, and the classes are {_listed(named)} "
                f"({', '.join(named.values())}); name the classes that they hold."
            )

    def nowhere(self, named: Mapping[int, str] | None) -> str | None:
        """Say which classes no label map holds: they count as found, and raise the mean.

        Args:
            named: the classes by id, where they were given.

        Returns:
            A sentence, or None if all occur.
        """
        found = self.predicted | self.referred
        if named is None:
            return None if found else "No label map holds any label: a Dice of 1 says only that."
        absent = [name for label, name in named.items() if label not in found and label != self.ignored]
        return f"No label map holds {', '.join(absent)}: a Dice of 1 says only that." if absent else None

    def matched(self, label: int, name: str) -> Finding:
        """Make the finding that the ids of binary masks were taken for one class.

        Args:
            label: the id that stands for the class.
            name: the class.

        Returns:
            The finding.
        """
        text = (
            f"The predictions hold only the label {_listed(self.predicted)} and the references only "
            f"{_listed(self.referred)}: both were taken for {name} (binary masks)."
        )
        return Finding("labels_matched", text)

    def swapped(self, only: int | None) -> Iterator[Finding]:
        """Look for labels that lie where the other side has another label, or nothing.

        Args:
            only: the id that stands for the class of binary masks (see `same_class`), whose ids may differ.

        Yields:
            A warning for each.
        """
        binary = len(self.predicted) == len(self.referred) == 1  # `same_class` has judged it
        for label in sorted(self.predicted):
            own = self._dice({label}, {label})
            for other in sorted(self.referred - {label}) if only is None and not binary else ():
                dice = self._dice({label}, {other})
                if dice >= _ELSEWHERE and max(own, self._dice({other}, {other})) < dice / 2:
                    text = (
                        f"Label {label} of the predictions lies where the references hold label {other} (Dice "
                        f"{dice:.2f}; with label {label} {own:.2f}): check that both sides number their classes alike."
                    )
                    yield Finding("labels_swapped", text)
        # a mask is inverted whether the other side has one class or several, which then are its background together
        if min(self._dice(self.predicted, {0}), self._dice({0}, self.referred)) >= _INVERTED:
            text = (
                f"The predictions' labels ({_listed(self.predicted)}) cover the references' background, and the "
                f"references' labels ({_listed(self.referred)}) the predictions': one side seems to be inverted."
            )
            yield Finding("labels_swapped", text)

    def _count(self, guess: np.ndarray, truth: np.ndarray) -> None:
        """Count the voxels of each pair of labels; those that are ignored do not count."""
        theirs = np.unique(truth)
        for label in np.unique(guess):
            counts = np.bincount(np.searchsorted(theirs, truth[guess == label]), minlength=len(theirs))
            pairs = {(int(label), int(other)): int(n) for other, n in zip(theirs, counts, strict=True)}
            self._joint.update({pair: n for pair, n in pairs.items() if n and pair[1] != self.ignored})

    def _dice(self, ours: Set[int], theirs: Set[int]) -> float:
        """Dice of labels of the predictions with labels of the references, over the voxels of all cases."""
        both = total = 0
        for (guess, truth), count in self._joint.items():
            both += count * (guess in ours and truth in theirs)
            total += count * ((guess in ours) + (truth in theirs))
        return 2 * both / total if total else 0.0

    def one_sided(self) -> str | None:
        """Say which ids occur on one side only.

        Returns:
            A sentence, or None if there are none.
        """
        parts = [
            f"{who} only: {_listed(ids)}"
            for who, ids in (
                ("in the predictions", self.predicted - self.referred),
                ("in the references", self.referred - self.predicted),
            )
            if ids and self.predicted and self.referred
        ]
        return f"Labels that occur {'; '.join(parts)}." if parts else None


def _listed(ids: Iterable[int]) -> str:
    return ", ".join(str(label) for label in sorted(ids))
