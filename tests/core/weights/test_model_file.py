"""The model file: what is written comes back, and nothing in a file is believed unchecked."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from weights_samples import CONFIG, small_info, small_state

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.model import ModelConfig
from meduniseg_core.weights import Registry, load_model, read_info, read_model, read_pack, save_model
from meduniseg_core.weights.container import METADATA_KEY

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.safetensors"


def one_sentence(error: BaseException, path: Path) -> str:
    """The message, after checking that it names the file and is one sentence."""
    text = str(error)
    assert str(path) in text
    assert text.endswith(".") and "\n" not in text
    return text


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path: Path, header: dict[str, Any] | bytes, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def edit_info(path: Path, edit: Edit) -> None:
    """Change the metadata JSON of a model file."""
    header, body = split(path)
    info = json.loads(header["__metadata__"][METADATA_KEY])
    edit(info)
    header["__metadata__"][METADATA_KEY] = json.dumps(info)
    join(path, header, body)


def edit_header(path: Path, edit: Edit) -> None:
    header, body = split(path)
    edit(header)
    join(path, header, body)


def test_info_and_weights_come_back(path: Path) -> None:
    info, state = small_info(), small_state()
    digest = save_model(path, info, state)
    model = load_model(path)
    assert model.info == info == read_info(path)
    assert model.sha256 == digest == sha256_of(path)
    assert model.path == path
    loaded = model.network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_loaded_network_runs_and_can_be_trained(path: Path) -> None:
    save_model(path, small_info(), small_state())
    network = load_model(path).network
    assert not network.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    image = torch.randn(1, 1, 32, 64, 64)
    network(image, torch.tensor([0]), torch.tensor([0]))[0].sum().backward()
    assert network.encoder.stems["1"].weight.grad is not None


def test_half_precision_storage_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    state = small_state()
    single, half = tmp_path / "single.safetensors", tmp_path / "half.safetensors"
    save_model(single, small_info(), state)
    save_model(half, small_info(), state, "fp16")
    assert len(split(half)[1]) * 2 == len(split(single)[1])
    loaded = read_model(half).network.state_dict()
    for name, tensor in state.items():
        assert loaded[name].dtype == torch.float32
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-6)


def test_same_input_gives_the_same_file(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    state = small_state()
    assert save_model(one, small_info(), state) == save_model(two, small_info(), dict(reversed(state.items())))


def test_bfloat16_tensors_are_read(path: Path) -> None:
    save_model(path, small_info(), small_state())
    metadata = split(path)[0]["__metadata__"]
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in small_state().items()}
    safetensors.torch.save_file(tensors, path, metadata)
    assert load_model(path).network.fuse.prompt.dtype == torch.float32


def test_a_failed_save_leaves_the_old_file(path: Path) -> None:
    digest = save_model(path, small_info(), small_state())
    bad = small_state() | {"fuse.prompt": torch.full((1, 4, 2, 2, 2), torch.nan)}
    with pytest.raises(BadInputError, match=r"fuse\.prompt holds NaN"):
        save_model(path, small_info(), bad)
    assert sha256_of(path) == digest
    assert list(path.parent.iterdir()) == [path]


def test_values_beyond_half_precision_are_refused_when_saving(path: Path) -> None:
    state = small_state() | {"fuse.prompt": torch.full((1, 4, 2, 2, 2), 1e6)}
    with pytest.raises(BadInputError, match=r"fuse\.prompt"):
        save_model(path, small_info(), state, "fp16")
    save_model(path, small_info(), state)


def test_saving_weights_of_another_architecture_is_refused(path: Path) -> None:
    state = small_state()
    state.pop("fuse.prompt")
    with pytest.raises(BadInputError, match="missing"):
        save_model(path, small_info(), state)
    assert not path.exists()


def test_saving_under_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"\.safetensors"):
        save_model(tmp_path / "model.pt", small_info(), small_state())


def test_read_info_reads_no_tensors(path: Path) -> None:
    """With the tensors' bytes replaced by a hole of the same size the description is still there."""
    save_model(path, small_info(), small_state())
    size, start = path.stat().st_size, path.stat().st_size - len(split(path)[1])
    os.truncate(path, start)
    os.truncate(path, size)
    assert read_info(path).name == "small"


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    save_model(path, small_info(), small_state())
    size = path.stat().st_size
    os.truncate(path, int(kept if kept >= 1 else kept * size))
    for read in (read_info, read_model):
        with pytest.raises(BadInputError) as caught:
            read(path)
        one_sentence(caught.value, path)


