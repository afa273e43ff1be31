"""Packs by name, and which of them are in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from weights_samples import CONFIG, small_info, small_state

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model import build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.weights import Model, PackInfo, PackRegistry, load_model, save_model, save_pack


@pytest.fixture
def base(tmp_path: Path) -> Model:
    save_model(tmp_path / "base.safetensors", small_info("base"), small_state())
    return load_model(tmp_path / "base.safetensors")


def write_pack(folder: Path, base: Model, name: str, tasks: tuple[str, ...], seed: int = 0) -> Path:
    torch.manual_seed(seed)
    state = Refinement(build_model(CONFIG), 2).state_dict()
    pack = PackInfo(
        name=name, base="base", base_sha256=base.sha256, config=base.info.config, tasks=tasks, rank=2, alpha=4.0
    )
    save_pack(folder / f"{name}.safetensors", pack, state)
    return folder / f"{name}.safetensors"


@pytest.fixture
def registry(base: Model, tmp_path: Path) -> PackRegistry:
    """Two packs: 'one' for both tasks of the base, 'two' for the organ only."""
    registry = PackRegistry(tmp_path / "packs")
    for seed, (name, tasks) in enumerate({"one": ("organ", "polyp"), "two": ("organ",)}.items()):
        registry.install(write_pack(tmp_path, base, name, tasks, seed))
    return registry


def names(registry: PackRegistry, base: Model, tasks: list[str] | None = None) -> dict[str, str]:
    return {task: pack.info.name for task, pack in registry.active_packs(base, tasks).items()}


def test_packs_are_listed_verified_exported_and_removed_like_models(registry: PackRegistry, tmp_path: Path) -> None:
    assert [entry.name for entry in registry.list()] == ["one", "two"]
    assert registry.verify("one").recorded
    exported = registry.export("one", tmp_path / "given.safetensors")
    assert exported.read_bytes() == registry.find("one").path.read_bytes()
    registry.remove("one")
    with pytest.raises(UsageError, match="There is no pack 'one'; there are: two"):
        registry.find("one")


def test_nothing_is_in_use_until_it_is_activated(registry: PackRegistry, base: Model) -> None:
    assert registry.active_packs(base) == {}
    assert registry.activate("one") == ("organ", "polyp")
    assert names(registry, base) == {"organ": "one", "polyp": "one"}
    assert PackRegistry(registry.folder).active(base.sha256) == {"organ": "one", "polyp": "one"}


def test_several_packs_on_one_base_one_for_each_task(registry: PackRegistry, base: Model) -> None:
    registry.activate("one")
    registry.activate("two")
    assert names(registry, base) == {"organ": "two", "polyp": "one"}
    assert names(registry, base, ["polyp"]) == {"polyp": "one"}
    assert registry.deactivate("one") == ("polyp",)
    assert names(registry, base) == {"organ": "two"}
    with pytest.raises(UsageError, match="is not in use"):
        registry.deactivate("one")
    registry.activate("one", ["organ"])
    assert names(registry, base) == {"organ": "one"}


def test_a_pack_is_in_use_on_its_own_base_only(registry: PackRegistry, tmp_path: Path) -> None:
    registry.activate("one")
    save_model(tmp_path / "other.safetensors", small_info("base"), small_state(1))
    assert registry.active_packs(load_model(tmp_path / "other.safetensors")) == {}


def test_a_removed_pack_is_in_use_no_more(registry: PackRegistry, base: Model) -> None:
    registry.activate("one")
    registry.remove("one")
    assert registry.active_packs(base) == {}


def test_an_active_pack_that_was_altered_or_deleted_is_an_error_not_the_base(
    registry: PackRegistry, base: Model
) -> None:
    registry.activate("one")
    path = registry.find("one").path
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(BadInputError, match="altered since it was installed"):
        registry.active_packs(base)
    path.unlink()
    with pytest.raises(BadInputError, match=r"Pack one, in use for task organ, is not in .* any more"):
        registry.active_packs(base)
    registry.deactivate("one")
    assert registry.active_packs(base) == {}


def test_activating_for_a_task_that_is_not_refined_is_refused(registry: PackRegistry, base: Model) -> None:
    with pytest.raises(UsageError, match="does not refine the task 'polyp'"):
        registry.activate("two", ["polyp"])
    assert registry.active(base.sha256) == {}


def test_a_broken_state_file_is_named(registry: PackRegistry, base: Model) -> None:
    (registry.folder / "active.json").write_text("{")
    with pytest.raises(BadInputError, match=r"active\.json: cannot be read; delete it"):
        registry.active_packs(base)
