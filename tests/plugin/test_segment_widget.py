"""The Segment widget in a real viewer, as a user works it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from small_inputs import save_tiny_model, write_volume

from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.images import Finding
from napari_meduniseg._napari_versions import camera_of


@pytest.fixture
def widget(gui: Any, qtbot: Any) -> Any:
    from napari_meduniseg.widgets.segment import SegmentWidget

    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    assert isinstance(found, SegmentWidget)
    found.form.choose(model="tiny")
    found.form.compute.precision.value = "fp32"
    return found


def until_idle(qtbot: Any, widget: Any) -> None:
    qtbot.waitUntil(lambda: not widget.busy, timeout=60_000)


def open_volume(gui: Any, tmp_path: Path, shape: tuple[int, int, int] = (20, 36, 40)) -> Any:
    (layer,) = gui.open(str(write_volume(tmp_path / "mr.nii.gz", shape)), plugin="napari-meduniseg")
    return layer


def test_open_tick_run_look_and_save(gui: Any, widget: Any, qtbot: Any, tmp_path: Path) -> None:
    open_volume(gui, tmp_path)
    widget.form.choose(modality="mri", tasks=("organ", "vessel"))
    qtbot.waitUntil(lambda: "At most" in widget.said.text(), timeout=30_000)
    assert "liver, artery, vein" in widget.said.text()
    widget.run_button.click()
    assert widget.busy and not widget.run_button.isEnabled() and widget.cancel_button.isEnabled()
    until_idle(qtbot, widget)
    assert [layer.name for layer in gui.layers] == ["mr.nii.gz", "mr.nii.gz: organ", "mr.nii.gz: vessel"]
    assert widget.table.table.rowCount() == 3 and "ml" in widget.table.text()
    assert "Not for clinical use" in widget.said.text()
    widget.table.table.selectRow(2)
    assert gui.layers[2].selected_label == 2

    target = tmp_path / "saved.nii.gz"
    gui.layers.selection = {gui.layers[1]}
    assert gui.layers.save(str(target), selected=True, plugin="napari-meduniseg")
    import SimpleITK as sitk  # noqa: N813

    saved, source = sitk.ReadImage(str(target)), sitk.ReadImage(str(tmp_path / "mr.nii.gz"))
    assert saved.GetSize() == source.GetSize() and saved.GetDirection() == pytest.approx(source.GetDirection())
    assert saved.GetOrigin() == pytest.approx(source.GetOrigin())
    assert (tmp_path / "saved.json").is_file()
    (again,) = gui.open(str(target), plugin="napari-meduniseg")
    assert list(again.features["name"]) == ["background", "liver"]
    np.testing.assert_array_equal(again.data, gui.layers[1].data)


def test_a_photograph_gets_its_task(gui: Any, widget: Any, qtbot: Any) -> None:
    gui.open_sample("napari-meduniseg", "retina")
    widget.form.choose(modality="fundus", tasks=("disc_cup",))
    widget.run()
    until_idle(qtbot, widget)
    labels = gui.layers[-1]
    assert labels.data.shape == (1411, 1411) and list(labels.features["name"])[1:] == ["disc", "cup"]


def slow(widget: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The core's work, but it waits until it is cancelled or told to go on."""
    import napari_meduniseg.widgets.segment as module

    real: Callable[..., Any] = module.run_job
    state = {"go": False}

    def waiting(order: Any, predictors: Any, events: EventSink, cancel: CancelToken) -> Any:
        while not state["go"]:
            cancel.raise_if_cancelled()
            time.sleep(0.01)
        return real(order, predictors, events, cancel)

    monkeypatch.setattr(module, "run_job", waiting)
    return state