def test_trailing_bytes_are_refused(path: Path) -> None:
    save_model(path, small_info(), small_state())
    with path.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(BadInputError, match="should take"):
        read_info(path)


@pytest.mark.parametrize("length", [2**63, 2**40, 1 << 25])
def test_a_header_that_claims_to_be_huge_is_refused_unread(path: Path, length: int) -> None:
    path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(100))
    with pytest.raises(BadInputError, match="header is longer"):
        read_info(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"__metadata__": {"x": 1}}',
        b'{"__metadata__": {"x": "1"}, "__metadata__": {"x": "2"}}',
        b"\xff\xfe",
        b'{"t": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}',
        b'{"t": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b'{"t": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [1]}}',
        b'{"t": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"t": 3}',
        b'{"a": ' * 100_000,
        b'{"t": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [1180591620717411303424], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [1099511627776, 1099511627776], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [1, 1, 1, 1, 1, 1, 1, 1, 2], "data_offsets": [0, 8]}}',
        b'{"t": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
        b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a\\nerror: forged": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
    ],
)
def test_a_malformed_header_is_refused(path: Path, header: bytes) -> None:
    join(path, header, bytes(8))
    with pytest.raises(BadInputError) as caught:
        read_info(path)
    one_sentence(caught.value, path)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(path, small_info(), small_state())

    def replaced(place: Path, **options: str) -> safetensors.safe_open:
        save_model(path, small_info(name="other"), small_state())
        return safetensors.safe_open(place, **options)

    monkeypatch.setattr("meduniseg_core.weights.header.safe_open", replaced)
    with pytest.raises(BadInputError, match="was replaced while it was read"):
        read_model(path)


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_that_is_not_utf_8_is_no_hindrance(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/m\xe9.safetensors"))
    save_model(path, small_info(), small_state())
    assert read_info(path) == read_model(path).info


def test_a_tensor_larger_than_the_file_is_refused_without_allocating(path: Path) -> None:
    save_model(path, small_info(), small_state())

    def enlarge(header: dict[str, Any]) -> None:
        header["fuse.prompt"]["shape"] = [1 << 20, 1 << 20, 1 << 20]

    edit_header(path, enlarge)
    with pytest.raises(BadInputError, match="size its shape says"):
        load_model(path)


def test_overlapping_tensors_are_refused(path: Path) -> None:
    save_model(path, small_info(), small_state())

    def overlap(header: dict[str, Any]) -> None:
        names = [name for name in header if name != "__metadata__"]
        same = [name for name in names if header[name]["shape"] == header[names[0]]["shape"]]
        header[same[1]]["data_offsets"] = header[same[0]]["data_offsets"]

    edit_header(path, overlap)
    with pytest.raises(BadInputError, match="overlap or leave gaps"):
        load_model(path)


def test_a_foreign_safetensors_file_is_refused(path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(BadInputError, match="without a description"):
        read_info(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "another format"),
        ({"format_version": 2}, "format version is 2"),
        ({"format_version": True}, "format version"),
        ({"format_version": None}, "format version"),
        ({"unheard_of": 1}, "'unheard_of'"),
        ({"name": "../../evil"}, "'name'"),
        ({"tasks": []}, "'tasks'"),
        ({"modalities": ["ct"]}, "has no prompt"),
        ({"name": "a" * 201}, "at most 200"),
    ],
)
def test_a_wrong_description_is_refused_naming_the_place(path: Path, change: dict[str, Any], said: str) -> None:
    save_model(path, small_info(), small_state())
    edit_info(path, lambda info: info.update(change))
    with pytest.raises(BadInputError) as caught:
        load_model(path)
    assert said in one_sentence(caught.value, path)


