"""Packs: what they hold, what is refused, what they make of their base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor
from weights_samples import CONFIG, small_info, small_state

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.model import build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.weights import (
    Model,
    PackInfo,
    load_model,
    read_info,
    read_pack,
    read_pack_info,
    save_model,
    save_pack,
)
from meduniseg_core.weights.container import METADATA_KEY
from meduniseg_core.weights.pack_file import packs_by_task, refined_network


@pytest.fixture
def base(tmp_path: Path) -> Model:
    save_model(tmp_path / "base.safetensors", small_info("base"), small_state())
    return load_model(tmp_path / "base.safetensors")


def tensors(seed: int = 0, rank: int = 2) -> dict[str, Tensor]:
    """A refinement of `CONFIG` that has learned something."""
    torch.manual_seed(seed)
    refinement = Refinement(build_model(CONFIG), rank)
    return {name: torch.randn_like(value) * 0.1 for name, value in refinement.state_dict().items()}


def info(base: Model, **changes: object) -> PackInfo:
    fields: dict[str, object] = {
        "name": "better",
        "base": "base",
        "base_sha256": base.sha256,
        "config": base.info.config,
        "tasks": ("organ",),
        "rank": 2,
        "alpha": 4.0,
    }
    return PackInfo.model_validate({**fields, **changes})


@pytest.fixture
def file(base: Model, tmp_path: Path) -> Path:
    path = tmp_path / "better.safetensors"
    save_pack(path, info(base, provenance={"seed": 3}), tensors())
    return path


def test_what_is_saved_is_read_again(base: Model, file: Path) -> None:
    pack = read_pack(file)
    assert pack.info == read_pack_info(file) == info(base, provenance={"seed": 3})
    assert pack.sha256 == sha256_of(file) and pack.path == file
    for name, value in tensors().items():
        assert torch.equal(pack.tensors[name], value)


def test_half_precision_halves_the_file(base: Model, file: Path, tmp_path: Path) -> None:
    save_pack(tmp_path / "half.safetensors", info(base), tensors(), "fp16")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * file.stat().st_size  # the header is the same
    for name, value in read_pack(tmp_path / "half.safetensors").tensors.items():
        torch.testing.assert_close(value, tensors()[name], atol=1e-3, rtol=1e-3)


def test_the_folded_network_computes_what_the_attached_refinement_does(base: Model, file: Path) -> None:
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    draws = torch.get_rng_state()
    folded = refined_network(base, read_pack(file))
    assert torch.equal(torch.get_rng_state(), draws)
    for name, value in base.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    image, zero = torch.randn(1, 1, 16, 32, 32), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        alone = base.network(image, zero, zero, 1)[0]
        refinement = Refinement(base.network, 2, 4.0)
        refinement.load_state_dict(tensors())
        attached = base.network(image, zero, zero, 1)[0]
        torch.testing.assert_close(folded(image, zero, zero, 1)[0], attached, atol=1e-5, rtol=1e-5)
        assert (attached - alone).abs().max() > 0.01


def test_a_pack_of_zeros_is_the_base_bit_for_bit(base: Model, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = Refinement(build_model(CONFIG), 2).state_dict()
    save_pack(tmp_path / "fresh.safetensors", info(base), fresh)
    for name, value in refined_network(base, read_pack(tmp_path / "fresh.safetensors")).state_dict().items():
        assert torch.equal(value, base.network.state_dict()[name]), name


def test_on_another_base_it_is_refused(base: Model, file: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other.safetensors", small_info("base"), small_state(1))
    with pytest.raises(BadInputError, match=r"^Pack better refines the model base .* use that base.*\.$"):
        refined_network(load_model(tmp_path / "other.safetensors"), read_pack(file))


def test_for_a_task_that_it_does_not_refine_it_is_refused(base: Model, file: Path) -> None:
    pack = read_pack(file)
    assert packs_by_task(base, {"organ": pack}) == {"organ": pack}
    with pytest.raises(UsageError, match="does not refine the task 'polyp'; it is for: organ"):
        packs_by_task(base, {"polyp": pack})
    with pytest.raises(UsageError, match="has no task 'brain'"):
        packs_by_task(base, {"brain": pack})


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _rewritten(change: Callable[[dict[str, object], dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content, values = read_pack_info(path).model_dump(mode="json"), safetensors.torch.load_file(path)
        change(content, values)
        safetensors.torch.save_file(values, path, {METADATA_KEY: json.dumps(content)})

    return apply


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (_truncated, "tensors should take"),
    "a tensor is missing": (_rewritten(lambda _, v: v.popitem()), "1 tensors are missing"),
    "one too many": (_rewritten(lambda _, v: v.update(extra=torch.zeros(1))), "unexpected"),
    "another shape": (_rewritten(lambda _, v: v.update({next(iter(v)): torch.zeros(3)})), "has shape"),
    "another rank": (_rewritten(lambda c, _: c.update(rank=3)), "has shape"),
    "NaN": (_rewritten(lambda _, v: next(iter(v.values())).fill_(float("nan"))), "NaN or infinite"),
    "a huge rank": (_rewritten(lambda c, _: c.update(rank=10**9)), "wrong at 'rank'"),
    "no task": (_rewritten(lambda c, _: c.update(tasks=[])), "wrong at 'tasks'"),
    "a name with a folder": (_rewritten(lambda c, _: c.update(name="../x")), "wrong at 'name'"),
    "a huge base": (
        _rewritten(lambda c, _: c["config"].update(features=[10**6] * 6)),  # type: ignore[attr-defined]
        "impossible sizes",
    ),
    "a newer format": (_rewritten(lambda c, _: c.update(format_version=99)), "update this program"),
    "another format": (_rewritten(lambda c, _: c.update(format="other")), "another format"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_right_is_refused_in_one_sentence(file: Path, damage: str) -> None:
    spoil, reason = DAMAGES[damage]
    spoil(file)
    with pytest.raises(BadInputError) as refusal:
        read_pack(file)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{file}: ") and reason in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_a_model_is_no_pack_and_a_pack_no_model(base: Model, file: Path) -> None:
    assert base.path is not None
    with pytest.raises(BadInputError, match="not a usable pack file, because it is a model; give it where a model"):
        read_pack(base.path)
    with pytest.raises(BadInputError, match="not a usable model file, because it is a pack; give it where a pack"):
        read_info(file)


def test_what_does_not_fit_the_base_is_not_written(base: Model, tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    with pytest.raises(BadInputError, match="has shape"):
        save_pack(path, info(base), tensors(rank=3))
    too_large = {name: value * 1e6 for name, value in tensors().items()}
    with pytest.raises(BadInputError, match="NaN or infinite"):
        save_pack(path, info(base), too_large, "fp16")
    assert not path.exists()
