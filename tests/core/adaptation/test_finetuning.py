"""Fine-tuning: the recipe, what learns, what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from small_network import plan, save_base, write_discs

from meduniseg_core.adaptation.finetune import finetune, finetune_config
from meduniseg_core.adaptation.gate import Side, gate
from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import CancelledError, UsageError
from meduniseg_core.events import CancelToken, Progress
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image, write_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.model import build_model
from meduniseg_core.preprocessing import RawDataset, check_dataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.weights import Model, load_model, save_model


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    folder = write_discs(tmp_path / "Dataset001_Discs")
    describe(folder)
    return folder


def describe(folder: Path, **changes: object) -> None:
    """Write dataset.json."""
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "blob": 1},
        "file_ending": ".png",
        "modality": "ultrasound",
        "task": "disc",
    }
    (folder / "dataset.json").write_text(json.dumps(content | changes))


def short_config(discs: Path, base: Model, tmp_path: Path) -> TrainingConfig:
    """A fine-tuning that is validated along the way."""
    return finetune_config(
        discs,
        base,
        "mine",
        tmp_path / "tuned",
        iterations=300,
        device="cpu",
        precision="fp32",
        overrides={"validation_fraction": 0.3, "validation_every": 2},
    )


def test_the_prompt_stays_and_the_rest_learns(base: Model, discs: Path, tmp_path: Path) -> None:
    config = short_config(discs, base, tmp_path)
    assert config.epochs == 6 and config.plan["disc"].longest_side == 32
    result = finetune(discs, base, config)
    tuned = load_model(result.model)
    before, after = base.network.state_dict(), tuned.network.state_dict()
    torch.testing.assert_close(after["modal_map.prompts"], before["modal_map.prompts"][1:])
    assert not torch.equal(after["modal_map.linear.weight"], before["modal_map.linear.weight"])
    assert not torch.equal(after["encoder.stems.1.weight"], before["encoder.stems.1.weight"])
    assert tuned.info.provenance["base_sha256"] == base.sha256 and tuned.info.provenance["head"] == "kept"
    assert result.best_dice is not None and result.best_dice > 0.7
    image = read_image(discs / "imagesTr" / "disc_0_0000.png")
    found = Predictor(tuned, "cpu", "fp32").segment(image, ["disc"])["disc"]
    assert found.class_names == ("blob",) and found.labels.array.any()


def test_it_can_be_resumed_but_not_from_another_base(base: Model, discs: Path, tmp_path: Path) -> None:
    config = finetune_config(discs, base, "mine", tmp_path / "tuned", iterations=50, device="cpu", precision="fp32")
    finetune(discs, base, config)
    finetune(discs, base, config, resume=True)
    with torch.no_grad():
        base.network.encoder.stem_norm.weight.add_(1)
    save_model(tmp_path / "other.safetensors", base.info, base.network.state_dict())
    with pytest.raises(Exception, match="another configuration"):
        finetune(discs, load_model(tmp_path / "other.safetensors"), config, resume=True)


def test_a_ledger_s_own_split_is_the_run_s(base: Model, discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger.create(
        folder, task="disc", modality="ultrasound", classes=("blob",), channels=("grey",), file_ending=".png"
    )
    for index in range(4):
        image = read_image(discs / "imagesTr" / f"disc_{index}_0000.png")
        ledger.accept(image, read_labels(discs / "labelsTr" / f"disc_{index}.png"), patient=f"p{index}")
    config = finetune_config(folder, base, "mine", tmp_path / "tuned", iterations=50, device="cpu", precision="fp32")
    finetune(folder, base, config)
    kept = json.loads((config.output / "split.json").read_text())["disc"]
    split = ledger.split()
    assert kept["validation"] and dict.fromkeys(kept["validation"], "validation").items() <= split.items()
    assert {case for case, own in split.items() if own == "training"} == set(kept["train"])


def test_a_run_goes_on_with_the_cases_it_began_with_whatever_is_accepted_meanwhile(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger.create(
        folder, task="disc", modality="ultrasound", classes=("blob",), channels=("grey",), file_ending=".png"
    )

    def accept(index: int, wrong: bool = False) -> str:
        labels = read_labels(discs / "labelsTr" / f"disc_{index}.png")
        given = labels.with_array(1 - labels.array) if wrong else labels
        return ledger.accept(read_image(discs / "imagesTr" / f"disc_{index}_0000.png"), given).case

    first = {accept(index) for index in range(3)}
    options = {"iterations": 100, "device": "cpu", "precision": "fp32", "overrides": {"checkpoint_every": 1}}
    config = finetune_config(folder, base, "mine", tmp_path / "tuned", **options)
    cancel = CancelToken()

    def stop(event: object) -> None:
        if isinstance(event, Progress) and event.stage == "train" and event.done > 60:
            cancel.cancel()

    with pytest.raises(CancelledError):
        finetune(folder, base, config, events=stop, cancel=cancel)
    accept(3)
    accept(0, wrong=True)
    assert finetune(folder, base, finetune_config(folder, base, "mine", tmp_path / "tuned", **options), resume=True)
    used = json.loads((config.output / "cases.json").read_text())["disc"]
    assert {*used["train"], *used["validation"]} == first
    snapshot = Ledger.open(config.output / "data" / "disc")
    assert len(snapshot.entries()) == 3 and len(ledger.entries()) == 5
    kept = read_labels(snapshot.files.labels(sorted(first)[0]))
    assert 0 < kept.array.mean() < 0.5


def test_quick_adapt_learns_from_the_newest_prediction_that_was_corrected(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger.create(
        folder, task="disc", modality="ultrasound", classes=("blob",), channels=("grey",), file_ending=".png"
    )
    cases = []
    for index in range(3):
        image = read_image(discs / "imagesTr" / f"disc_{index}_0000.png")
        labels = read_labels(discs / "labelsTr" / f"disc_{index}.png")
        nothing = labels.with_array(np.zeros_like(labels.array))
        for predicted in {0: [nothing, labels], 1: [nothing], 2: [None]}[index]:
            entry = ledger.accept(image, labels, patient=f"p{index}", predicted=predicted)
        cases.append(entry.case)
    options = {"iterations": 50, "device": "cpu", "precision": "fp32"}
    config = finetune_config(folder, base, "mine", tmp_path / "tuned", quick=True, **options)
    assert set(config.predictions) == {cases[0], cases[1]}
    assert config.predictions[cases[0]].name == f"{cases[0]}.2.png"
    assert config.correction_oversampling > 0 and config.correction_weight > 1
    finetune(folder, base, config)
    changed = {case: np.load(config.cache / "disc" / f"{case}_changed.npy") for case in cases[:2]}
    assert not changed[cases[0]].any() and changed[cases[1]].any()
    assert not (config.cache / "disc" / f"{cases[2]}_changed.npy").exists()
    plain = finetune_config(folder, base, "mine", tmp_path / "plain")
    assert plain.predictions == {} and plain.correction_oversampling == 0 and plain.correction_weight == 1
    assert (plain.total_iterations, config.total_iterations) == (25_000, 50)
    assert finetune_config(discs, base, "mine", tmp_path / "no_ledger", quick=True).predictions == {}


def test_a_task_that_the_base_knows_is_preprocessed_as_the_base_does(base: Model, discs: Path, tmp_path: Path) -> None:
    assert Downstream(base).plan_of(RawDataset.open(discs)) is None
    content = json.loads((discs / "dataset.json").read_text())
    (discs / "dataset.json").write_text(json.dumps({**content, "task": "second"}))
    config = finetune_config(discs, base, "mine", tmp_path / "tuned", iterations=50, device="cpu", precision="fp32")
    config = config.model_copy(update={"plan": {"second": config.plan["second"].model_copy(update={"batch": 3})}})
    own = base.info.plan_of("second").model_copy(update={"batch": 3})
    (tuned,) = load_model(finetune(discs, base, config).model).info.tasks
    assert tuned.statistics is not None  # of what it was tuned on; all else is the base's
    assert tuned.model_copy(update={"statistics": None}) == own.model_copy(update={"statistics": None})


def test_where_memory_is_short_the_batch_gets_smaller_and_a_resumed_run_keeps_it(
    base: Model, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meduniseg_core.adaptation import finetune as module

    monkeypatch.setattr(module, "free_bytes", lambda _device: 700_000)
    config = finetune_config(discs, base, "small", tmp_path, iterations=50, device="cpu", precision="fp32")
    assert config.plan["disc"].batch == 1 and config.plan["disc"].patch == (1, 32, 32)
    finetune(discs, base, config)
    monkeypatch.undo()
    again = finetune_config(discs, base, "small", tmp_path, iterations=50, device="cpu", precision="fp32")
    assert again.plan["disc"].batch == 1
    finetune(discs, base, again, resume=True)
    elsewhere = finetune_config(discs, base, "small", tmp_path / "new", iterations=50, device="cpu", precision="fp32")
    assert elsewhere.plan["disc"].batch == 2


def test_few_iterations_have_the_paper_s_step_with_less_momentum(base: Model, discs: Path, tmp_path: Path) -> None:
    paper = finetune_config(discs, base, "mine", tmp_path, iterations=25_000)
    assert (paper.learning_rate, paper.momentum) == (0.01, 0.99)
    for config in (
        finetune_config(discs, base, "mine", tmp_path, iterations=500),
        finetune_config(discs, base, "mine", tmp_path, iterations=500, quick=True),
    ):
        assert config.momentum == 0.9
    short = finetune_config(discs, base, "mine", tmp_path, iterations=500)
    assert short.learning_rate / (1 - short.momentum) == pytest.approx(paper.learning_rate / (1 - paper.momentum))


def test_a_new_task_has_the_pixel_size_of_its_kind_and_the_largest_patch_the_base_knows(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    first, second = base.info.tasks
    larger = first.model_copy(update={"patch": (1, 64, 96), "batch": 1, "longest_side": 100})
    other = replace(base, info=base.info.model_copy(update={"tasks": (larger, second)}))
    plan = finetune_config(discs, other, "mine", tmp_path, device="cpu").plan["disc"]
    assert (plan.patch, plan.batch, plan.longest_side) == ((1, 64, 96), 1, 32)


def test_a_task_of_the_same_name_keeps_what_its_results_and_ct_are_treated_by(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    own, second = base.info.tasks
    assert own.task != "disc"
    kept = own.model_copy(
        update={
            "task": "disc",
            "classes": ("blob", "gone"),
            "largest_only": ("blob", "gone"),
            "hu_window": (-5.0, 90.0),
        }
    )
    other = replace(base, info=base.info.model_copy(update={"tasks": (kept, second)}))
    settings = finetune_config(discs, other, "mine", tmp_path, device="cpu").plan["disc"]
    assert (settings.largest_only, settings.hu_window) == (("blob",), (-5.0, 90.0))
    assert finetune_config(discs, base, "mine", tmp_path, device="cpu").plan["disc"].largest_only is None
    config = finetune_config(discs, other, "mine", tmp_path / "tuned", iterations=50, device="cpu", precision="fp32")
    (tuned,) = load_model(finetune(discs, other, config).model).info.tasks
    assert (tuned.classes, tuned.largest_only, tuned.hu_window) == (("blob",), ("blob",), (-5.0, 90.0))
    wrong = {"disc": config.plan["disc"].model_copy(update={"largest_only": ("gone",)})}
    with pytest.raises(UsageError, match="largest_only names gone"):
        finetune(discs, other, config.model_copy(update={"plan": wrong, "output": tmp_path / "wrong"}))


@pytest.fixture
def base_3d(tmp_path: Path) -> Model:
    """Knows volumes, in patches as deep as they are wide."""
    cubes = plan("cube", "xray", ("cube",)).model_copy(
        update={"dimension": 3, "spacing": (1, 1, 1), "longest_side": None, "patch": (16, 16, 16), "batch": 1}
    )
    return save_base(tmp_path / "model", cubes, plan("second", "ultrasound", ("blob",)))


@pytest.fixture
def slabs(tmp_path: Path) -> Path:
    """Volumes of three thick slices, each with a bright box."""
    folder = tmp_path / "Dataset003_Slabs"
    rng = np.random.default_rng(0)
    for index in range(4):
        box = np.zeros((1, 3, 40, 36), np.uint8)
        box[:, 1:, 10:24, 8 + index : 20 + index] = 1
        geometry = Geometry((3, 40, 36), (8.0, 1.0, 1.0))
        write_image(
            Image(rng.normal(60, 10, box.shape).astype(np.float32) + 80 * box, geometry),
            folder / "imagesTr" / f"slab_{index}_0000.nii.gz",
        )
        write_labels(Image(box, geometry), folder / "labelsTr" / f"slab_{index}.nii.gz")
    describe(folder, task="slab", file_ending=".nii.gz", labels={"background": 0, "box": 1})
    return folder


def test_the_patch_of_new_volumes_has_their_shape_and_the_voxels_of_the_base_s_largest(
    base_3d: Model, slabs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meduniseg_core.adaptation import finetune as module

    options = {"iterations": 50, "device": "cpu", "precision": "fp32"}
    config = finetune_config(slabs, base_3d, "mine", tmp_path / "tuned", **options)
    (tuned,) = load_model(finetune(slabs, base_3d, config).model).info.tasks
    assert tuned.patch[0] <= 4 and 16**3 // 2 < np.prod(tuned.patch) * tuned.batch <= 16**3
    resumed = finetune_config(slabs, base_3d, "mine", tmp_path / "tuned", **options)
    assert resumed.plan["slab"].patch == tuned.patch and resumed.plan["slab"].batch == tuned.batch
    finetune(slabs, base_3d, resumed, resume=True)  # which refuses a run of other settings
    monkeypatch.setattr(module, "free_bytes", lambda _device: 1_000_000)
    scarce = finetune_config(slabs, base_3d, "mine", tmp_path / "scarce", **options).plan["slab"]
    assert scarce.patch_voxels == scarce.batch_voxels is not None and scarce.batch_voxels < 16**3


def test_what_the_base_knows_is_spared_in_short_trainings(base: Model, discs: Path, tmp_path: Path) -> None:
    def rates(**options: object) -> dict[str, tuple[float, int]]:
        config = finetune_config(discs, base, "mine", tmp_path, **{"iterations": 300, "device": "cpu", **options})
        names = build_model(base.info.config).state_dict()
        return {name: (config.share_of(name), config.warm_up_of(name)) for name in names}

    def apart(found: dict[str, tuple[float, int]]) -> set[tuple[float, int]]:
        """Whether those that have the full rate at once are the heads; what the others have."""
        assert {name for name, rate in found.items() if rate == (1, 0)} == {name for name in found if ".head." in name}
        return set(found.values()) - {(1, 0)}

    assert apart(rates()) == {(0.1, 0)}  # "blob" in ultrasound
    describe(discs, labels={"background": 0, "cyst": 1})
    assert apart(rates()) == {(1, 50)}
    assert apart(rates(iterations=1)) == apart(rates(iterations=50)) == {(1, 16)}  # whole epochs of 50
    describe(discs, modality="pet")
    assert set(rates().values()) == {(1, 0)}
    for labels in ({"background": 0, "blob": 1}, {"background": 0, "cyst": 1}):
        describe(discs, labels=labels)
        assert set(rates(iterations=25_000).values()) == set(rates(quick=True).values()) == {(1, 0)}


def test_data_of_more_channels_than_the_base_has_stems_for_can_be_learnt(base: Model, tmp_path: Path) -> None:
    folder = write_discs(tmp_path / "Dataset002_Pairs")
    for path in list((folder / "imagesTr").iterdir()):
        path.with_name(path.name.replace("_0000", "_0001")).write_bytes(path.read_bytes())
    describe(folder, channel_names={"0": "first", "1": "second"})
    config = finetune_config(folder, base, "pairs", tmp_path / "tuned", iterations=50, device="cpu", precision="fp32")
    tuned = load_model(finetune(folder, base, config).model)
    assert tuned.info.config.stems == (2,) and tuned.info.provenance["stem_of_channels"] == 1


def test_images_with_small_objects_are_scaled_down_less(base: Model, discs: Path, tmp_path: Path) -> None:
    def longest_side() -> int | None:
        return finetune_config(discs, base, "mine", tmp_path, iterations=50, device="cpu").plan["disc"].longest_side

    dots = np.zeros((400, 400), np.uint8)
    for y in range(20, 380, 60):
        for x in range(20, 380, 60):
            dots[y : y + 16, x : x + 16] = 1  # as large as a circle of 18 pixels
    for path in (discs / "labelsTr").iterdir():
        PillowImage.fromarray(dots).save(path)
    assert longest_side() == 288  # 12 pixels would be 267
    for path in (discs / "labelsTr").iterdir():
        dots = np.zeros((60, 60), np.uint8)
        dots[::6, ::6] = 1
        PillowImage.fromarray(dots).save(path)
    assert longest_side() == 60  # more than the images have is no use


def test_what_nobody_has_looked_at_is_learnt_from_and_judged_as_unknown(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    """Half of every label map is "ignore", whose true labels are wrong: training, validation and gate end well."""
    describe(discs, labels={"background": 0, "blob": 1, "ignore": 2})
    for path in (discs / "labelsTr").iterdir():
        mask = np.array(PillowImage.open(path))
        mask[:, :16] = 2
        PillowImage.fromarray(mask).save(path)
    assert check_dataset(RawDataset.open(discs)) == []
    config = short_config(discs, base, tmp_path)
    result = finetune(discs, base, config)
    tuned = load_model(result.model)
    assert tuned.info.plan_of("disc").classes == ("blob",)
    assert result.best_dice is not None and result.best_dice > 0.7
    dataset = RawDataset.open(discs)
    cases = [case.case for case in dataset.cases("Tr")][:2]
    sides = [Side(model.info.name, model.sha256, Predictor(model, "cpu", "fp32")) for model in (base, tuned)]
    report = gate(*sides, dataset, cases)
    for pair, case in zip(report.pairs, dataset.cases("Tr"), strict=False):
        truth = read_labels(case.label).array
        found = sides[1].predictor.segment(read_image(case.images), "disc")["disc"].labels.array
        seen = truth != 2
        both = np.count_nonzero((found == 1) & (truth == 1) & seen)
        dice = 2 * both / (np.count_nonzero((found == 1) & seen) + np.count_nonzero(truth == 1))
        assert pair.after.classes[0].dice == pytest.approx(dice)
