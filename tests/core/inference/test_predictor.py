"""The predictor session, on tiny random networks."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_samples import FIGURES, picture, picture_plan, tiny_model, volume, volume_plan
from torch import Tensor

from meduniseg_core.errors import BadInputError, CancelledError, OutOfMemoryError, UsageError
from meduniseg_core.events import CancelToken, Event, Message, Progress
from meduniseg_core.images import Geometry, Image, write_image
from meduniseg_core.images.resample_grid import resample_to, resample_to_orthonormal
from meduniseg_core.inference import Predictor, Segmentation, engine, segment
from meduniseg_core.inference import predictor as predictor_module
from meduniseg_core.inference.source import slice_of
from meduniseg_core.model import MedUniSeg
from meduniseg_core.model.networks import Network
from meduniseg_core.preprocessing import preprocess
from meduniseg_core.weights import Model
from tests.restoring import restore_logits


def predictor(model: Model, **options: object) -> Predictor:
    return Predictor(model, "cpu", "fp32", **options)  # type: ignore[arg-type]


def probabilities_of(result: Segmentation) -> np.ndarray:
    assert result.probabilities is not None
    return result.probabilities.array


def by_hand(model: Model, image: Image, task: str, flips: tuple[tuple[int, ...], ...] = ((),)) -> np.ndarray:
    """Probabilities of the plain network on the whole preprocessed image, which must be one window."""
    plan = model.info.plan_of(task)
    prepared = preprocess(image, plan)
    data = torch.from_numpy(prepared.data)[None]
    index = torch.tensor([model.info.task_index(task)])
    modality = torch.tensor([model.info.modality_index(plan.modality)])
    total = torch.zeros(())
    with torch.inference_mode():
        for axes in flips:
            dims = [axis + 2 for axis in axes]
            total = total + model.network(data.flip(dims), index, modality, 1)[0].flip(dims)
    restored = restore_logits(total[0, : plan.class_count] / len(flips), prepared.trace, want_probabilities=True)
    assert restored.probabilities is not None
    return restored.probabilities.array


@pytest.mark.parametrize("spacing", [2.0, 1.7])
def test_a_volume_of_one_window_gets_the_networks_own_answer(spacing: float) -> None:
    model = tiny_model([volume_plan()])
    image = volume((16, 64, 64) if spacing == 2.0 else (19, 75, 75), spacing)
    result = predictor(model).segment(image, "organ", probabilities=True)["organ"]
    expected = by_hand(model, image, "organ")
    np.testing.assert_allclose(probabilities_of(result), expected, atol=3e-3)
    assert np.mean(result.labels.array[0] != expected.argmax(axis=0)) < 0.01
    assert len(np.unique(result.labels.array)) > 1, "the test needs a network that finds something"
    assert result.labels.geometry == image.geometry


def test_a_photograph_gets_the_networks_own_answer() -> None:
    model = tiny_model([picture_plan()])
    image = picture(64, 64)
    result = predictor(model).segment(image, ["spot"], probabilities=True)["spot"]
    np.testing.assert_allclose(probabilities_of(result), by_hand(model, image, "spot"), atol=3e-3)


def test_mirroring_follows_the_tasks_own_axes() -> None:
    plans = [volume_plan("free"), volume_plan("sided", mirror_axes=(0, 1))]
    model, image = tiny_model(plans), volume((16, 64, 64))
    results = predictor(model).segment(image, ["free", "sided"], tta=True, probabilities=True)
    every = tuple(axes for n in range(4) for axes in itertools.combinations((0, 1, 2), n))
    np.testing.assert_allclose(probabilities_of(results["free"]), by_hand(model, image, "free", every), atol=3e-3)
    sided = ((), (0,), (1,), (0, 1))
    np.testing.assert_allclose(probabilities_of(results["sided"]), by_hand(model, image, "sided", sided), atol=3e-3)


def test_several_tasks_share_the_encoder_and_equal_single_tasks_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model([volume_plan("a"), volume_plan("b", classes=("x",)), volume_plan("c")])
    image = volume((24, 70, 100))
    calls = {"encode": 0, "decode": 0}
    for name in calls:
        original = getattr(MedUniSeg, name)

        def counted(self: MedUniSeg, *args: object, _name: str = name, _original: object = original) -> object:
            calls[_name] += 1
            return _original(self, *args)  # type: ignore[operator]

        monkeypatch.setattr(MedUniSeg, name, counted)
    session = predictor(model)
    together = session.segment(image, ["a", "b", "c"], probabilities=True)
    assert calls["decode"] == 3 * calls["encode"] > 3
    assert list(together) == ["a", "b", "c"]
    for task in ("a", "b", "c"):
        alone = session.segment(image, task, probabilities=True)[task]
        assert np.array_equal(alone.labels.array, together[task].labels.array)
        assert np.array_equal(probabilities_of(alone), probabilities_of(together[task]))


def test_tasks_with_other_figures_or_patches_do_not_share_wrongly() -> None:
    other = FIGURES.model_copy(update={"mean": 300.0})
    plans = [volume_plan("a"), volume_plan("b", figures=(other,)), volume_plan("c", patch=(16, 96, 96))]
    model, image = tiny_model(plans), volume((24, 70, 100))
    session = predictor(model)
    together = session.segment(image, ["a", "b", "c"], probabilities=True)
    for task in ("a", "b", "c"):
        alone = session.segment(image, task, probabilities=True)[task]
        assert np.array_equal(probabilities_of(alone), probabilities_of(together[task]))


def test_inside_a_box_smaller_than_a_window_the_surroundings_are_seen() -> None:
    model, image = tiny_model([volume_plan()]), volume((16, 64, 64))
    session = predictor(model)
    box = (4, 9), (10, 20), (3, 30)
    boxed = session.segment(image, "organ", box=box)["organ"].labels.array
    whole = session.segment(image, "organ")["organ"].labels.array
    mask = np.zeros(whole.shape, dtype=bool)
    mask[:, 4:9, 10:20, 3:30] = True
    assert np.array_equal(boxed[mask], whole[mask]) and whole[mask].any()
    assert not boxed[~mask].any()


def test_a_box_takes_fewer_windows() -> None:
    model, image = tiny_model([volume_plan()]), volume((48, 96, 96))
    events: list[Event] = []
    predictor(model, batch=1).segment(image, "organ", box=((0, 10), (0, 20), (0, 20)), events=events.append)
    assert [e.total for e in events if isinstance(e, Progress) and e.stage == "segment"] == [1, 1]


@pytest.mark.parametrize("box", [((0, 0), (0, 5), (0, 5)), ((0, 17), (0, 5), (0, 5)), ((-1, 3), (0, 5), (0, 5))])
def test_an_impossible_box_is_refused(box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(UsageError, match=r"box .* \(16, 64, 64\)"):
        predictor(tiny_model([volume_plan()])).segment(volume((16, 64, 64)), "organ", box=box)


def test_a_volume_for_a_2d_task_equals_its_slices_one_by_one() -> None:
    plan = volume_plan(
        "slices", dimension=2, patch=(1, 32, 32), spacing=(2.0, 2.0, 2.0), normalisation=("zscore",), figures=(None,)
    )
    model = tiny_model([plan])
    image = volume((37, 40, 50), 1.6)
    events: list[Event] = []
    session = predictor(model)
    stack = session.segment(image, "slices", probabilities=True, events=events.append)["slices"]
    assert any(isinstance(event, Message) and "slice by slice" in event.text for event in events)
    assert "slice_by_slice" in [finding["code"] for finding in stack.provenance()["warnings"]]
    progress = [event for event in events if isinstance(event, Progress) and event.stage == "segment"]
    assert progress[-1].done == progress[-1].total and progress[-1].total % 37 == 0
    assert stack.labels.geometry == image.geometry
    for depth in (0, 31, 32, 36):
        one = session.segment(slice_of(image, depth), "slices", probabilities=True)["slices"]
        np.testing.assert_allclose(probabilities_of(stack)[:, depth], probabilities_of(one)[:, 0], atol=2e-3)


def test_slices_are_axial_however_the_volume_is_stored_and_a_box_holds_for_them() -> None:
    plan = volume_plan("slices", dimension=2, patch=(1, 32, 32), normalisation=("zscore",), figures=(None,))
    session = predictor(tiny_model([plan]))
    image = volume((12, 30, 34), 2.0)
    direction = np.asarray(image.geometry.direction)
    turned_array = np.ascontiguousarray(image.array.transpose(0, 2, 1, 3)[:, ::-1])
    columns = direction[:, [1, 0, 2]] * np.array([-1.0, 1.0, 1.0])
    origin = image.geometry.affine @ np.array([0, 29, 0, 1.0])
    geometry = Geometry(
        (30, 12, 34),
        (2.0, 2.0, 2.0),
        tuple(origin[:3]),
        tuple(tuple(row) for row in columns),  # type: ignore[arg-type]
    )
    turned = Image(turned_array, geometry)
    plain = session.segment(image, "slices")["slices"].labels.array
    other = session.segment(turned, "slices")["slices"].labels.array
    assert np.array_equal(other, plain.transpose(0, 2, 1, 3)[:, ::-1]) and plain.any()
    boxed = session.segment(turned, "slices", box=((3, 25), (2, 7), (0, 34)))["slices"].labels.array
    mask = np.zeros(other.shape, dtype=bool)
    mask[:, 3:25, 2:7] = True
    assert not boxed[~mask].any()
    assert boxed[mask].any()


def test_windows_of_air_are_skipped_and_said() -> None:
    array = np.full((1, 64, 64, 64), -1000, dtype=np.int16)
    array[:, 2:14] = volume((12, 64, 64)).array
    image = Image(array, Geometry((64, 64, 64), (2.0, 2.0, 2.0)))
    events: list[Event] = []
    result = predictor(tiny_model([volume_plan()])).segment(image, "organ", events=events.append)["organ"]
    assert any(isinstance(event, Message) and "were skipped" in event.text for event in events)
    assert not result.labels.array[:, 24:].any()
    assert result.labels.array[:, :16].any()


def test_cancelling_stops_after_the_window_at_work() -> None:
    token = CancelToken()
    windows: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "segment":
            windows.append(event.done)
            if event.done == 1:
                token.cancel()

    session = predictor(tiny_model([volume_plan()]), batch=1)
    with pytest.raises(CancelledError):
        session.segment(volume((48, 96, 96)), "organ", events=listen, cancel=token)
    assert windows == [0, 1]


class Failing:
    """Replaces ``MedUniSeg.encode``: fails until windows are as small as ``limit`` voxels a batch."""

    def __init__(self, limit: int, error: Exception) -> None:
        self.limit, self.error, self.original = limit, error, MedUniSeg.encode
        self.seen: list[tuple[int, ...]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def encode(network: MedUniSeg, images: Tensor, modality: Tensor | None = None) -> object:
            self.seen.append(tuple(images.shape))
            if images.numel() > self.limit:
                raise self.error
            return self.original(network, images, modality)

        monkeypatch.setattr(MedUniSeg, "encode", encode)


def test_out_of_memory_goes_down_the_ladder_and_gives_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = tiny_model([volume_plan()]), volume((32, 64, 96))
    expected = predictor(model, batch=4).segment(image, "organ", probabilities=True)["organ"]
    failing = Failing(
        16 * 64 * 64, RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
    )
    failing.install(monkeypatch)
    events: list[Event] = []
    result = predictor(model, batch=4).segment(image, "organ", probabilities=True, events=events.append)["organ"]
    assert [shape[0] for shape in failing.seen[:3]] == [4, 1, 1]
    assert "1 window at a time" in result.execution
    assert any(isinstance(event, Message) and result.execution in event.text for event in events)
    np.testing.assert_allclose(probabilities_of(result), probabilities_of(expected), atol=2e-3)


def test_the_slab_rung_uses_thinner_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = tiny_model([volume_plan(patch=(32, 64, 64))]), volume((40, 64, 64))
    failing = Failing(16 * 64 * 64, torch.OutOfMemoryError("out of memory"))
    failing.install(monkeypatch)
    result = predictor(model, batch=1).segment(image, "organ")["organ"]
    assert failing.seen[-1][2:] == (16, 64, 64)
    assert "slabs" in result.execution


def test_after_the_last_rung_there_is_an_out_of_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Failing(0, MemoryError()).install(monkeypatch)
    with pytest.raises(OutOfMemoryError, match="box"):
        predictor(tiny_model([volume_plan()])).segment(volume((16, 64, 64)), "organ")


def test_a_full_accelerator_leads_to_the_cpu_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program holds the GPU's memory: not even the weights fit."""
    accelerator = torch.device("cuda", 0)

    def optimised_for(network: Network, device: torch.device, *arguments: object, **options: object) -> Network:
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return built(network, device, *arguments, **options)

    built = engine.optimised_for
    monkeypatch.setattr(engine, "optimised_for", optimised_for)
    monkeypatch.setattr(predictor_module, "resolve_device", lambda name: accelerator)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    model, image = tiny_model([volume_plan()]), volume((16, 64, 64))
    session = Predictor(model, precision="fp32", free=lambda device: 1 << 40)
    session.measure_pace("organ")
    assert session.estimate(image, "organ").seconds is None
    events: list[Event] = []
    result = session.segment(image, "organ", events=events.append)["organ"]
    assert result.execution.startswith("cpu")
    warned = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert warned[-1].startswith("Memory ran out (cuda") and "now running with less: cpu" in warned[-1]
    monkeypatch.undo()
    np.testing.assert_array_equal(result.labels.array, predictor(model).segment(image, "organ")["organ"].labels.array)


