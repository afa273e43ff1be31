"""The registry: names, alterations, shipped models, several processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
import torch
from weights_samples import small_info, small_state

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.weights import Registry, load_model, save_model


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty user's folder and one shipped model, 'starter'."""
    shipped = tmp_path / "shipped"
    save_model(shipped / "starter.safetensors", small_info("starter"), small_state(1))
    return Registry(tmp_path / "models", shipped)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "downloads" / "from_a_friend.safetensors"
    save_model(path, small_info("liver"), small_state(2))
    return path


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_shipped_models_are_listed_without_a_user_folder(registry: Registry) -> None:
    (entry,) = registry.list()
    assert (entry.name, entry.shipped, entry.problem) == ("starter", True, None)
    assert entry.size_bytes == entry.path.stat().st_size
    assert not registry.folder.exists()
    assert registry.load("starter").info.name == "starter"


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    Registry().import_file(file)
    assert (tmp_path / "home" / "models" / "liver.safetensors").is_file()
    assert load_model("liver").sha256 == sha256_of(file)


def test_an_imported_model_is_found_under_its_own_name(registry: Registry, file: Path) -> None:
    entry = registry.import_file(file)
    assert (entry.name, entry.shipped, entry.info) == ("liver", False, small_info("liver"))
    assert [e.name for e in registry.list()] == ["starter", "liver"]
    assert registry.find("liver") == entry
    assert registry.info("liver") == small_info("liver")
    assert file.is_file()
    assert sha256_of(entry.path) == sha256_of(file)
    assert not stat.S_IMODE(entry.path.stat().st_mode) & stat.S_IXUSR


def test_importing_leaves_nothing_but_the_model_and_its_sha256(registry: Registry, file: Path) -> None:
    registry.import_file(file)
    assert {path.name for path in registry.folder.iterdir()} - {".lock"} == {
        "liver.safetensors",
        "liver.safetensors.sha256",
    }
    recorded = (registry.folder / "liver.safetensors.sha256").read_text("ascii")
    assert recorded == f"{sha256_of(file)}  liver.safetensors\n"


def test_an_unknown_name_is_answered_with_the_nearest(registry: Registry, file: Path) -> None:
    registry.import_file(file)
    with pytest.raises(UsageError, match="did you mean 'liver'"):
        registry.find("livr")
    with pytest.raises(UsageError, match="there are: starter, liver"):
        registry.load("xyz")


def test_importing_the_same_file_twice_is_no_error(registry: Registry, file: Path) -> None:
    assert registry.import_file(file) == registry.import_file(file)


def test_another_model_of_the_same_name_is_replaced_only_on_request(
    registry: Registry, file: Path, tmp_path: Path
) -> None:
    registry.import_file(file)
    other = tmp_path / "other.safetensors"
    save_model(other, small_info("liver"), small_state(3))
    with pytest.raises(UsageError, match="another model 'liver' already"):
        registry.import_file(other)
    assert registry.verify("liver").sha256 == sha256_of(file)
    registry.import_file(other, replace=True)
    assert registry.verify("liver").sha256 == sha256_of(other)


def test_a_shipped_name_cannot_be_taken_replaced_or_removed(registry: Registry, tmp_path: Path) -> None:
    impostor = tmp_path / "x.safetensors"
    save_model(impostor, small_info("starter"), small_state(3))
    with pytest.raises(UsageError, match="part of the program"):
        registry.import_file(impostor, replace=True)
    with pytest.raises(UsageError, match="cannot be removed"):
        registry.remove("starter")
    registry.folder.mkdir(exist_ok=True)
    shutil.copy(impostor, registry.folder / "starter.safetensors")
    assert registry.find("starter").shipped


def test_verify_finds_an_altered_file_and_so_does_load(registry: Registry, file: Path) -> None:
    entry = registry.import_file(file)
    assert registry.verify("liver").recorded
    flip_last_byte(entry.path)
    for use in (registry.verify, registry.load):
        with pytest.raises(BadInputError, match="altered since it was installed"):
            use("liver")


def test_a_model_copied_in_by_hand_has_no_record(registry: Registry, file: Path) -> None:
    registry.folder.mkdir()
    shutil.copy(file, registry.folder / "mine.safetensors")
    assert not registry.verify("mine").recorded
    assert registry.load("mine").info.name == "liver"