@pytest.mark.parametrize(
    "change",
    [
        {"features": [2, 3, 4, 4, 4, 1 << 40]},
        {"features": [2, 3, 4, 4, 4, 0]},
        {"features": [4] * 500, "strides": [[1, 1, 1]] * 499},
        {"task_prompt_size": [1 << 20, 1 << 20, 1 << 20]},
        {"task_prompt_size": [0, 2, 2]},
        {"modalities": 1 << 50},
        {"strides": [[-1, 2, 2]] * 5},
        {"stems": list(range(1, 200))},
        {"method": "nothing"},
        {"method": "ccq"},  # which is not told the modality
        {"fuse_blocks": 1 << 40},
        {"fuse_divisor": 0},
        {"modal_prior_at": 7},
        {"task_prompts": "each", "learned_prompts": False},
    ],
)
def test_absurd_architectures_are_refused_before_anything_is_built(
    path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(path, small_info(), small_state())
    edit_info(path, lambda info: info["config"].update(change))
    monkeypatch.setattr("meduniseg_core.weights.model_file.build_model", lambda _: pytest.fail("was built"))
    with pytest.raises(BadInputError) as caught:
        load_model(path)
    one_sentence(caught.value, path)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "hermes"},
        {"task_prompts": "each"},
        {"modal_prompts": "one"},
        {"modal_prior_at": "bottleneck"},
        {"task_prior_at": "decoder"},
        {"learned_prompts": False},
        {"fuse_blocks": 2},
        {"fuse_divisor": 2},
    ],
)
def test_weights_of_another_method_or_variant_than_named_are_refused(path: Path, change: dict[str, Any]) -> None:
    save_model(path, small_info(), small_state())
    edit_info(path, lambda info: info["config"].update(change))
    with pytest.raises(BadInputError, match="does not belong to the architecture") as caught:
        load_model(path)
    one_sentence(caught.value, path)


def test_an_architecture_larger_than_the_file_is_refused_by_its_shapes(path: Path) -> None:
    save_model(path, small_info(), small_state())
    edit_info(path, lambda info: info["config"].update(features=[2000, 4000, 8000, 16000, 16000, 16000]))
    with pytest.raises(BadInputError, match="should have"):
        load_model(path)


