"""The import of UniSeg's checkpoint: what is inferred, what comes from the plans, what is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.importers.uniseg import (
    PLANNER_SPACINGS,
    UniSegOptions,
    UniSegTask,
    import_uniseg,
    our_name_of_uniseg,
)
from meduniseg_core.model import ARCHITECTURES, build_model
from meduniseg_core.preprocessing.plan import IntensityStatistics
from meduniseg_core.weights import Registry
from meduniseg_core.weights.model_file import expected_shapes

FEATURES = (2, 3, 4, 5, 6, 6)
TASKS = 11
FIGURES = IntensityStatistics(mean=40.0, std=20.0, percentile_00_5=-100.0, percentile_99_5=200.0)
CT_FIGURES = {"mean": 40.0, "sd": 20.0, "percentile_00_5": -100.0, "percentile_99_5": 200.0, "median": 39.0}


def uniseg_state(features: tuple[int, ...] = FEATURES, tasks: int = TASKS, stems: tuple[int, ...] = (1, 2, 4)) -> Any:
    """A state dict with UniSeg's names (docs/spec.md section 12) and random numbers."""
    generator = torch.Generator().manual_seed(0)
    state: OrderedDict[str, Tensor] = OrderedDict()

    def block(name: str, inputs: int, outputs: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        state[f"{name}.conv.weight"] = torch.randn(outputs, inputs, *kernel, generator=generator)
        state[f"{name}.conv.bias"] = torch.randn(outputs, generator=generator)
        state[f"{name}.instnorm.weight"] = torch.ones(outputs)
        state[f"{name}.instnorm.bias"] = torch.zeros(outputs)

    for channels in stems:
        stem = f"conv_blocks_context.0.blocks.0.conv_{channels}"
        state[f"{stem}.weight"] = torch.randn(features[0], channels, 1, 3, 3, generator=generator)
        state[f"{stem}.bias"] = torch.randn(features[0], generator=generator)
    state["conv_blocks_context.0.blocks.0.instnorm.weight"] = torch.ones(features[0])
    state["conv_blocks_context.0.blocks.0.instnorm.bias"] = torch.zeros(features[0])
    block("conv_blocks_context.0.blocks.1", features[0], features[0], (1, 3, 3))
    for stage in range(1, 5):
        block(f"conv_blocks_context.{stage}.blocks.0", features[stage - 1], features[stage])
        block(f"conv_blocks_context.{stage}.blocks.1", features[stage], features[stage])
    block("conv_blocks_context.5.0.blocks.0", features[4], features[5])
    block("conv_blocks_context.5.1.blocks.0", features[5], features[5])
    state["intermedia_prompt"] = torch.randn(1, tasks, 4, 6, 6, generator=generator)
    joined = features[5] + tasks
    block("fusion_layer.blocks.0", joined, joined // 4)
    block("fusion_layer.blocks.1", joined // 4, joined // 4)
    block("fusion_layer.blocks.2", joined // 4, tasks)
    below = features[5] + 1
    for level, skip in enumerate(reversed(features[:5])):
        kernel = (1, 2, 2) if level == 4 else (2, 2, 2)
        state[f"tu.{level}.weight"] = torch.randn(below, skip, *kernel, generator=generator)
        block(f"conv_blocks_localization.{level}.0.blocks.0", 2 * skip, skip)
        block(f"conv_blocks_localization.{level}.1.blocks.0", skip, skip)
        state[f"seg_outputs.{level}.weight"] = torch.randn(4, skip, 1, 1, 1, generator=generator)
        below = skip
    return state


def save_checkpoint(path: Path, state: Any, **others: Any) -> Path:
    """As nnU-Net v1 saves it, training curve of numpy floats included."""
    curve = [np.float64(-0.1), np.float32(-0.2)]
    content = {"epoch": 1000, "state_dict": state, "optimizer_state_dict": None, "plot_stuff": (curve, [], [], [])}
    torch.save(content | others, path)
    return path


def save_plans(path: Path, **changes: Any) -> Path:
    """Plans like nnU-Net v1's; None takes a key out."""
    plans: dict[str, Any] = {
        "num_stages": 1,
        "plans_per_stage": {
            0: {
                "batch_size": 2,
                "patch_size": np.array([64, 192, 192]),
                "current_spacing": np.array([2.5, 1.0, 1.0]),
                "pool_op_kernel_sizes": [[1, 2, 2]] + [[2, 2, 2]] * 4,
            }
        },
        "normalization_schemes": OrderedDict([(0, "CT")]),
        "use_mask_for_norm": OrderedDict([(0, False)]),
        "dataset_properties": {"intensityproperties": OrderedDict([(0, OrderedDict(CT_FIGURES))])},
        "transpose_forward": [0, 1, 2],
    }
    plans |= changes
    path.write_bytes(pickle.dumps({"init": ("plans.pkl", 0), "name": "UniSeg_Trainer", "plans": plans}, 4))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model_final_checkpoint.model", uniseg_state())


def test_the_architecture_is_inferred_from_the_tensors(checkpoint: Path) -> None:
    config = import_uniseg(checkpoint).info.config
    assert config.features == FEATURES
    assert config.model_copy(update={"features": ARCHITECTURES["uniseg"].features}) == ARCHITECTURES["uniseg"]


def test_names_cover_the_paper_size_network() -> None:
    """Every tensor of UniSeg has its place in our network and every place is taken."""
    names = [our_name_of_uniseg(name) for name in uniseg_state()]
    assert len(set(names)) == len(names)
    assert set(names) == set(expected_shapes(ARCHITECTURES["uniseg"]))
    assert our_name_of_uniseg("conv_blocks_context.0.blocks.0.conv.weight.more") is None


def test_features_and_prompt_change_places_in_the_first_fusion_kernel(checkpoint: Path) -> None:
    """UniSeg concatenates (features, prompt), FUSE (prompt, features)."""
    original = uniseg_state()["fusion_layer.blocks.0.conv.weight"]
    ours = import_uniseg(checkpoint).state_dict["fuse.blocks.0.conv.weight"]
    assert torch.equal(ours[:, :TASKS], original[:, FEATURES[-1] :])
    assert torch.equal(ours[:, TASKS:], original[:, : FEATURES[-1]])


def test_the_published_tasks_are_in_the_published_order(checkpoint: Path) -> None:
    info = import_uniseg(checkpoint).info
    assert [plan.task for plan in info.tasks] == [
        "liver",
        "kidney",
        "hepatic_vessel",
        "pancreas",
        "colon",
        "lung",
        "spleen",
        "vertebrae",
        "prostate",
        "brain_tumour",
        "whole_body_tumour",
    ]
    assert [plan.class_count for plan in info.tasks] == [3, 3, 3, 3, 2, 2, 2, 2, 2, 4, 2]
    assert [len(plan.channels) for plan in info.tasks] == [1] * 9 + [4, 2]


def test_without_plans_the_stated_defaults_are_used_and_said(checkpoint: Path) -> None:
    events: list[Event] = []
    info = import_uniseg(checkpoint, events=events.append).info
    liver, brain, body = info.plan_of("liver"), info.plan_of("brain_tumour"), info.plan_of("whole_body_tumour")
    assert {plan.spacing for plan in info.tasks} == {(3.0, 1.5, 1.5)}
    assert {plan.patch for plan in info.tasks} == {(64, 192, 192)}
    assert liver.normalisation == ("ct",)
    assert liver.figures[0] is not None
    assert (liver.figures[0].percentile_00_5, liver.figures[0].percentile_99_5) == (-325.0, 325.0)
    assert brain.normalisation == ("zscore",) * 4
    assert body.normalisation == ("ct", "zscore")
    assert (body.figures[0], body.figures[1]) == (liver.figures[0], None)
    said = " ".join(event.text for event in events if isinstance(event, Message))
    assert "3 x 1.5 x 1.5" in said
    assert "-325" in said


def test_spacing_and_figures_come_from_the_plans(checkpoint: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    info = import_uniseg(checkpoint, save_plans(tmp_path / "plans.pkl"), events=events.append).info
    assert {plan.spacing for plan in info.tasks} == {(2.5, 1.0, 1.0)}
    assert info.plan_of("liver").figures == (FIGURES,)
    assert info.plan_of("whole_body_tumour").figures == (FIGURES, None)
    assert info.plan_of("prostate").normalisation == ("zscore",)
    assert info.provenance["plans"] == "plans.pkl"
    assert events == []


def test_the_pkl_beside_the_checkpoint_is_used(checkpoint: Path) -> None:
    save_plans(checkpoint.with_name(checkpoint.name + ".pkl"))
    assert import_uniseg(checkpoint).info.plan_of("liver").spacing == (2.5, 1.0, 1.0)


def test_the_published_merged_plans_leave_normalisation_open(checkpoint: Path, tmp_path: Path) -> None:
    plans = save_plans(
        tmp_path / "plans.pkl",
        normalization_schemes=None,
        use_mask_for_norm=OrderedDict((channel, False) for channel in range(4)),
        dataset_properties={"intensityproperties": None},
    )
    liver = import_uniseg(checkpoint, plans).info.plan_of("liver")
    assert liver.normalisation == ("ct",)
    assert liver.figures == (UniSegOptions().ct_figures,)


def test_images_are_prepared_as_nnunet_v1_does(checkpoint: Path) -> None:
    for plan in import_uniseg(checkpoint).info.tasks:
        assert plan.scheme is not None
        assert (plan.scheme.version, plan.scheme.orientation) == (1, "file")
        assert (plan.scheme.image_resampling.order, plan.scheme.logit_resampling.order) == (3, 1)
        assert (plan.resampling, plan.low_pass, plan.small_images) == ("bspline", False, "pad")
        assert (plan.averaging, plan.crop_to_body) == ("probabilities", False)


def test_figures_of_plans_with_uniseg_s_own_preprocessor_are_not_used(checkpoint: Path, tmp_path: Path) -> None:
    """It clips every CT to -325 ... 325 HU and standardises channels that are not CT, whatever the plans say."""
    events: list[Event] = []
    plans = save_plans(
        tmp_path / "plans.pkl",
        preprocessor_name="DoDNetPreprocessor",
        normalization_schemes={0: "CT", 1: "noNorm"},
    )
    info = import_uniseg(checkpoint, plans, events=events.append).info
    assert info.plan_of("liver").figures == (UniSegOptions().ct_figures,)
    assert info.plan_of("whole_body_tumour").normalisation == ("ct", "zscore")
    assert any("own preprocessing" in event.text for event in events if isinstance(event, Message))
    other = save_plans(tmp_path / "other.pkl", preprocessor_name="GenericPreprocessor")
    assert import_uniseg(checkpoint, other).info.plan_of("liver").figures == (FIGURES,)


def test_the_plans_say_how_probabilities_go_back(checkpoint: Path, tmp_path: Path) -> None:
    export = {"force_separate_z": True, "interpolation_order": 3, "interpolation_order_z": 1}
    plans = save_plans(tmp_path / "plans.pkl", segmentation_export_params=export)
    scheme = import_uniseg(checkpoint, plans).info.plan_of("liver").scheme
    assert scheme is not None
    back = scheme.logit_resampling
    assert (back.order, back.order_across, back.separate) == (3, 1, True)


def test_masked_and_missing_normalisation_follow_the_plans(checkpoint: Path, tmp_path: Path) -> None:
    schemes = {0: "nonCT", 1: "noNorm"}
    plans = save_plans(tmp_path / "plans.pkl", normalization_schemes=schemes, use_mask_for_norm={0: True})
    info = import_uniseg(checkpoint, plans).info
    assert info.plan_of("liver").normalisation == ("zscore_nonzero",)
    assert info.plan_of("brain_tumour").normalisation == ("zscore_nonzero", "none", "zscore", "zscore")


def test_plans_saved_alone_or_with_several_stages_are_read(checkpoint: Path, tmp_path: Path) -> None:
    stages = {0: {"current_spacing": [6, 3, 3]}, 1: {"current_spacing": (2, 1, 1)}}
    (tmp_path / "plans.pkl").write_bytes(pickle.dumps({"plans_per_stage": stages}))
    assert import_uniseg(checkpoint, tmp_path / "plans.pkl").info.plan_of("liver").spacing == (2.0, 1.0, 1.0)


def test_a_patch_that_the_tensors_contradict_is_said(checkpoint: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    plans = save_plans(tmp_path / "plans.pkl", plans_per_stage={0: {"patch_size": [32, 32, 32]}})
    info = import_uniseg(checkpoint, plans, events=events.append).info
    assert info.plan_of("liver").patch == (64, 192, 192)
    assert any("patch" in event.text for event in events if isinstance(event, Message))


def test_options_name_other_tasks_and_spacings(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "two.model", uniseg_state(tasks=2, stems=(1,)))
    with pytest.raises(UsageError, match="has 2 tasks and the options name 11"):
        import_uniseg(path)
    tasks = tuple(UniSegTask(task=name, modality="ct", channels=("ct",), classes=("organ",)) for name in ("one", "two"))
    options = UniSegOptions(name="mine", tasks=tasks, spacing=(2, 2, 2), task_spacings={"two": (1, 1, 1)})
    info = import_uniseg(path, options=options).info
    assert (info.name, info.plan_of("one").spacing, info.plan_of("two").spacing) == ("mine", (2, 2, 2), (1, 1, 1))
    with pytest.raises(UsageError, match="'three'"):
        import_uniseg(path, options=UniSegOptions(tasks=tasks, task_spacings={"three": (1, 1, 1)}))
    wide = (tasks[0], UniSegTask(task="two", modality="ct", channels=("a", "b"), classes=("organ",)))
    with pytest.raises(UsageError, match="no stem"):
        import_uniseg(path, options=UniSegOptions(tasks=wide))


def test_the_planners_spacings_fit_the_published_tasks(checkpoint: Path) -> None:
    info = import_uniseg(checkpoint, options=UniSegOptions(task_spacings=PLANNER_SPACINGS)).info
    assert info.plan_of("whole_body_tumour").spacing == (8.0, 4.0, 4.0)
    assert info.plan_of("liver").spacing == (3.0, 1.5, 1.5)


def test_an_import_ends_up_in_the_registry_and_runs(checkpoint: Path, tmp_path: Path) -> None:
    imported = import_uniseg(checkpoint)
    registry = Registry(tmp_path / "models", tmp_path / "none")
    registry.save(imported.info, imported.state_dict)
    model = registry.load("uniseg")
    direct = build_model(imported.info.config).eval()
    direct.load_state_dict(imported.state_dict)
    image = torch.randn(1, 2, 32, 64, 64)
    with torch.inference_mode():
        one, two = (net(image, torch.tensor([10]), levels=1)[0] for net in (model.network, direct))
    assert one.shape == (1, 4, 32, 64, 64)
    assert torch.equal(one, two)


def test_the_prefix_of_data_parallel_training_is_dropped(tmp_path: Path, checkpoint: Path) -> None:
    state = OrderedDict((f"module.{name}", tensor) for name, tensor in uniseg_state().items())
    other = import_uniseg(save_checkpoint(tmp_path / "parallel.model", state))
    assert all(torch.equal(other.state_dict[n], t) for n, t in import_uniseg(checkpoint).state_dict.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tu.2.weight": None}, "fit no network|missing"),
        ({"intermedia_prompt": None}, "intermedia_prompt"),
        ({"seg_outputs.3.weight": None}, "decoder.levels.3.head.weight"),
        ({"extra.weight": torch.zeros(1)}, "'extra.weight' has no place"),
        ({"seg_outputs.0.weight": torch.zeros(4, 7, 1, 1, 1)}, "should have"),
        ({"intermedia_prompt": torch.full((1, TASKS, 4, 6, 6), torch.nan)}, "NaN"),
        ({"intermedia_prompt": torch.zeros(1, TASKS, 4, 6, 6, dtype=torch.int64)}, "not a float tensor"),
        ({"intermedia_prompt": 3}, "not a float tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    state = {name: value for name, value in (uniseg_state() | change).items() if value is not None}
    path = save_checkpoint(tmp_path / "wrong.model", state)
    with pytest.raises(BadInputError, match=said) as caught:
        import_uniseg(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for content in ({"model": {}}, [1, 2], {"state_dict": {}}, {"state_dict": {"fc.weight": torch.zeros(2, 2)}}):
        torch.save(content, path)
        with pytest.raises(BadInputError, match="check that it is the right file"):
            import_uniseg(path)
    with pytest.raises(BadInputError, match=r"[Nn]o such file"):
        import_uniseg(tmp_path / "absent.model")


class Evil:
    """Creates a file when unpickled by an ordinary unpickler."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def refused(path: Path, plans: Path | None = None) -> str:
    with pytest.raises(BadInputError) as caught:
        import_uniseg(path, plans)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_a_checkpoint_that_runs_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    path = save_checkpoint(tmp_path / "evil.model", uniseg_state(), plot_stuff=Evil(marker))
    assert "system'" in refused(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_as_checkpoint_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "was_run"
    path = tmp_path / "evil.model"
    path.write_bytes(pickle.dumps({"state_dict": Evil(marker)}, protocol))
    assert "not a checkpoint" in refused(path)
    torch.save({"state_dict": Evil(marker)}, path, _use_new_zipfile_serialization=False)
    assert "not a checkpoint" in refused(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plans_that_run_code_are_refused_by_name_and_not_run(checkpoint: Path, tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "was_run"
    plans = checkpoint.with_name(checkpoint.name + ".pkl")
    plans.write_bytes(pickle.dumps({"plans": Evil(marker)}, protocol))
    for given in (None, plans):
        text = refused(checkpoint, given)
        assert "system'" in text
        assert str(plans) in text
    assert not marker.exists()


def rewrite(path: Path, record: str, data: bytes | None, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace the bytes of one record of a checkpoint (or keep them, data None)."""
    with zipfile.ZipFile(path) as archive:
        records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (name,) = (name for name in records if name.endswith(record))
    records[name] = records[name] if data is None else data
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, content in records.items():
            archive.writestr(entry, content)


def test_training_curves_of_numpy_1_are_admitted(checkpoint: Path) -> None:
    with zipfile.ZipFile(checkpoint) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        data = archive.read(name)
    modern, old = b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"
    assert modern in data or old in data
    for module in (modern, old):
        rewrite(checkpoint, "/data.pkl", data.replace(modern, old).replace(old, module))
        assert import_uniseg(checkpoint).info.provenance["epoch"] == 1000


def test_a_storage_that_claims_more_than_its_record_is_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, "/data/0", b"\0\0\0\0")
    assert "does not have the size it claims" in refused(checkpoint)


def test_compressed_records_are_refused(checkpoint: Path) -> None:
    rewrite(checkpoint, "/data/0", None, zipfile.ZIP_DEFLATED)
    assert "records are compressed" in refused(checkpoint)


def test_a_tensor_blown_up_by_strides_of_zero_is_refused(tmp_path: Path) -> None:
    state = uniseg_state() | {"intermedia_prompt": torch.zeros(1).expand(1 << 40)}
    assert "larger than the file" in refused(save_checkpoint(tmp_path / "big.model", state))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(checkpoint: Path, kept: float) -> None:
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * kept)])
    assert "check the download" in refused(checkpoint)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plans_per_stage": {}}, "malformed"),
        ({"plans_per_stage": {0: 1}}, "malformed"),
        ({"plans_per_stage": {0: {"current_spacing": [1, 2]}}}, "not three numbers"),
        ({"plans_per_stage": {0: {"current_spacing": [1, 2, "a"]}}}, "not three numbers"),
        ({"plans_per_stage": {0: {"current_spacing": np.array([1.0, np.nan, 1.0])}}}, "not three numbers"),
        ({"plans_per_stage": {0: {"current_spacing": [1, 0, 1]}}}, "not positive"),
        ({"transpose_forward": [1, 0, 2]}, "swap the image's axes"),
        ({"normalization_schemes": ["CT"]}, "malformed"),
        ({"preprocessor_name": 3}, "is not a name"),
        ({"segmentation_export_params": {"interpolation_order": 1}}, "malformed"),
        ({"segmentation_export_params": 3}, "malformed"),
        ({"dataset_properties": {"intensityproperties": {0: {"mean": 1}}}}, "channel 0 are malformed"),
        ({"dataset_properties": {"intensityproperties": {0: CT_FIGURES | {"sd": 0.0}}}}, "channel 0 are malformed"),
        ({"dataset_properties": {"intensityproperties": {0: CT_FIGURES | {"mean": np.inf}}}}, "impossible"),
        ({"dataset_properties": {"intensityproperties": {0: 3}}}, "channel 0 are malformed"),
    ],
)
def test_plans_that_make_no_sense_are_refused(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    text = refused(checkpoint, save_plans(tmp_path / "plans.pkl", **changes))
    assert said in text
    assert "plans.pkl" in text


def test_a_pickle_that_holds_no_plans_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "splits_final.pkl").write_bytes(pickle.dumps([OrderedDict(train=["a"])]))
    assert "plans_per_stage" in refused(checkpoint, tmp_path / "splits_final.pkl")


def test_a_checkpoint_with_flipped_bytes_is_refused(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever it happens: refused in one sentence of our own, or it was a byte that nothing reads."""
    whole = checkpoint.read_bytes()
    original = import_uniseg(checkpoint).state_dict
    capfd.readouterr()
    rng = np.random.default_rng(0)
    refusals = 0
    places = [*rng.integers(0, len(whole), 60), *range(0, 200, 7), *range(len(whole) - 400, len(whole), 11)]
    for place in map(int, places):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        checkpoint.write_bytes(data)
        try:
            found = import_uniseg(checkpoint).state_dict
        except BadInputError as error:
            refusals += 1
            text = str(error)
            assert text.startswith(str(checkpoint)) and "\n" not in text, (place, text)
            assert "weights_only" not in text and "torch.load" not in text, text
        else:
            assert all(torch.equal(original[name], found[name]) for name in original), place
    assert refusals > 60
    assert capfd.readouterr() == ("", "")


def test_a_flipped_weight_is_named_by_its_record(checkpoint: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    assert "its record 'model_final_checkpoint/data/" in refused(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = uniseg_state()
    state["intermedia_prompt"][0, 0, 0, 0, 0] = value
    assert "NaN or infinite" in refused(save_checkpoint(tmp_path / "nan.model", state))


def test_a_pipe_is_no_checkpoint_and_no_plans(checkpoint: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.model"
    os.mkfifo(pipe)
    with pytest.raises(BadInputError, match="not an ordinary file"):
        import_uniseg(pipe)
    with pytest.raises(BadInputError, match="not an ordinary file"):
        import_uniseg(checkpoint, pipe)


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1e30, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_absurd_spacings_in_the_options_are_refused(checkpoint: Path, spacing: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        import_uniseg(checkpoint, None, UniSegOptions().model_copy(update={"spacing": spacing}))


@pytest.mark.parametrize("spacing", [[1e-30, 1, 1], [1e30, 1, 1]])
def test_absurd_spacings_in_the_plans_are_refused(checkpoint: Path, tmp_path: Path, spacing: list[float]) -> None:
    stages = {0: {"current_spacing": np.array(spacing), "patch_size": np.array([64, 192, 192])}}
    with pytest.raises(BadInputError, match="current_spacing"):
        import_uniseg(checkpoint, save_plans(tmp_path / "plans.pkl", plans_per_stage=stages))