def test_a_shipped_model_is_compared_with_its_committed_sha256(registry: Registry) -> None:
    path = registry.find("starter").path
    assert not registry.verify("starter").recorded
    path.with_name(path.name + ".sha256").write_text(f"{sha256_of(path)}  {path.name}\n")
    assert registry.verify("starter").recorded
    flip_last_byte(path)
    with pytest.raises(BadInputError, match="altered"):
        registry.verify("starter")


@pytest.mark.parametrize("record", [b"", b"123  x\n", b"\xff\xfe" * 40])
def test_an_unreadable_record_is_an_error_and_not_ignored(registry: Registry, file: Path, record: bytes) -> None:
    entry = registry.import_file(file)
    entry.path.with_name(entry.path.name + ".sha256").write_bytes(record)
    with pytest.raises(BadInputError, match="recorded sha256"):
        registry.verify("liver")


def test_a_broken_file_is_listed_with_its_problem(registry: Registry) -> None:
    registry.folder.mkdir()
    (registry.folder / "broken.safetensors").write_bytes(b"no model")
    entry = registry.list()[-1]
    assert (entry.name, entry.info) == ("broken", None)
    assert entry.problem is not None
    assert str(entry.path) in entry.problem
    with pytest.raises(BadInputError):
        registry.info("broken")
    registry.remove("broken")
    assert [e.name for e in registry.list()] == ["starter"]


@pytest.mark.parametrize("damage", ["truncated", "not a model", "NaN"])
def test_a_damaged_file_is_not_installed(registry: Registry, file: Path, damage: str) -> None:
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "not a model":
        file.write_bytes(b"PK\x03\x04" + bytes(200))
    else:
        data = bytearray(file.read_bytes())
        data[-4:] = b"\x00\x00\xc0\x7f"
        file.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        registry.import_file(file)
    assert str(file) in str(caught.value)
    assert str(registry.folder) not in str(caught.value)
    assert [e.name for e in registry.list()] == ["starter"]


def test_installing_a_file_checks_the_sha256_that_is_given(registry: Registry, file: Path) -> None:
    with pytest.raises(BadInputError, match="should be 0000"):
        registry.install(file, "0" * 64)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        registry.install(file, "abc")
    assert [e.name for e in registry.list()] == ["starter"]
    assert registry.install(str(file), "SHA256:".lower() + sha256_of(file).upper()).name == "liver"


def test_installing_from_an_address_needs_a_sha256(registry: Registry) -> None:
    with pytest.raises(UsageError, match="--sha256"):
        registry.install("https://example.org/model.safetensors")


def test_export_gives_the_same_bytes(registry: Registry, file: Path, tmp_path: Path) -> None:
    registry.import_file(file)
    out = tmp_path / "out"
    out.mkdir()
    assert registry.export("liver", out) == out / "liver.safetensors"
    assert sha256_of(out / "liver.safetensors") == sha256_of(file)
    assert registry.export("liver", tmp_path / "new" / "copy.safetensors").is_file()
    with pytest.raises(UsageError, match="exists already"):
        registry.export("liver", out)
    with pytest.raises(UsageError, match="ends in"):
        registry.export("liver", tmp_path / "copy.pt")
    assert registry.export("liver", out, replace=True).is_file()
    assert [path.name for path in out.iterdir()] == ["liver.safetensors"]


def test_an_altered_model_is_not_exported(registry: Registry, file: Path, tmp_path: Path) -> None:
    flip_last_byte(registry.import_file(file).path)
    with pytest.raises(BadInputError, match="altered"):
        registry.export("liver", tmp_path / "copy.safetensors")


def test_removing_takes_the_record_along(registry: Registry, file: Path) -> None:
    registry.import_file(file)
    registry.remove("liver")
    assert {path.name for path in registry.folder.iterdir()} <= {".lock"}
    with pytest.raises(UsageError):
        registry.remove("liver")