def test_cancel_in_the_middle_changes_nothing(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(widget, monkeypatch)
    open_volume(gui, tmp_path)
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    widget.cancel_button.click()
    until_idle(qtbot, widget)
    assert len(gui.layers) == 1 and "Cancelled" in widget.said.text() and widget.run_button.isEnabled()
    widget.run()  # and it can run again
    assert widget.busy
    widget.cancel()
    until_idle(qtbot, widget)


def test_a_layer_deleted_in_the_middle_drops_the_result(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = slow(widget, monkeypatch)
    layer = open_volume(gui, tmp_path)
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    gui.layers.remove(layer)
    state["go"] = True
    until_idle(qtbot, widget)
    assert len(gui.layers) == 0 and "removed" in widget.said.text()


def test_the_result_comes_to_its_image_although_another_is_chosen_meanwhile(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = slow(widget, monkeypatch)
    layer = open_volume(gui, tmp_path)
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    other = gui.add_image(np.zeros((5, 6, 7)), name="other")
    widget.form.image.set_layer(other)
    layer.name = "renamed"
    state["go"] = True
    until_idle(qtbot, widget)
    assert gui.layers[-1].name == "renamed: organ" and gui.layers[-1].data.shape == layer.data.shape


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (np.zeros((2, 3, 4, 5)), {}, "4 dimensions"),
        ([np.zeros((64, 64, 64)), np.zeros((32, 32, 32))], {"multiscale": True}, "multiscale"),
    ],
    ids=["4D", "multiscale"],
)
def test_what_cannot_be_segmented_is_one_sentence_in_the_widget(
    gui: Any, widget: Any, qtbot: Any, data: Any, options: dict[str, Any], said: str
) -> None:
    gui.add_image(data, **options)
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    assert said in widget.said.text() and len(gui.layers) == 1


def test_no_image_and_a_wrong_number_of_channels_are_said(gui: Any, widget: Any, qtbot: Any) -> None:
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    assert "no image" in widget.said.text() and not widget.busy
    gui.add_image(np.zeros((32, 40, 3), np.uint8), rgb=True)
    assert widget.form.tasks.count() == 0  # an MR task needs a volume
    widget.run()
    assert "No task" in widget.said.text()


def test_a_task_with_two_channels_asks_for_two_layers_by_name(
    gui: Any, widget: Any, qtbot: Any, shared_data: Path
) -> None:
    folder = shared_data / "Dataset103_SarcomaPET" / "imagesTs"
    for channel in range(2):
        gui.open(str(folder / f"sarcoma_000_000{channel}.nii.gz"), plugin="napari-meduniseg")
    form = widget.form
    form.choose(model="starter")
    form.choose(modality="pet")
    form.choose(tasks=("sarcoma",))
    form.image.set_layer(gui.layers[0])
    (second,) = form.more_channels
    second.set_layer(gui.layers[1])
    assert [form._form.labelForField(box).text() for box in (form.image, second)] == ["CT", "PET"]
    widget.run()
    until_idle(qtbot, widget)
    labels = gui.layers[-1]
    assert labels.data.shape == gui.layers[0].data.shape and labels.data.any()
    assert len(widget.table.text().splitlines()[1].split("\t")[-1].split(", ")) == 2  # a mean per channel


def test_another_model_is_loaded_when_it_is_chosen(
    gui: Any, widget: Any, qtbot: Any, tmp_path: Path, tiny_home: Path
) -> None:
    from meduniseg_core.weights import Registry

    Registry().import_file(save_tiny_model(tmp_path / "second.safetensors", "second"))
    open_volume(gui, tmp_path)
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    widget.form.refresh_models()
    assert widget.form.model.currentText() == "tiny"
    widget.form.choose(model="second", modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    models = [layer.metadata["meduniseg"]["provenance"]["model"] for layer in list(gui.layers)[1:]]
    assert models == ["tiny", "second"]
    Registry().remove("second")


def test_an_image_that_is_constant_and_a_wrong_modality_do_no_harm(gui: Any, widget: Any, qtbot: Any) -> None:
    gui.add_image(np.zeros((20, 36, 40), np.int16), units="mm", name="zeros")
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    assert gui.layers[-1].data.shape == (20, 36, 40)
    widget.form.image.set_layer(gui.layers[0])
    widget.form.choose(modality="fundus", tasks=("disc_cup",))
    # that it shows nothing is said before, too
    qtbot.waitUntil(lambda: "grey" in widget.warning.text(), timeout=10_000)
    assert not widget.warning.isHidden() and "shows nothing" in widget.warning.text()


def test_the_viewer_stays_responsive_while_it_runs(gui: Any, widget: Any, qtbot: Any, tmp_path: Path) -> None:
    open_volume(gui, tmp_path, (24, 64, 64))
    widget.form.choose(modality="mri", tasks=("organ", "vessel"))
    widget.form.compute.overlap.value = 0.6
    widget.run()
    gaps, last = [], time.perf_counter()
    while widget.busy:
        qtbot.wait(5)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    # benchmarks/responsiveness.py prints the longest (68 ms on a large CT); a busy test machine gets some leave
    assert len(gaps) > 3 and sorted(gaps)[int(0.95 * len(gaps))] < 0.1


def slow_to_read(array: np.ndarray, read: list[threading.Thread]) -> da.Array:
    """The array in chunks of a slice, as if each lay in a file far away; the threads they are read in are noted."""

    def fetch(block: np.ndarray) -> np.ndarray:
        read.append(threading.current_thread())
        time.sleep(0.3)
        return block

    whole = da.from_array(array, chunks=(4, *array.shape[1:]))
    return whole.map_blocks(fetch, dtype=array.dtype, meta=np.empty((0,) * array.ndim, array.dtype))


def test_a_lazy_layer_is_never_read_in_the_gui_s_thread(gui: Any, widget: Any, qtbot: Any) -> None:
    import dask

    main, read = threading.main_thread(), []
    array = np.random.default_rng(0).normal(size=(20, 36, 40)).astype(np.float32)
    # synchronous: each chunk is read in the very thread that asks for it, not in one of dask's own
    with dask.config.set(scheduler="synchronous"):
        layer = gui.add_image(slow_to_read(array, read), scale=(2, 2, 2), units="mm", contrast_limits=(-3, 3))
        layer.refresh = layer._refresh_sync = lambda *_, **__: None  # napari has shown its slice: from here on it is us
        qtbot.wait(50)
        read.clear()
        widget.form.choose(modality="mri", tasks=("organ",))
        qtbot.waitUntil(lambda: "At most" in widget.said.text(), timeout=30_000)
        qtbot.waitUntil(lambda: len(read) == 5, timeout=30_000)  # to see whether it looks like MR
        widget.form.choose(modality="mri", tasks=("organ", "vessel"))
        qtbot.waitUntil(lambda: "artery" in widget.said.text(), timeout=30_000)
        assert len(read) == 5  # another task is no reason to read it again
        widget.run_button.click()
        until_idle(qtbot, widget)
    assert len(read) == 10 and main not in read
    assert gui.layers[-1].data.shape == array.shape


def test_what_the_voxels_are_no_good_for_is_said_before_and_after_run(gui: Any, widget: Any, qtbot: Any) -> None:
    array = np.zeros((20, 36, 40), np.float32)
    array[-1] = np.nan
    gui.add_image(array, units="mm", contrast_limits=(0, 1))
    widget.form.choose(modality="mri", tasks=("organ",))
    qtbot.waitUntil(lambda: "NaN" in widget.said.text(), timeout=30_000)
    qtbot.wait(1000)
    assert "NaN" in widget.said.text()  # the forecast does not cover it
    widget.run()
    assert widget.busy
    until_idle(qtbot, widget)
    assert "NaN" in widget.said.text() and len(gui.layers) == 1


def test_an_answer_about_the_layer_before_is_not_shown(
    gui: Any, widget: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_meduniseg.widgets.segment as module
    from napari_meduniseg._segmentation_job import Looked

    asked, go = [], threading.Event()

    def looking(snapshots: Any, plans: Any, _said: Any) -> Looked:
        asked.append(snapshots[0].name)
        if snapshots[0].name == "first":
            go.wait(30)
            return Looked({"organ": (Finding("intensity_mismatch", "about the first"),)})
        return Looked({})

    monkeypatch.setattr(module, "look_at_image", looking)
    gui.add_image(np.zeros((20, 36, 40), np.int16), units="mm", name="first")
    widget.form.choose(modality="mri", tasks=("organ",))
    qtbot.waitUntil(lambda: asked == ["first"], timeout=10_000)
    widget.form.image.set_layer(gui.add_image(np.zeros((21, 36, 40), np.int16), units="mm", name="second"))
    qtbot.waitUntil(lambda: asked == ["first", "second"], timeout=10_000)
    go.set()
    qtbot.wait(300)
    assert widget.warning.isHidden()


def test_what_a_result_s_findings_say_stands_below_run(gui: Any, widget: Any, qtbot: Any) -> None:
    array = np.random.default_rng(0).choice([-1000, 0, 60], size=(20, 36, 40)).astype(np.int16)
    gui.add_image(array, units="mm", name="ct", contrast_limits=(-160, 240))
    widget.form.choose(modality="mri", tasks=("organ",))
    qtbot.waitUntil(lambda: "Hounsfield" in widget.warning.text(), timeout=30_000)  # before Run
    widget._warn([])
    widget.run()
    until_idle(qtbot, widget)
    assert "looks like CT" in widget.warning.text() and not widget.warning.isHidden()


def test_what_a_result_says_stays_when_the_form_looks_again(
    gui: Any, widget: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_meduniseg.widgets.segment as module
    from meduniseg_core.inference import postprocessing

    implausible = Finding("implausible_result", "The organ is unlike the training's: look at it.")
    monkeypatch.setattr(postprocessing, "check_result", lambda *_, **__: (implausible,))
    told: list[str] = []
    for tell in ("show_info", "show_warning"):
        monkeypatch.setattr(module, tell, told.append)
    gui.add_image(np.random.default_rng(0).normal(size=(20, 36, 40)), units="mm", name="mr", contrast_limits=(-3, 3))
    widget.form.choose(modality="mri", tasks=("organ",))
    qtbot.waitUntil(lambda: "At most" in widget.said.text(), timeout=30_000)
    widget.run()
    until_idle(qtbot, widget)
    qtbot.wait(1000)  # the new layer made the form look again
    assert widget.warning.text() == implausible.text
    assert implausible.text not in "".join(told)  # the panel shows it: no notification covers the image for it
    other = np.random.default_rng(1).normal(size=(21, 36, 40))  # nothing is said of it
    widget.form.image.set_layer(gui.add_image(other, units="mm", name="other", contrast_limits=(-3, 3)))
    qtbot.waitUntil(lambda: widget.warning.isHidden(), timeout=30_000)


def test_a_sheared_layer_is_resampled_and_that_is_said(
    gui: Any, widget: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_meduniseg.widgets.segment as module

    told: list[str] = []
    monkeypatch.setattr(module, "show_info", told.append)
    affine = np.eye(4)
    affine[:3, :3] = [[2, 0, 0], [0.5, 2, 0], [0, 0, 2]]
    layer = gui.add_image(np.random.default_rng(0).normal(size=(20, 36, 40)), affine=affine, units="mm")
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    assert "right angles" in widget.note.text() and not told  # the panel says it: no notification is needed
    np.testing.assert_allclose(gui.layers[-1].data_to_world((3, 4, 5)), layer.data_to_world((3, 4, 5)))


def test_what_a_run_found_out_stays_when_the_look_at_the_image_ends_later(
    gui: Any, widget: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_meduniseg.widgets.segment as module

    go_on, ended = threading.Event(), threading.Event()

    def late(*of: Any) -> Any:
        go_on.wait(60)
        found = module.Looked({})
        ended.set()
        return found

    monkeypatch.setattr(module, "look_at_image", late)
    affine = np.eye(4)
    affine[:3, :3] = [[2, 0, 0], [0.5, 2, 0], [0, 0, 2]]
    gui.add_image(np.random.default_rng(0).normal(size=(20, 36, 40)), affine=affine, units="mm")
    widget.form.choose(modality="mri", tasks=("organ",))
    widget.run()
    until_idle(qtbot, widget)
    assert "right angles" in widget.note.text()
    go_on.set()
    qtbot.waitUntil(lambda: ended.is_set() and not widget.does(module._LOOK), timeout=30_000)
    assert "right angles" in widget.note.text()
    gui.add_image(np.zeros((8, 9, 10)), name="another")  # nothing was run on it
    qtbot.waitUntil(lambda: "right angles" not in widget.note.text(), timeout=30_000)


def test_the_views_show_the_head_up_and_the_left_on_the_right(gui: Any, widget: Any, tmp_path: Path) -> None:
    open_volume(gui, tmp_path)
    widget.view_bar.buttons["coronal"].click()
    assert gui.dims.order == (1, 0, 2) and camera_of(gui).orientation2d[0] == "up"
    widget.view_bar.buttons["axial"].click()
    assert gui.dims.order == (0, 1, 2) and camera_of(gui).orientation2d[0] == "down"


def test_the_napari_command_opens_images_beside_the_panel(
    gui_screen: None, tiny_home: Path, make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari

    from napari_meduniseg import _session
    from training_cli.main import main

    viewers = []

    def viewer(title: str) -> Any:
        viewers.append(make_napari_viewer(title=title))
        return viewers[0]

    monkeypatch.setattr(napari, "Viewer", viewer)
    monkeypatch.setattr(napari, "run", lambda: None)
    set_up: list[str] = []  # in napari's own settings, which are the user's
    for name in ("read_without_asking", "leave_out_the_notice_of_units"):
        monkeypatch.setattr(_session, name, lambda name=name: set_up.append(name))
    assert main(("napari", str(write_volume(tmp_path / "mr.nii.gz")))) == 0
    assert [layer.name for layer in viewers[0].layers] == ["mr.nii.gz"]
    assert list(viewers[0].window.dock_widgets) == ["Segment (MedUniSeg)"]  # as napari's menu calls it
    assert set_up == ["read_without_asking", "leave_out_the_notice_of_units"]