def test_another_runtime_error_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    failing.install(monkeypatch)
    with pytest.raises(RuntimeError, match="mat1"):
        predictor(tiny_model([volume_plan()])).segment(volume((16, 64, 64)), "organ")
    assert len(failing.seen) == 1


def test_a_machine_with_too_little_memory_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing(1 << 60, MemoryError())
    failing.install(monkeypatch)
    session = predictor(tiny_model([volume_plan()]), free=lambda device: 1 << 16)
    with pytest.raises(OutOfMemoryError, match="are needed and 0 MiB are free"):
        session.segment(volume((16, 64, 64)), "organ")
    assert failing.seen == []


def test_beside_other_images_nothing_cheaper_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = tiny_model([volume_plan()]), volume((32, 64, 96))
    failing, events = Failing(16 * 64 * 64, MemoryError()), list[Event]()
    failing.install(monkeypatch)
    session = predictor(model, batch=4)
    with pytest.raises(OutOfMemoryError):
        session.segment_prepared(session.prepare(image, "organ"), fall_back=False, events=events.append)
    assert len(failing.seen) == 1 and not [event for event in events if isinstance(event, Message)]
    found = session.segment_prepared(session.prepare(image, "organ"), events=events.append)["organ"]
    assert found.execution == "cpu, 1 window at a time"