def test_a_new_model_is_saved_under_its_name(registry: Registry) -> None:
    entry = registry.save(small_info("fresh"), small_state(4), "fp16")
    assert registry.verify("fresh").recorded
    assert entry.name == "fresh"
    with pytest.raises(UsageError, match="another model 'fresh'"):
        registry.save(small_info("fresh"), small_state(5))
    registry.save(small_info("fresh"), small_state(5), replace=True)
    loaded = registry.load("fresh").network.state_dict()
    assert torch.equal(loaded["fuse.prompt"], small_state(5)["fuse.prompt"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, file: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    registry = Registry(tmp_path / "taken" / "models", tmp_path / "none")
    with pytest.raises(BadInputError, match="MEDUNISEG_HOME"):
        registry.import_file(file)


def _import_and_load(folder: str, shipped: str, files: list[str], rounds: int) -> None:
    """Run in other processes: replace the model and read it, again and again."""
    registry = Registry(Path(folder), Path(shipped))
    for index in range(rounds):
        registry.import_file(Path(files[index % len(files)]), replace=True)
        registry.load("liver")


def test_two_processes_replace_and_read_one_model_safely(registry: Registry, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_model(other, small_info("liver"), small_state(3))
    context = multiprocessing.get_context("spawn")
    arguments = (str(registry.folder), str(registry.shipped))
    processes = [
        context.Process(target=_import_and_load, args=(*arguments, files, 10))
        for files in ([str(file), str(other)], [str(other), str(file)])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert registry.verify("liver").sha256 in {sha256_of(file), sha256_of(other)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_any_moment_leave_models_with_their_records_and_nothing_else(
    registry: Registry, file: Path, tmp_path: Path
) -> None:
    """A process replaces, removes and installs without a pause; it is killed again and again."""
    other = tmp_path / "other.safetensors"
    save_model(other, small_info("liver"), small_state(3))
    digests = {sha256_of(file), sha256_of(other)}
    rng = random.Random(0)
    interrupted = 0
    for _ in range(30):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    registry.import_file(file, replace=True)
                    registry.import_file(other, replace=True)
                    registry.remove("liver")
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        interrupted += len(list(registry.folder.glob(".incoming-*")))
        if (registry.folder / "liver.safetensors").exists():
            found = registry.verify("liver")
            assert found.recorded and found.sha256 in digests
            assert registry.recorded("liver") == found.sha256
        registry.list()  # the next start
        left = {path.name for path in registry.folder.iterdir()} - {".lock"}
        assert left in (set(), {"liver.safetensors", "liver.safetensors.sha256"})
    assert interrupted > 5  # the kills met something


def test_what_a_living_process_is_receiving_is_left_alone(registry: Registry, file: Path) -> None:
    with registry._own.incoming() as incoming:
        incoming.write_bytes(b"half")
        assert registry.list()
        registry.import_file(file)
        assert incoming.read_bytes() == b"half"
    assert not incoming.parent.exists()


def test_a_hash_kept_before_the_file_came_is_no_model(registry: Registry, file: Path) -> None:
    registry.import_file(file)
    (registry.folder / "gone.safetensors.sha256").write_text("0" * 64 + "  gone.safetensors\n")
    assert [entry.name for entry in registry.list() if not entry.shipped] == ["liver"]
    assert not (registry.folder / "gone.safetensors.sha256").exists()


def test_while_a_model_takes_anothers_place_either_is_right_and_no_third(
    registry: Registry, file: Path, tmp_path: Path
) -> None:
    path = registry.import_file(file).path
    other = tmp_path / "other.safetensors"
    save_model(other, small_info("liver"), small_state(3))
    record = registry.folder / "liver.safetensors.sha256"
    record.write_text(f"{sha256_of(file)}  liver.safetensors\n{sha256_of(other)}  liver.safetensors\n")
    for source in (file, other):
        path.write_bytes(source.read_bytes())
        assert registry.verify("liver").recorded
        assert registry.recorded("liver") == sha256_of(source)
    save_model(path, small_info("liver"), small_state(4))
    with pytest.raises(BadInputError, match="altered since it was installed"):
        registry.load("liver")


def test_a_user_without_a_home_can_use_what_is_shipped(
    monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path
) -> None:
    for name in ("MEDUNISEG_HOME", "XDG_DATA_HOME", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for a number without a name
    monkeypatch.chdir(tmp_path)
    assert "starter" in [entry.name for entry in Registry().list()]
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(BadInputError, match="set MEDUNISEG_HOME"):
        Registry().import_file(file)
    assert not (tmp_path / "~").exists()


def test_a_home_that_nobody_has_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", "~nobody-of-that-name/models")
    with pytest.raises(UsageError, match="no such home folder"):
        Registry()
