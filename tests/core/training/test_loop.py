"""A whole run: what it leaves, how it resumes, how it stops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from meduniseg_core.errors import (
    BadInputError,
    CancelledError,
    NonFiniteLossError,
    NonFiniteOutputError,
    OutOfMemoryError,
    UsageError,
)
from meduniseg_core.events import Event, Message, Metric, Progress
from meduniseg_core.files import sha256_of
from meduniseg_core.model import MedUniSeg
from meduniseg_core.training import TrainingConfig, loop, step, train, validation
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.checkpoint import BEST, LAST
from meduniseg_core.weights import load_model
from tests.stopping import StopAfter


def other_output(config: TrainingConfig, name: str) -> TrainingConfig:
    return config.model_copy(update={"output": config.output.parent / name})


def test_a_run_leaves_a_usable_model_a_log_and_a_split(config: TrainingConfig) -> None:
    events: list[Event] = []
    result = train(config, events=events.append)
    assert result.epochs == 3
    model = load_model(result.model)
    assert [plan.task for plan in model.info.tasks] == ["disc", "ball"]
    assert model.info.config.classes == 2
    assert model.info.provenance["iterations_per_dataset"] == 2
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [set(line["task_loss"]) for line in lines] == [{"disc", "ball"}] * 3
    assert ["dice" in line for line in lines] == [False, True, True]
    split = json.loads((config.output / "split.json").read_text())
    assert set(split) == {"disc", "ball"}
    last = [event for event in events if isinstance(event, Progress) and event.stage == "train"][-1]
    assert (last.done, last.total) == (12, 12)


@pytest.mark.parametrize("interrupted_after", [5, 9])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(config: TrainingConfig, interrupted_after: int) -> None:
    whole = train(config)
    halved = other_output(config, "halved")
    token = StopAfter(interrupted_after)
    with pytest.raises(CancelledError):
        train(halved, events=token.listen, cancel=token)
    resumed = train(halved, resume=True)
    first, second = load_model(whole.model).network.state_dict(), load_model(resumed.model).network.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [json.loads(line)["epoch"] for line in (halved.output / "log.jsonl").read_text().splitlines()]
    assert lines == [0, 1, 2]


def test_a_pause_before_the_first_checkpoint_loses_nothing(config: TrainingConfig) -> None:
    slow = config.model_copy(update={"checkpoint_every": 50})
    whole = train(slow)
    paused = other_output(slow, "paused")
    for iteration in (1, 2, 4):  # of 4 in an epoch: within it, and at its end
        token = StopAfter(iteration)
        with pytest.raises(CancelledError):
            train(paused, resume=iteration > 1, events=token.listen, cancel=token)
        assert (paused.output / LAST).is_file()
    resumed = train(paused, resume=True)
    first, second = load_model(whole.model).network.state_dict(), load_model(resumed.model).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [
        [{**json.loads(line), "seconds": 0} for line in (run.output / "log.jsonl").read_text().splitlines()]
        for run in (slow, paused)
    ]
    assert logs[0] == logs[1]


def test_a_pause_during_validation_does_it_again(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(config)
    paused = other_output(config, "paused")
    real = loop.validate_tasks

    def broken_off(*_arguments: object) -> object:
        raise CancelledError("Stopped on request.")

    monkeypatch.setattr(loop, "validate_tasks", broken_off)
    with pytest.raises(CancelledError):
        train(paused)
    monkeypatch.setattr(loop, "validate_tasks", real)
    resumed = train(paused, resume=True)
    assert (resumed.best_dice, resumed.best_epoch) == (whole.best_dice, whole.best_epoch)
    lines = [json.loads(line) for line in (paused.output / "log.jsonl").read_text().splitlines()]
    assert ["dice" in line for line in lines] == [False, True, True]


def test_batches_prepared_by_worker_processes_train_the_same_model(config: TrainingConfig) -> None:
    alone = train(config)
    helped = train(other_output(config, "helped").model_copy(update={"workers": 1}))
    first, second = load_model(alone.model).network.state_dict(), load_model(helped.model).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_with_adamw_is_bit_identical_too(config: TrainingConfig) -> None:
    adamw = config.model_copy(update={"optimizer": "adamw", "learning_rate": 1e-3, "momentum": 0.9, "epochs": 2})
    whole = train(adamw)
    halved = other_output(adamw, "halved")
    token = StopAfter(5)
    with pytest.raises(CancelledError):
        train(halved, events=token.listen, cancel=token)
    resumed = train(halved, resume=True)
    first, second = load_model(whole.model).network.state_dict(), load_model(resumed.model).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_without_a_checkpoint_is_an_error(config: TrainingConfig) -> None:
    with pytest.raises(BadInputError, match="no checkpoint to resume from"):
        train(config, resume=True)


def test_resume_with_another_configuration_is_an_error(config: TrainingConfig) -> None:
    train(config)
    with pytest.raises(BadInputError, match="another configuration"):
        train(config.model_copy(update={"learning_rate": 0.02, "epochs": 4}), resume=True)


def test_a_damaged_checkpoint_is_refused_by_name(config: TrainingConfig) -> None:
    train(config)
    path = config.output / LAST
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInputError, match=r"checkpoint_last\.safetensors: .*; remove it"):
        train(config, resume=True)
    path.unlink()
    assert train(config, resume=True).epochs == config.epochs  # from the best one


def test_a_non_finite_loss_stops_with_the_cases_name(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> torch.Tensor:
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr(step, "deep_supervision_loss", broken)
    with pytest.raises(NonFiniteLossError, match=r"(disc|ball)_\d"):
        train(config)
    assert not (config.output / "tiny.safetensors").exists()


def test_two_data_sets_of_one_task_are_refused(config: TrainingConfig) -> None:
    with pytest.raises(UsageError, match="Two data sets hold the task"):
        train(config.model_copy(update={"datasets": (config.datasets[0], config.datasets[0])}))


def test_training_learns_to_find_bright_blobs_in_2d_and_3d(config: TrainingConfig) -> None:
    metrics: list[Event] = []
    longer = config.model_copy(
        update={"epochs": 2, "iterations_per_dataset": 80, "momentum": 0.9, "augmentation": AugmentationConfig.none()}
    )
    train(longer, events=metrics.append)
    dice = {m.task: m.value for m in metrics if isinstance(m, Metric) and m.name == "dice" and m.task}
    assert dice["disc"] > 0.85
    assert dice["ball"] > 0.8


def test_early_stop_ends_a_run_that_no_longer_improves(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(loop.Trainer, "_validate", lambda _self: {"disc": {"blob": next(scores)}})
    result = train(config.model_copy(update={"epochs": 5, "validation_every": 1, "patience": 2, "select": "best"}))
    assert result.stopped_early
    assert (result.epochs, result.best_epoch, result.best_dice) == (3, 1, 0.5)
    assert load_model(result.model).info.provenance["selected_epoch"] == 1


def test_the_split_is_kept_by_later_runs_in_the_same_folder(config: TrainingConfig) -> None:
    train(config)
    before = sha256_of(config.output / "split.json")
    train(config.model_copy(update={"seed": 99}))
    assert sha256_of(config.output / "split.json") == before


def test_the_rate_falls_from_the_base_to_zero_and_drops_where_it_is_told_to(config: TrainingConfig) -> None:
    plain = config.model_copy(update={"learning_rate": 0.01, "epochs": 10})
    total, epoch = plain.total_iterations, plain.iterations_per_epoch
    rates = np.array([plain.rate_at(step) for step in range(total + 1)])
    assert rates[0] == 0.01 and rates[-1] == 0
    assert rates[total // 2] == pytest.approx(0.01 * 0.5**0.9)
    assert np.all(np.diff(rates) < 0)
    dropped = plain.model_copy(update={"rate_drops": ((4, 0.5), (6, 0.1))})
    steps = np.arange(total + 1)
    expected = rates * np.where(steps < 4 * epoch, 1, np.where(steps < 6 * epoch, 0.5, 0.05))
    np.testing.assert_allclose([dropped.rate_at(step) for step in steps], expected)


def test_a_restart_begins_a_decay_of_its_own(config: TrainingConfig) -> None:
    run = config.model_copy(
        update={"learning_rate": 0.01, "epochs": 10, "rate_restarts": ((6, 0.002),), "rate_drops": ((3, 0.5),)}
    )
    epoch = run.iterations_per_epoch
    assert run.rate_at(2 * epoch) == pytest.approx(0.01 * (1 - 2 / 6) ** 0.9)
    assert run.rate_at(4 * epoch) == pytest.approx(0.005 * (1 - 4 / 6) ** 0.9)
    assert run.rate_at(6 * epoch) == pytest.approx(0.002)  # the drop belongs to the first decay
    assert run.rate_at(8 * epoch) == pytest.approx(0.002 * 0.5**0.9)
    assert run.rate_at(run.total_iterations) == 0
    with pytest.raises(ValueError, match="rate_restarts"):
        TrainingConfig.model_validate({**config.model_dump(), "rate_restarts": ((99, 0.1),)})


def test_a_config_file_with_a_mistake_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\ndatasets = ["a"]\noutput = "o"\ncache = "c"\nepochs = 0\n')
    with pytest.raises(BadInputError, match=r"run\.toml: epochs"):
        TrainingConfig.from_toml(path)
    path.write_text('name = "x"\ndatasets = ["$NOT_SET_ANYWHERE/a"]\noutput = "o"\ncache = "c"\n')
    with pytest.raises(BadInputError, match="not set"):
        TrainingConfig.from_toml(path)
    path.write_text("name = ")
    with pytest.raises(BadInputError, match="not valid TOML"):
        TrainingConfig.from_toml(path)


def test_paths_of_a_config_file_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\ndatasets = ["data"]\noutput = "out"\ncache = "../cache"\n')
    config = TrainingConfig.from_toml(path)
    assert config.datasets == (tmp_path / "data",)
    assert config.output == tmp_path / "out"


def with_corrections(config: TrainingConfig, discs: Path) -> TrainingConfig:
    """Every disc is a correction of a prediction that had found nothing."""
    predictions = {}
    for label in sorted((discs / "labelsTr").iterdir()):
        predictions[label.stem] = config.output.parent / f"{label.stem}.1.png"
        PillowImage.fromarray(np.zeros_like(np.array(PillowImage.open(label)))).save(predictions[label.stem])
    changes = {"predictions": predictions, "correction_oversampling": 0.5, "correction_weight": 4.0}
    return config.model_copy(update={"datasets": (discs,), **changes})


def test_a_resumed_run_that_learns_from_corrections_is_bit_identical(config: TrainingConfig, discs: Path) -> None:
    corrections = with_corrections(config, discs)
    whole = train(corrections)
    halved = other_output(corrections, "halved")
    token = StopAfter(3)
    with pytest.raises(CancelledError):
        train(halved, events=token.listen, cancel=token)
    with pytest.raises(BadInputError, match="another configuration"):
        train(halved.model_copy(update={"correction_weight": 2.0}), resume=True)
    with pytest.raises(BadInputError, match="another configuration"):
        train(halved.model_copy(update={"predictions": {}}), resume=True)
    resumed = train(halved, resume=True)
    first, second = load_model(whole.model).network.state_dict(), load_model(resumed.model).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weighted_corrections_change_what_is_learnt_and_neutral_settings_do_not(
    config: TrainingConfig, discs: Path
) -> None:
    corrections = with_corrections(config, discs)
    neutral = {"correction_oversampling": 0.0, "correction_weight": 1.0}
    runs = {
        "plain": corrections.model_copy(update={"predictions": {}, **neutral}),
        "neutral": corrections.model_copy(update=neutral),
        "weighted": corrections.model_copy(update={**neutral, "correction_weight": 4.0}),
    }
    weights = {}
    for name, run in runs.items():
        weights[name] = load_model(train(other_output(run, name)).model).network.state_dict()
    assert all(torch.equal(weights["plain"][name], value) for name, value in weights["neutral"].items())
    assert not all(torch.equal(weights["plain"][name], value) for name, value in weights["weighted"].items())


def test_weights_whose_share_of_the_rate_is_small_move_less(config: TrainingConfig) -> None:
    def moved(shares: tuple[tuple[str, float], ...], name: str) -> dict[str, float]:
        changed = other_output(config, name).model_copy(update={"epochs": 1, "rate_shares": shares})
        path = train(changed.model_copy(update={"weight_decay": 0.0, "momentum": 0.0})).model
        torch.manual_seed(config.seed)
        model = load_model(path)
        start = loop.build_model(model.info.config).state_dict()
        return {key: float((value - start[key]).norm()) for key, value in model.network.state_dict().items()}

    plain = moved((), "plain")
    slow = moved((("encoder.stem_norm.*", 1.0), ("encoder.*", 1e-4)), "slow")
    deep = "encoder.stages.1.0.conv.weight"
    assert 0 < slow[deep] < plain[deep] / 1000
    assert slow["encoder.stem_norm.weight"] > plain["encoder.stem_norm.weight"] / 10


def test_a_share_of_nothing_is_refused(config: TrainingConfig) -> None:
    with pytest.raises(ValueError, match="rate_shares are above 0"):
        TrainingConfig.model_validate({**config.model_dump(), "rate_shares": [("encoder.*", 0)]})
    with pytest.raises(ValueError, match="rate_warm_ups are numbers of iterations"):
        TrainingConfig.model_validate({**config.model_dump(), "rate_warm_ups": [("encoder.*", -1)]})


def scored(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Validation finds these Dice, epoch after epoch."""
    left = iter(scores)

    def validate(_engine: object, _info: object, _plan: object, cases: list[object], *_: object) -> np.ndarray:
        return np.full((len(cases), 1), next(left))

    monkeypatch.setattr(validation, "validate", validate)