def test_images_segmented_at_once_from_threads_have_the_results_of_one_after_the_other() -> None:
    plans = [volume_plan("a"), volume_plan("b", patch=(16, 32, 32))]
    images = [volume((24, 80, 72), seed=seed) for seed in range(6)]
    session = predictor(tiny_model(plans))
    wanted = [session.segment(image, ["a", "b"], probabilities=True) for image in images]
    other = predictor(tiny_model(plans))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: other.segment(image, ["a", "b"], probabilities=True), images))
    for before, after in zip(wanted, found, strict=True):
        for task in ("a", "b"):
            assert np.array_equal(probabilities_of(before[task]), probabilities_of(after[task]))
            assert np.array_equal(before[task].labels.array, after[task].labels.array)


def test_estimate_counts_windows_and_gives_seconds_only_after_a_first_image() -> None:
    model, image = tiny_model([volume_plan("a"), volume_plan("b")]), volume((48, 96, 96))
    session = predictor(model)
    before = session.estimate(image, ["a", "b"])
    assert before.seconds is None
    assert before.windows == 5 * 2 * 2
    assert session.estimate(image, ["a"], tta=True).windows == 8 * before.windows
    assert before.bytes > image.array.size * 4
    session.segment(image, ["a", "b"])
    after = session.estimate(image, ["a", "b"])
    assert after.seconds is not None and after.seconds > 0


