"""Refinement: what learns, what stays bit for bit, what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import plan, save_base, write_discs

from meduniseg_core.adaptation.refine import Refiner, datasets_of, refine, refine_config
from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training import TrainingConfig
from meduniseg_core.training.checkpoint import LAST
from meduniseg_core.training.loop import Trainer
from meduniseg_core.weights import Model, read_pack
from tests.stopping import StopAfter


@pytest.fixture
def base(tmp_path: Path) -> Model:
    return save_base(tmp_path, plan("first", "xray", ("lung", "heart")), plan("disc", "ultrasound", ("blob",)))


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    folder = write_discs(tmp_path / "Dataset001_Discs")
    describe(folder)
    return folder


def describe(folder: Path, **changes: object) -> None:
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "thing": 1},
        "file_ending": ".png",
        "modality": "ultrasound",
        "task": "disc",
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def configured(base: Model, discs: Path, folder: Path, iterations: int = 50, **changes: object) -> TrainingConfig:
    overrides = {"learning_rate": 0.02, "momentum": 0.9, "validation_fraction": 0.3, **changes}
    return refine_config(
        [discs], base, "better", folder, iterations=iterations, device="cpu", precision="fp32", overrides=overrides
    )


def test_the_refined_task_gets_better_and_the_others_stay_bit_for_bit(base: Model, discs: Path, tmp_path: Path) -> None:
    assert base.path is not None
    before = sha256_of(base.path)
    result = refine(base, configured(base, discs, tmp_path / "refined", iterations=300))
    assert result.best_dice is not None and result.best_dice > 0.7
    pack = read_pack(result.model)
    assert pack.info.base_sha256 == before == sha256_of(base.path)
    assert (pack.info.tasks, pack.info.rank, pack.info.alpha) == (("disc",), 32, 64.0)
    assert pack.info.provenance["kind"] == "refinement" and pack.info.provenance["datasets"][0]["task"] == "disc"
    image = read_image(discs / "imagesTr" / "disc_0_0000.png")
    alone = Predictor(base, "cpu", "fp32").segment(image, ["first", "disc"], probabilities=True)
    session = Predictor(base, "cpu", "fp32", packs={"disc": pack})
    refined = session.segment(image, ["first", "disc"], probabilities=True)
    for name in ("first", "disc"):
        theirs, ours = alone[name].probabilities, refined[name].probabilities
        assert theirs is not None and ours is not None
        assert np.array_equal(theirs.array, ours.array) == (name == "first")
    assert refined["disc"].labels.array.any()


def test_gradients_reach_the_new_modules_only_and_the_optimizer_holds_nothing_else(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    config = configured(base, discs, tmp_path / "refined")
    trainer = Trainer(config, lambda _: None, None, Refiner(base, ["disc"], rank=2))
    trainer.run(resume=False)
    network, learner = trainer._network, trainer._learner
    taken_over = base.network.state_dict()
    frozen = 0
    for name, parameter in network.named_parameters():
        if ".parametrizations.weight." in name:  # while a refinement is attached, the frozen weight stands there
            if not name.endswith(".original"):
                continue  # the refinement's own, held by the learner
            name = name.replace(".parametrizations.weight.original", ".weight")
        frozen += 1
        assert parameter.grad is None and not parameter.requires_grad, name
        assert torch.equal(parameter, taken_over[name]), name
    assert frozen == len(dict(base.network.named_parameters()))
    moved = {name for name, parameter in learner.named_parameters() if parameter.grad is not None}
    assert moved and {name for name, _ in learner.named_parameters()} - moved == {
        "parts.encoder/stems/3.a", "parts.encoder/stems/3.b",  # no image has three channels
        "parts.decoder/levels/0/head.weight",  # the coarsest level has no weight in the loss
    }  # fmt: skip
    optimised = {id(parameter) for group in trainer._optimizer.param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in learner.parameters()}


def test_before_the_first_step_the_network_in_training_is_the_base_bit_for_bit(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    config = configured(base, discs, tmp_path / "refined")
    trainer = Trainer(config, lambda _: None, None, Refiner(base, ["disc"]))
    image, task = torch.randn(2, 1, 1, 32, 32), torch.ones(2, dtype=torch.long)
    with torch.no_grad():
        ours, theirs = trainer._network(image, task, task), base.network(image, task, task)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_holds_the_new_modules_only(base: Model, discs: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    config = configured(base, discs, tmp_path / "refined")
    refine(base, config)
    with safe_open(config.output / LAST, framework="pt") as stream:
        names = set(stream.keys())
    own = {name for name in names if name.startswith("network.")}
    assert own and all(name.startswith("network.parts.") for name in own)


def test_a_resumed_refinement_is_the_uninterrupted_one(base: Model, discs: Path, tmp_path: Path) -> None:
    whole = refine(base, configured(base, discs, tmp_path / "whole", iterations=100))
    halved = configured(base, discs, tmp_path / "halved", iterations=100)
    token = StopAfter(70)
    with pytest.raises(CancelledError):
        refine(base, halved, events=token.listen, cancel=token)
    resumed = refine(base, halved, resume=True)
    first, second = read_pack(whole.model), read_pack(resumed.model)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    with pytest.raises(BadInputError, match="another configuration"):
        refine(base, halved, rank=2, resume=True)


def test_the_plan_is_the_base_s_own_and_data_of_another_form_are_refused(base: Model, discs: Path) -> None:
    refiner = Refiner(base, ["disc"])
    assert refiner.plan_of(RawDataset.open(discs)) == base.info.plan_of("disc")  # "thing" is another word for "blob"
    describe(discs, labels={"background": 0, "one": 1, "two": 2})
    with pytest.raises(UsageError, match=r"its images have 2 classes and task disc of base has 1"):
        refiner.plan_of(RawDataset.open(discs))
    describe(discs, channel_names={"0": "R", "1": "G", "2": "B"})
    with pytest.raises(UsageError, match=r"its images have 3 channels"):
        refiner.plan_of(RawDataset.open(discs))
    describe(discs, task="first", labels={"background": 0, "heart": 1, "lung": 2})
    with pytest.raises(UsageError, match=r"in another order than those of task first, lung, heart"):
        refiner.plan_of(RawDataset.open(discs))
    describe(discs, task="brain")
    with pytest.raises(UsageError, match=r"has no task 'brain'; it has: first, disc"):
        refiner.plan_of(RawDataset.open(discs))


def test_tasks_choose_among_the_data_sets(base: Model, discs: Path) -> None:
    assert datasets_of(base, [discs], None) == datasets_of(base, [discs], ["disc"]) == (discs,)
    with pytest.raises(UsageError, match=r"No data set holds the task 'first' \(there is: disc\)"):
        datasets_of(base, [discs], ["first"])
    with pytest.raises(UsageError, match=r"has no task 'brain'"):
        datasets_of(base, [discs], ["brain"])


def test_a_ledger_s_own_split_is_the_run_s_and_other_tasks_keep_theirs(
    base: Model, discs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger.create(
        folder, task="disc", modality="ultrasound", classes=("blob",), channels=("grey",), file_ending=".png"
    )
    for index in range(4):
        image = read_image(discs / "imagesTr" / f"disc_{index}_0000.png")
        ledger.accept(image, read_labels(discs / "labelsTr" / f"disc_{index}.png"), patient=f"p{index}")
    config = configured(base, folder, tmp_path / "refined")
    config.output.mkdir(parents=True)
    other = {"train": ["x"], "validation": ["y"]}
    (config.output / "split.json").write_text(json.dumps({"other": other}))
    refine(base, config)
    kept = json.loads((config.output / "split.json").read_text())
    assert kept["other"] == other
    split = ledger.split()
    assert (
        dict.fromkeys(kept["disc"]["validation"], "validation") | dict.fromkeys(kept["disc"]["train"], "training")
        == split
    )