@pytest.mark.parametrize(
    ("every", "scores", "stop_after", "best"),
    [
        (3, [0.2, 0.3, 0.25, 0.5, 0.4], 11, 4),  # the last checkpoint is of epoch 3 and thinks that 2 was the best
        (3, [0.2, 0.3, 0.4, 0.5, 0.3], 11, 4),  # ... that it is the best itself
        (4, [0.2, 0.1], 5, 1),  # there is no last checkpoint yet
        (2, [0.2, 0.6, 0.5, 0.1], 9, 2),  # the best is older than the last
        (1, [0.2, 0.6], 5, 2),  # paused within the epoch after the best: the last is further than what was validated
        (3, [0.2], 3, 1),  # ... and there is no other checkpoint yet
    ],
)
def test_finishing_records_the_epoch_and_dice_of_the_weights_that_are_kept(
    config: TrainingConfig,
    discs: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    scores: list[float],
    stop_after: int,
    best: int,
) -> None:
    changes = {"datasets": (discs,), "epochs": 6, "validation_every": 1, "checkpoint_every": every, "select": "best"}
    run = config.model_copy(update=changes)
    scored(monkeypatch, scores)
    token = StopAfter(stop_after)
    with pytest.raises(CancelledError):
        train(run, events=token.listen, cancel=token)
    finished = train(run, finish=True)
    model = load_model(finished.model)
    assert (finished.best_epoch, finished.best_dice) == (best, max(scores))
    assert model.info.provenance["selected_epoch"] == best
    assert model.info.provenance["validation_dice"] == max(scores)
    only = other_output(run, "only").model_copy(update={"epochs": 6, "select": "last"})
    scored(monkeypatch, scores)
    token = StopAfter(2 * best)  # the same run, stopped after that epoch: its last state is the best one's
    with pytest.raises(CancelledError):
        train(only.model_copy(update={"checkpoint_every": 1}), events=token.listen, cancel=token)
    same = load_model(train(only.model_copy(update={"checkpoint_every": 1}), finish=True).model)
    ours, theirs = model.network.state_dict(), same.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("lost", ["missing", "damaged"])
