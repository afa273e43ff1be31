"""What is in use: models and packs, the newest first; rolling back, files that go away, states of versions before."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.paths import user_folder
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ActiveModels, ModelInfo, PackRegistry, Registry


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models one, two and three, all of the task blob."""
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    torch.manual_seed(0)
    config = ModelConfig(features=(4, 4), strides=((1, 2, 2),), stems=(1,), classes=2, modalities=0, tasks=0)
    plan = TaskPlan(
        task="blob", modality="xray", dimension=2, channels=("grey",), classes=("blob",), longest_side=32,
        patch=(1, 32, 32), normalisation=("zscore",), figures=(None,),
    )  # fmt: skip
    for name in ("one", "two", "three"):
        Registry().save(ModelInfo(name=name, config=config, tasks=(plan,)), build_model(config).state_dict())
    return tmp_path


def history(task: str) -> list[tuple[str, str]]:
    """Kind and name of all that was put into use for a task, the newest last: what rolling back goes through."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        active = ActiveModels(shutil.copytree(user_folder(), Path(folder) / "home"))
        while task in (now := active.entries()):
            found.append((now[task].kind, now[task].model))
            active.roll_back(task)
    return found[::-1]


def test_the_newest_is_in_use_and_rolling_back_goes_through_all_of_them() -> None:
    used = ActiveModels()
    assert used.all() == {}
    for name in ("one", "two", "three", "two"):
        used.adopt("blob", name, "starter")
    assert history("blob") == [("model", "one"), ("model", "three"), ("model", "two")]
    assert used.roll_back("blob") == ("two", "three")
    assert used.roll_back("blob") == ("three", "one")
    assert used.roll_back("blob") == ("one", None)
    with pytest.raises(UsageError, match="nothing to roll back"):
        used.roll_back("blob")


def test_a_model_that_was_removed_is_in_use_no_more() -> None:
    used = ActiveModels()
    used.adopt("blob", "one", "starter")
    used.adopt("blob", "two", "starter")
    Registry().remove("two")
    assert used.all() == {"blob": "one"}
    Registry().remove("one")
    assert used.all() == {}


def test_a_model_without_the_task_and_a_broken_file_are_refused(models: Path) -> None:
    with pytest.raises(UsageError, match="has no task 'liver'"):
        ActiveModels().adopt("liver", "one", "starter")
    (models / "adopted.json").write_text("{")
    with pytest.raises(BadInputError, match="delete it"):
        ActiveModels().all()


def test_what_was_adopted_is_on_the_disk(models: Path) -> None:
    ActiveModels().adopt("blob", "one", "starter")
    assert json.loads((models / "adopted.json").read_text())["tasks"]["blob"][0]["model"] == "one"


def test_a_pack_and_a_model_are_in_use_one_after_the_other_and_never_both(older_home: Path) -> None:
    active, packs = ActiveModels(), PackRegistry()
    tiny = Registry().recorded("tiny")
    assert tiny is not None
    packs.activate("organ-pack")
    assert active.all() == {"organ": "organ-pack"} and active.models() == {"organ": "tiny"}
    assert packs.active(tiny) == {"organ": "organ-pack"} and packs.in_use_for("organ-pack") == ("organ",)
    active.adopt("organ", "organ-1", "tiny")
    assert active.all() == active.models() == {"organ": "organ-1"}
    assert packs.active(tiny) == {} and packs.in_use_for("organ-pack") == ()
    with pytest.raises(UsageError, match="is not in use"):
        packs.deactivate("organ-pack", ["vessel"])
    assert active.roll_back("organ") == ("organ-1", "organ-pack")
    assert packs.deactivate("organ-pack") == ("organ",) and active.all() == {}
    active.adopt("organ", "organ-1", "tiny")
    packs.activate("organ-pack")
    packs.remove("organ-pack")
    assert active.all() == {"organ": "organ-1"}, "what was in use before takes over"


def test_what_versions_before_kept_in_two_places_is_read_and_then_in_one(older_home: Path) -> None:
    old = older_home / "packs" / "active.json"
    active = ActiveModels()
    # the adopted model went before the pack, which a step back brings
    assert history("organ") == [("pack", "organ-pack"), ("model", "organ-1")]
    assert active.all() == {"organ": "organ-1"} and old.is_file()
    assert active.roll_back("organ") == ("organ-1", "organ-pack")
    assert not old.exists() and active.models() == {"organ": "tiny"}
    assert PackRegistry().in_use_for("organ-pack") == ("organ",)
    assert active.roll_back("organ") == ("organ-pack", None) and active.all() == {}


def test_a_pack_of_a_version_before_alone_is_in_use(older_home: Path) -> None:
    (older_home / "adopted.json").unlink()
    tiny = Registry().recorded("tiny")
    assert tiny is not None and PackRegistry().active(tiny) == {"organ": "organ-pack"}
    assert ActiveModels().entries()["organ"].base == "tiny"
    (older_home / "packs" / "active.json").write_text(json.dumps({"active": {"0" * 64: {"organ": "organ-pack"}}}))
    assert ActiveModels().all() == {"organ": "organ-pack"} and ActiveModels().models() == {}, "its base is not here"
    (older_home / "packs" / "active.json").write_text("{")
    with pytest.raises(BadInputError, match=r"active\.json: cannot be read; delete it and activate"):
        ActiveModels().all()


def _adopt_many(home: str, tasks: list[str]) -> None:
    entry = ActiveModels(Path(home)).entries()["organ"]
    for task in tasks:
        ActiveModels(Path(home)).take([task], entry)


def test_two_programs_that_write_at_once_lose_nothing(older_home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    halves = [[f"{letter}{number}" for number in range(40)] for letter in "ab"]
    writers = [context.Process(target=_adopt_many, args=(str(older_home), tasks)) for tasks in halves]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    kept = json.loads((older_home / "adopted.json").read_text())["tasks"]
    assert kept.keys() == {"organ", *halves[0], *halves[1]}
    assert {entry["model"] for entry in kept["organ"]} == {"organ-1", "organ-pack"}


def test_a_kill_while_it_is_written_leaves_the_old_or_the_new_state(
    older_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the new file and the end of the old one: the old one adds nothing."""
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ActiveModels().roll_back("organ")
    monkeypatch.undo()
    monkeypatch.setenv("MEDUNISEG_HOME", str(older_home))
    assert history("organ") == [("pack", "organ-pack")]