@pytest.mark.parametrize("patch", [[1 << 13, 1 << 13, 1 << 13], [0, 32, 32], [-16, 32, 32]])
def test_absurd_patches_are_refused(path: Path, patch: list[int]) -> None:
    save_model(path, small_info(), small_state())
    edit_info(path, lambda info: info["tasks"][0].update(patch=patch))
    with pytest.raises(BadInputError, match="impossible patch"):
        read_info(path)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        *[((), "spacing", [value, 1.5, 1.5]) for value in (0, -1.0, 1e-30, 1e4, 1e30)],
        *[(("figures", 0), "mean", value) for value in (1e30, -1e300)],
        *[(("figures", 0), "std", value) for value in (0, -1.0, 1e-300, 1e30)],
        (("figures", 0), "percentile_00_5", 1e12),
        (("figures", 0), "percentile_00_5", 300.0),
        ((), "batch", 1 << 40),
    ],
)
def test_absurd_preprocessing_is_refused_naming_the_place(path: Path, place: tuple, key: str, value: object) -> None:
    save_model(path, small_info(), small_state())

    def change(info: dict[str, Any]) -> None:
        target = info["tasks"][0]
        for step in place:
            target = target[step]
        target[key] = value

    edit_info(path, change)
    for use in (read_info, load_model):
        with pytest.raises(BadInputError, match=r"wrong at 'tasks\.0") as caught:
            use(path)
        one_sentence(caught.value, path)


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"1e999"])
def test_figures_that_are_no_numbers_are_refused(path: Path, text: bytes) -> None:
    save_model(path, small_info(), small_state())
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'\\"mean\\":40.0', b'\\"mean\\":' + text)
    assert header != data[8 : 8 + length]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    with pytest.raises(BadInputError) as caught:
        load_model(path)
    one_sentence(caught.value, path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_ordinary_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    uses = (load_model, read_info, read_pack, Registry(tmp_path / "models").import_file)
    for use in uses:
        with pytest.raises(BadInputError, match="not an ordinary file"):
            use(path)


def save_raw(path: Path, state: dict[str, torch.Tensor]) -> None:
    """A model file with tensors that `save_model` would refuse."""
    save_model(path, small_info(), small_state())
    safetensors.torch.save_file(state, path, split(path)[0]["__metadata__"])


def test_missing_unexpected_misshapen_and_non_finite_tensors_are_named(path: Path) -> None:
    state = small_state()
    missing = {name: tensor for name, tensor in state.items() if name != "fuse.prompt"}
    cases = {
        "1 tensors are missing, the first is fuse.prompt": missing,
        "1 tensors are unexpected, the first is 'extra'": state | {"extra": torch.zeros(1)},
        "tensor fuse.prompt has shape (1, 4, 2, 2, 3)": state | {"fuse.prompt": torch.zeros(1, 4, 2, 2, 3)},
        "tensor fuse.prompt holds NaN": state | {"fuse.prompt": torch.full((1, 4, 2, 2, 2), torch.inf)},
    }
    for said, tensors in cases.items():
        save_raw(path, tensors)
        with pytest.raises(BadInputError) as caught:
            load_model(path)
        assert said in one_sentence(caught.value, path)


def test_paths_that_are_no_files_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such model file"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(BadInputError, match="is a folder, and a file is wanted here"):
        load_model(tmp_path)


def test_a_pickled_checkpoint_is_pointed_to_the_importer(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="models import"):
        load_model(tmp_path / "model_final_checkpoint.model")


def test_info_finds_tasks_and_modalities_by_name() -> None:
    info = small_info()
    assert (info.task_index("polyp"), info.modality_index("endoscopy")) == (1, 1)
    assert info.plan_of("organ").class_count == 3
    with pytest.raises(UsageError, match="it has: organ, polyp"):
        info.task_index("liver")
    with pytest.raises(UsageError, match="it has: ct, endoscopy"):
        info.modality_index("mri")


@pytest.mark.parametrize(
    "changes",
    [
        {"config": CONFIG.model_copy(update={"tasks": 1})},
        {"config": CONFIG.model_copy(update={"classes": 2})},
        {"config": CONFIG.model_copy(update={"stems": (1,)})},
        {"modalities": ("ct", "mri")},
        {"tasks": small_info().tasks[:1] * 2},
    ],
)
def test_info_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        small_info(**changes)


def test_every_kind_of_network_survives_the_file(path: Path) -> None:
    """Backbone only, downstream (no FUSE) and UniSeg (no modal prior)."""
    from meduniseg_core.model import build_model

    base = {"features": (2, 2, 2, 2, 2, 2), "stems": (1,), "classes": 3, "modal_prompt_length": 4}
    base |= {"task_prompt_channels": 2, "task_prompt_size": (1, 1, 1)}
    for changes in ({"modalities": 0, "tasks": 0}, {"modalities": 1, "tasks": 0}, {"modalities": 0, "tasks": 3}):
        config = ModelConfig(**(base | changes))
        info = small_info(config=config, tasks=small_info().tasks[:1], modalities=("ct",))
        network = build_model(config)
        save_model(path, info, network.state_dict())
        assert load_model(path).info.config == config


def test_looking_at_a_file_does_not_load_torch_s_compiler(tmp_path: Path) -> None:
    # it takes a second or two, in which a viewer would stand still
    program = (
        "import sys\n"
        "from meduniseg_core.weights import Registry\n"
        "assert Registry().info('starter').tasks\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "MEDUNISEG_HOME": str(tmp_path)})
