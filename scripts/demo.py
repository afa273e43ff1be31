"""The demo: real images through the starter model, pictures and figures of what came out.

A fundus photograph that comes with scikit-image is always there; two volumes join it where the development images are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core import load_model, read_image
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.evaluation import overlay, png_bytes
from meduniseg_core.files import write_bytes
from meduniseg_core.images import Image, find_cases
from meduniseg_core.inference import Predictor
from training_cli.output import console
from training_cli.results import Result, result_of, results_table
from training_cli.session import Session, work

REPOSITORY = Path(__file__).resolve().parent.parent
VOLUMES = (("Dataset101_Hippocampus", "hippocampus"), ("Dataset102_HeadNeckCT", "head_neck_organs"))


@dataclass(frozen=True)
class Example:
    """One image of the demo and what is segmented in it."""

    name: str
    task: str
    path: Path


def photograph(output: Path) -> Example:
    """scikit-image's fundus photograph (1411 x 1411, in its wheel), written to the output folder as PNG."""
    from PIL import Image as PillowImage
    from skimage.data import retina

    output.mkdir(parents=True, exist_ok=True)
    path = output / "retina_image.png"
    PillowImage.fromarray(retina()).save(path)
    return Example("retina", "disc_cup", path)


def volumes(shared: Path) -> list[Example]:
    """The first held-out case of each data set of volumes that is here."""
    examples = []
    for dataset, task in VOLUMES:
        folder = shared / "data" / dataset / "imagesTs"
        if folder.is_dir():
            name, paths = next(iter(find_cases(folder).items()))
            examples.append(Example(name, task, paths[0]))
    return examples


def show(example: Example, predictor: Predictor, output: Path, session: Session) -> Result:
    """Segment one example; write its labels, their provenance and a picture of both."""
    image: Image = read_image(example.path)
    found = predictor.segment(image, [example.task], events=session.events, cancel=session.cancel)[example.task]
    path = found.save(output / f"{example.name}{'.png' if image.is_2d else '.nii.gz'}")
    picture = overlay(image, found.labels, found.colours, longest_side=512 if image.physical else None)
    write_bytes(output / f"{example.name}_overlay.png", png_bytes(picture))
    return result_of(example.name, path, found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "demo_output")
    output = parser.parse_args().output
    out = console(sys.stdout)
    shared = Path(os.environ.get("MEDUNISEG_SHARED", REPOSITORY.parent / "shared"))
    try:
        with work() as session:
            began = time.perf_counter()
            model = load_model("starter")
            predictor = Predictor(model)
            out.print(
                f"Model {model.info.name}, loaded in {time.perf_counter() - began:.1f} s. {model.info.intended_use}"
            )
            examples = [photograph(output), *volumes(shared)]
            results = [show(example, predictor, output, session) for example in examples]
    except MedUniSegError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    out.print(results_table(results))
    for example, result in zip(examples, results, strict=True):
        out.print(f"{example.name}: image {example.path}")
        out.print(f"  labels  {result.path}", f"  picture {output / f'{example.name}_overlay.png'}", sep="\n")
    if len(examples) == 1:
        out.print(f"No volumes were shown: {shared} is not here (MEDUNISEG_SHARED may name it).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
