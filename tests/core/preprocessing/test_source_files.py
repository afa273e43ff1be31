"""Hashes of source files: what did not change is not read again, and only where that is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meduniseg_core.files import sha256_of
from meduniseg_core.preprocessing import source_files as module
from meduniseg_core.preprocessing.source_files import SourceFiles


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []

    def counted(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(module, "sha256_of", counted)
    return names


def old(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    return path


def test_a_file_is_read_once_and_after_that_only_if_its_times_are_not_trusted(tmp_path: Path, read: list[str]) -> None:
    file, record = old(tmp_path / "a.nii", b"one"), tmp_path / "record.json"
    files = SourceFiles(record, tmp_path)
    assert files.sha256(file) == files.sha256(file) == sha256_of(file)
    files.save()
    assert read == ["a.nii"]
    assert SourceFiles(record, tmp_path, trust_times=True).sha256(file) == sha256_of(file)
    assert read == ["a.nii"]
    SourceFiles(record, tmp_path).sha256(file)
    assert read == ["a.nii", "a.nii"]


def test_changed_content_is_seen_even_with_its_size_and_time_restored(tmp_path: Path, read: list[str]) -> None:
    file, record = old(tmp_path / "a.nii", b"one"), tmp_path / "record.json"
    files = SourceFiles(record, tmp_path)
    files.sha256(file)
    files.save()
    old(file, b"two")  # same size, same time of change: the entry's own time tells
    assert SourceFiles(record, tmp_path, trust_times=True).sha256(file) == sha256_of(file)


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path: Path, read: list[str]) -> None:
    file = tmp_path / "a.nii"
    file.write_bytes(b"one")
    files = SourceFiles(tmp_path / "record.json", tmp_path)
    files.sha256(file)
    files.save()
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("damage", ["", "{", '{"files": {"a.nii": [1, 2]}}', '{"version": 1, "files": 3}'])
def test_a_damaged_record_means_reading(tmp_path: Path, read: list[str], damage: str) -> None:
    file, record = old(tmp_path / "a.nii", b"one"), tmp_path / "record.json"
    record.write_text(damage)
    assert SourceFiles(record, tmp_path, trust_times=True).sha256(file) == sha256_of(file)
    assert read == ["a.nii"]
