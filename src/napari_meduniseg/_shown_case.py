"""The case of a worklist that is open in the viewer: its layers, and which corrections are not saved. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_meduniseg import _unsaved
from napari_meduniseg._cases import (
    CaseCorrection,
    OpenedCase,
    add_case_labels,
    add_image,
    case_correction,
    layers_of,
)
from napari_meduniseg._current import Current


@dataclass(eq=False)
class ShownCase:
    """A case whose layers were added to the viewer; the user may have removed some since."""

    opened: OpenedCase
    current: Current
    images: list[ImageLayer] = field(default_factory=list)
    labels: Labels | None = None

    @classmethod
    def show(cls, opened: OpenedCase, current: Current) -> ShownCase:
        """Add a case's image and labels to the viewer, as the current ones."""
        case = cls(opened, current, add_image(opened, current.viewer))
        if case.images:
            current.choose_image(case.images[0])
        case.show_labels(opened)
        return case

    @property
    def name(self) -> str:
        """The case's name."""
        return self.opened.item.name

    @property
    def image(self) -> ImageLayer | None:
        """The case's image; None if there is none, or the user has removed it."""
        image = self.images[0] if self.images else None
        return image if image in self.current.viewer.layers else None

    def show_labels(self, opened: OpenedCase) -> None:
        """Add the labels of this case as it was read now, as the current ones; none where the image is gone."""
        self.opened, image = opened, self.image
        if image is not None:
            self.labels = add_case_labels(opened, image, self.current.viewer)
            if self.labels is not None:
                self.current.choose_labels(self.labels)

    def unsaved(self) -> list[Labels]:
        """The labels of the case's image that are not saved."""
        image = self.image
        return [] if image is None else [one for one in self.current.labels_of(image) if _unsaved.is_unsaved(one)]

    def correction(self, results: Path) -> CaseCorrection | None:
        """Capture what must be saved, for the case's results; None where that is nothing.

        These are the case's own labels or, if it had none, the only layer that the user made.
        """
        unsaved = self.unsaved()
        own = self.labels if self.labels is not None else (unsaved[0] if len(unsaved) == 1 else None)
        if own is None or own not in unsaved:
            return None
        ending = ".png" if self.opened.image.is_2d else ".nii.gz"
        target = self.opened.path or results / f"{self.name}{ending}"
        return case_correction(own, target, list(self.current.viewer.layers))

    def remove(self) -> None:
        """Remove the case's layers from the viewer; all stay if labels that the user made beside them are unsaved."""
        layers = self.current.viewer.layers
        for layer in layers_of(self.images, list(layers)):
            layers.remove(layer)