def test_wrong_modality_task_and_image_are_refused_in_words() -> None:
    plans = [volume_plan("organ"), volume_plan("other"), picture_plan("spot")]
    session = predictor(tiny_model(plans))
    image = volume((16, 64, 64))
    with pytest.raises(UsageError, match="for modality fundus, not ct; its tasks for ct: organ, other"):
        session.segment(image, "spot", "ct")
    with pytest.raises(UsageError, match="it has: organ, other, spot"):
        session.segment(image, "liver")
    with pytest.raises(UsageError, match="at least one task"):
        session.segment(image, [])
    with pytest.raises(UsageError, match="overlap"):
        session.segment(image, "organ", overlap=1.0)
    with pytest.raises(BadInputError, match="takes volumes"):
        session.segment(slice_of(image, 3), "organ")
    with pytest.raises(UsageError, match="at least one window"):
        predictor(session.model, batch=0)
    assert session.segment(image, "organ", "ct")["organ"].modality == "ct"


def test_the_model_itself_is_left_as_it_is() -> None:
    model = tiny_model([volume_plan()])
    model.network.train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    Predictor(model, "cpu", "bf16").segment(volume((16, 64, 64)), "organ")
    assert model.network.training
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.network.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())


def test_half_precision_agrees_with_full_precision() -> None:
    model, image = tiny_model([volume_plan()]), volume((24, 70, 100))
    full = predictor(model).segment(image, "organ", probabilities=True)["organ"]
    half = Predictor(model, "cpu", "bf16").segment(image, "organ", probabilities=True)["organ"]
    assert half.settings["precision"] == "bfloat16"
    assert np.abs(probabilities_of(full) - probabilities_of(half)).mean() < 0.02