def test_a_best_checkpoint_that_was_lost_leaves_the_last_weights_and_is_said(
    config: TrainingConfig, discs: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    changes = {"datasets": (discs,), "epochs": 6, "validation_every": 1, "checkpoint_every": 1, "select": "best"}
    run = config.model_copy(update=changes)
    scored(monkeypatch, [0.6, 0.2])
    token = StopAfter(4)
    with pytest.raises(CancelledError):
        train(run, events=token.listen, cancel=token)
    best = run.output / BEST
    best.unlink() if lost == "missing" else best.write_bytes(best.read_bytes()[:-3])
    said: list[Event] = []
    finished = train(run, finish=True, events=said.append)
    assert load_model(finished.model).info.provenance["selected_epoch"] == 2
    assert any(isinstance(one, Message) and one.level == "warning" and BEST in one.text for one in said)


def test_the_last_weights_of_a_paused_epoch_have_no_dice(
    config: TrainingConfig, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, [0.2])
    run = config.model_copy(update={"datasets": (discs,), "epochs": 6, "validation_every": 1, "select": "last"})
    token = StopAfter(3)
    with pytest.raises(CancelledError):
        train(run, events=token.listen, cancel=token)
    assert load_model(train(run, finish=True).model).info.provenance["validation_dice"] is None


def test_a_run_killed_before_its_checkpoint_keeps_one_line_of_log_per_epoch(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config)
    halved = other_output(config, "halved")

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        saving = loop.save_checkpoint
        patch.setattr(loop, "save_checkpoint", lambda *args: killed() if args[3].epoch == 2 else saving(*args))
        train(halved)
    train(halved, resume=True)
    ours, theirs = ((folder / "log.jsonl").read_text() for folder in (config.output, halved.output))
    losses = [[json.loads(line)["loss"] for line in text.splitlines()] for text in (ours, theirs)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == whole.epochs


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_checkpoint_with_a_flipped_bit_is_refused(config: TrainingConfig, place: float) -> None:
    train(config)
    path = config.output / LAST
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1  # still a number, and almost the same one
    path.write_bytes(data)
    with pytest.raises(BadInputError, match="is damaged"):
        train(config, resume=True)


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
        "std::bad_alloc",
    ],
)
def test_memory_that_runs_out_in_training_is_said_so(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def full(*_args: object, **_kwargs: object) -> torch.Tensor:
        raise RuntimeError(text)

    monkeypatch.setattr(step, "deep_supervision_loss", full)
    with pytest.raises(OutOfMemoryError, match=r"Not enough memory to train; .*batch.*\.$"):
        train(config)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(NonFiniteLossError, match=r"The gradient became inf .*(disc|ball)_\d"):
        train(config)


def test_what_a_killed_process_left_half_written_is_removed(config: TrainingConfig) -> None:
    config.output.mkdir(parents=True)
    (config.output / ".tmp-abc.safetensors").write_bytes(b"half")
    train(config)
    assert not list(config.output.glob(".tmp-*"))


def test_a_network_that_answers_nan_in_validation_is_an_error(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = MedUniSeg.decode

    def answer(network: MedUniSeg, *arguments: object) -> list[torch.Tensor]:
        factor = float("nan") if torch.is_inference_mode_enabled() else 1.0  # training itself goes on
        return [logits * factor for logits in decode(network, *arguments)]

    monkeypatch.setattr(MedUniSeg, "decode", answer)
    with pytest.raises(NonFiniteOutputError, match=r"task disc on disc_\d .*--resume"):
        train(config)


def test_with_a_running_mean_a_resumed_run_is_bit_identical_and_the_model_is_the_mean(config: TrainingConfig) -> None:
    config = config.model_copy(update={"average_decay": 0.9})
    whole = train(config)
    halved = other_output(config, "halved")
    token = StopAfter(5)
    with pytest.raises(CancelledError):
        train(halved, events=token.listen, cancel=token)
    resumed = train(halved, resume=True)
    first, second = load_model(whole.model).network.state_dict(), load_model(resumed.model).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    plain = load_model(train(other_output(config, "plain").model_copy(update={"average_decay": None})).model)
    last = plain.network.state_dict()
    assert any(not torch.equal(first[name], last[name]) for name in first)
    # the mean of few weights that start alike stays near the last ones
    assert all(torch.allclose(first[name], last[name], atol=0.5) for name in first)
