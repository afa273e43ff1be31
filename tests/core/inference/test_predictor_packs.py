"""Refined tasks run through their pack, all others bit for bit through the base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.inference import Predictor, Segmentation, segment
from meduniseg_core.model import MedUniSeg, build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.provenance import read_provenance
from meduniseg_core.weights import Model, Pack, PackInfo

TASKS = ("a", "b", "c")


def model() -> Model:
    return tiny_model([volume_plan(task) for task in TASKS])


def pack(base: Model, tasks: tuple[str, ...], name: str = "better", seed: int = 5, sha256: str | None = None) -> Pack:
    """A refinement that changes what the network computes, without a file."""
    torch.manual_seed(seed)
    state = Refinement(build_model(base.info.config), 2).state_dict()
    info = PackInfo(
        name=name, base="tiny", base_sha256=sha256 or base.sha256, config=base.info.config, tasks=tasks, rank=2, alpha=4
    )
    return Pack(info, {key: torch.randn_like(value) * 0.05 for key, value in state.items()}, f"{seed:064d}")


def same(one: Segmentation, other: Segmentation) -> bool:
    assert one.probabilities is not None and other.probabilities is not None
    return np.array_equal(one.probabilities.array, other.probabilities.array)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_refined_task_goes_through_its_pack_and_the_others_are_the_base_bit_for_bit(precision: str) -> None:
    base, image = model(), volume((16, 64, 64))
    alone = Predictor(base, "cpu", precision).segment(image, TASKS, probabilities=True)
    better = pack(base, ("b",))
    refined = Predictor(base, "cpu", precision, packs={"b": better}).segment(image, TASKS, probabilities=True)
    assert list(refined) == list(TASKS)
    assert [same(alone[task], refined[task]) for task in TASKS] == [True, False, True]
    assert [refined[task].pack for task in TASKS] == [None, "better", None]
    assert [refined[task].pack_sha256 for task in TASKS] == [None, better.sha256, None]


def test_the_refined_task_is_what_the_attached_refinement_computes() -> None:
    base, image = model(), volume((16, 64, 64))
    better = pack(base, ("b",))
    alone = Predictor(base, "cpu", "fp32").segment(image, "b", probabilities=True)["b"]
    found = Predictor(base, "cpu", "fp32", packs={"b": better}).segment(image, "b", probabilities=True)["b"]
    refinement = Refinement(base.network, 2, 4.0)
    refinement.load_state_dict(dict(better.tensors))
    expected = Predictor(base, "cpu", "fp32").segment(image, "b", probabilities=True)["b"]  # parts and all
    assert found.probabilities is not None and expected.probabilities is not None and alone.probabilities is not None
    assert np.abs(expected.probabilities.array - alone.probabilities.array).max() > 0.05
    np.testing.assert_allclose(found.probabilities.array, expected.probabilities.array, atol=2e-3)  # stored as float16


def test_tasks_without_a_pack_share_one_encoder_pass_and_tasks_of_one_pack_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, image = model(), volume((16, 64, 64))
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        original = getattr(MedUniSeg, name)

        def counted(self: MedUniSeg, *args: object, _name: str = name, _original: object = original) -> object:
            calls[_name] += 1
            return _original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(MedUniSeg, name, counted)

    def passes(**packs: Pack) -> tuple[int, int]:
        calls.update(encode=0, decode=0)
        session = Predictor(base, "cpu", "fp32", packs=packs)
        windows = session.estimate(image, TASKS).windows
        session.segment(image, TASKS)
        assert windows == calls["encode"], "the estimate counts the extra pass"
        return calls["encode"], calls["decode"]

    one, two = pack(base, ("a", "b")), pack(base, ("b",), "other", seed=6)
    assert passes() == (1, 3)
    assert passes(b=one) == (2, 3)
    assert passes(a=one, b=one) == (2, 3)
    assert passes(a=one, b=two) == (3, 3)


def test_packs_are_switched_without_loading_the_base_again() -> None:
    base, image = model(), volume((16, 64, 64))
    session = Predictor(base, "cpu", "fp32")
    before = session.segment(image, "b", probabilities=True)["b"]
    engine = session.engine(session.device)
    session.use_packs({"b": pack(base, ("b",))})
    first = session.segment(image, "b", probabilities=True)["b"]
    session.use_packs({"b": pack(base, ("b",), "other", seed=6)})
    second = session.segment(image, "b", probabilities=True)["b"]
    session.use_packs({})
    after = session.segment(image, "b", probabilities=True)["b"]
    assert same(before, after) and not same(before, first) and not same(first, second)
    assert session.engine(session.device) is engine


def test_any_number_of_packs_may_take_turns() -> None:
    plans = [picture_plan(f"task{index}") for index in range(6)]
    base, image = tiny_model(plans), picture(64, 64)
    packs = {plan.task: pack(base, (plan.task,), plan.task, seed) for seed, plan in enumerate(plans)}
    session = Predictor(base, "cpu", "fp32", packs=packs)
    tasks = [plan.task for plan in plans]
    first, again = (session.segment(image, tasks, probabilities=True) for _ in range(2))
    assert all(same(first[task], again[task]) for task in tasks)
    assert len(session._engines) <= 5  # refined networks are not kept without end


def test_the_result_s_json_names_the_pack_and_its_sha256(tmp_path: Path) -> None:
    base, image = model(), volume((16, 64, 64))
    better = pack(base, ("b",))
    found = segment(image, "b", model=base, device="cpu", precision="fp32", packs={"b": better})
    record = found.provenance()
    assert (record["pack"], record["pack_sha256"], record["model"]) == ("better", better.sha256, "tiny")
    assert read_provenance(found.save(tmp_path / "b.nii.gz")) is not None


def test_packs_that_do_not_fit_are_refused_before_anything_runs() -> None:
    base = model()
    with pytest.raises(BadInputError, match="use that base"):
        Predictor(base, "cpu", "fp32", packs={"b": pack(base, ("b",), sha256="1" * 64)})
    with pytest.raises(UsageError, match="does not refine the task 'c'"):
        Predictor(base, "cpu", "fp32", packs={"c": pack(base, ("b",))})
    session = Predictor(base, "cpu", "fp32", packs={"b": pack(base, ("b",))})
    with pytest.raises(UsageError, match="has no task 'd'"):
        session.use_packs({"d": pack(base, ("b",))})
    assert list(session.packs) == ["b"]