def test_one_call_takes_a_path_and_a_model(tmp_path: Path) -> None:
    image = volume((16, 64, 64))
    path = tmp_path / "case.nii.gz"
    write_image(image, path)
    model = tiny_model([volume_plan()])
    result = segment(path, "organ", "ct", model, device="cpu", precision="fp32")
    expected = predictor(model).segment(image, "organ")["organ"]
    assert np.array_equal(result.labels.array, expected.labels.array)
    assert result.labels.geometry.is_close(image.geometry)
    with pytest.raises(UsageError, match="it has: organ"):
        segment(tmp_path / "absent.nii.gz", "liver", model=model)


def tilted(shape: tuple[int, int, int]) -> Image:
    """A volume whose slices are shifted against each other, as by a tilted gantry (0.25 mm per mm)."""
    straight = volume(shape)
    affine = straight.geometry.affine.copy()
    affine[1, 0] += 0.5
    return Image(straight.array, Geometry.from_affine(affine, shape))


def test_a_tilted_volume_is_segmented_at_right_angles_and_the_labels_lie_on_its_own_grid() -> None:
    model, image = tiny_model([volume_plan()]), tilted((16, 64, 64))
    said: list[object] = []
    result = predictor(model).segment(image, "organ", probabilities=True, events=said.append)["organ"]
    assert any("right angles" in getattr(event, "text", "") for event in said)
    assert result.labels.geometry == image.geometry and result.image is image
    straight, _ = resample_to_orthonormal(image)
    there = predictor(model).segment(straight, "organ")["organ"]
    expected = resample_to(there.labels, image.geometry, labels=True)
    assert np.array_equal(result.labels.array, expected.array) and result.labels.array.any()
    np.testing.assert_allclose(probabilities_of(result).sum(axis=0), 1, atol=5e-3)
    assert result.settings["straightened"] is True


def test_a_box_in_a_tilted_volume_is_a_box_of_its_own_voxels() -> None:
    model, image = tiny_model([volume_plan()]), tilted((16, 64, 64))
    box = ((2, 14), (5, 60), (8, 40))
    labels = predictor(model).segment(image, "organ", box=box)["organ"].labels.array
    inside = (slice(None), *(slice(*span) for span in box))
    assert labels[inside].any()
    outside = labels.copy()
    outside[inside] = 0
    assert not outside.any()


def test_hounsfield_units_are_clipped_for_a_task_of_windowed_pictures_and_that_is_said() -> None:
    plan = volume_plan(modality="ct", normalisation=("zscore",), figures=(None,))
    model = tiny_model([plan])
    rng = np.random.default_rng(0)
    hounsfield = rng.uniform(-1000, 1500, (1, 16, 64, 64)).astype(np.int16)
    image = Image(hounsfield, volume((16, 64, 64)).geometry)
    said: list[Event] = []
    found = predictor(model).segment(image, plan.task, events=said.append)[plan.task]
    assert any(isinstance(event, Message) and "-160..240 HU" in event.text for event in said)
    clipped = image.with_array(np.clip(hounsfield, -160, 240))
    expected = predictor(model).segment(clipped, plan.task)[plan.task]
    np.testing.assert_array_equal(found.labels.array, expected.labels.array)
    assert found.image is image  # means are those of the image as it is


def test_a_ct_is_clipped_for_the_tasks_of_ct_only_whatever_is_asked_for_first() -> None:
    """Two tasks that preprocess alike but for the window, which only a CT's task has."""
    grey = {"channels": ("grey",), "normalisation": ("zscore",), "figures": (None,)}
    plans = [picture_plan("liver", modality="ct", **grey), picture_plan("lung", modality="xray", **grey)]
    model = tiny_model(plans)
    values = np.random.default_rng(0).uniform(-1000, 1500, (1, 1, 64, 64)).round().astype(np.int16)
    image = Image(values, Geometry((1, 64, 64), (1.0, 1.0, 1.0)), physical=False)
    alone = probabilities_of(predictor(model).segment(image, "lung", probabilities=True)["lung"])
    for tasks in (["liver", "lung"], ["lung", "liver"]):
        both = predictor(model).segment(image, tasks, probabilities=True)
        assert np.array_equal(probabilities_of(both["lung"]), alone), tasks
