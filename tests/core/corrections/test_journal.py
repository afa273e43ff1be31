"""The lines of a ledger: torn ones are passed over, damaged ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ledger_samples import begun, mask, volume

from meduniseg_core.corrections import Ledger
from meduniseg_core.errors import BadInputError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two acceptances of two patients."""
    ledger = begun(tmp_path)
    for seed in range(2):
        ledger.accept(volume(seed), mask(volume(seed), seed), patient=f"P{seed}")
    return ledger


@pytest.mark.parametrize("torn", [b"{", b'{"kind": "accep', b"\0" * 900, None])
def test_a_torn_last_line_is_passed_over_and_cut_off(ledger: Ledger, torn: bytes | None) -> None:
    path = ledger.folder / "ledger.jsonl"
    whole = path.read_bytes()
    # None: all of a line but its last byte
    path.write_bytes(
        whole + (whole.splitlines()[-1].replace(b'"sequence":2', b'"sequence":3')[:-1] if torn is None else torn)
    )
    assert len(Ledger.open(ledger.folder).entries()) == 2
    entry = ledger.accept(volume(7), mask(volume(7), 7))
    assert entry.sequence == 3
    assert path.read_bytes().startswith(whole) and len(path.read_bytes().splitlines()) == 4
    assert Ledger.open(ledger.folder).entries()[2] == entry


@pytest.mark.parametrize("end", [b"", b"\n\n", b"\r\n", b"  \n \n"])
def test_an_editor_that_changed_the_end_of_the_file_costs_no_case(ledger: Ledger, end: bytes) -> None:
    path = ledger.folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines) + end)
    assert [entry.sequence for entry in Ledger.open(ledger.folder).entries()] == [1, 2]
    entry = ledger.accept(volume(7), mask(volume(7), 7))
    assert entry.sequence == 3
    assert path.read_bytes().splitlines()[:3] == lines
    assert path.read_bytes().endswith(b"}\n")
    assert [entry.sequence for entry in Ledger.open(ledger.folder).entries()] == [1, 2, 3]
    assert len(ledger.dataset.cases("Tr")) == 3


def test_an_editor_s_byte_order_mark_costs_no_case(ledger: Ledger) -> None:
    path = ledger.folder / "ledger.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    edited = path.read_bytes()
    assert [entry.sequence for entry in Ledger.open(ledger.folder).entries()] == [1, 2]
    assert ledger.accept(volume(7), mask(volume(7), 7)).sequence == 3
    assert path.read_bytes().startswith(edited[:-2]) and len(Ledger.open(ledger.folder).entries()) == 3


def test_a_header_without_its_line_break_is_a_ledger(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    path = ledger.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().rstrip())
    assert ledger.accept(volume(7), mask(volume(7), 7)).sequence == 1
    assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [(b'"case":"', b'"case":"../', "is damaged"), (b'"version":1', b'"version":2', "is of a newer version")],
)
def test_a_whole_last_line_that_does_not_hold_is_named_and_never_overwritten(
    ledger: Ledger, old: bytes, new: bytes, said: str
) -> None:
    path = ledger.folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:-1], lines[-1].replace(old, new)]))
    damaged = path.read_bytes()
    for use in (lambda: Ledger.open(ledger.folder), lambda: ledger.accept(volume(7), mask(volume(7), 7))):
        with pytest.raises(BadInputError, match=rf"ledger\.jsonl, line 3: {said}"):
            use()
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (2, lambda line: line[:-20], "line 2: is damaged"),
        (2, lambda line: b"", "line 2: is damaged"),
        (3, lambda line: b"\xff" + line, "line 3: is damaged"),
        (1, lambda line: line.replace(b'"kind":"ledger"', b'"kind":"other"'), "line 1: is damaged"),
        (2, lambda line: line.replace(b'"case":"', b'"case":"../'), r"line 2: is damaged \(case"),
        (3, lambda line: line.replace(b'"validation"', b'"elsewhere"'), "line 3: is damaged"),
        (3, lambda line: line.replace(b'"P1"', b'"P0"'), "line 3: is damaged .*other side"),
        (3, lambda line: line.replace(b'"version":1', b'"version":2'), "line 3: is of a newer version"),
    ],
)
def test_a_damaged_line_is_named(ledger: Ledger, number: int, change, said: str) -> None:
    path = ledger.folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    damaged = path.read_bytes()
    for use in (lambda: Ledger.open(ledger.folder), lambda: ledger.accept(volume(7), mask(volume(7), 7))):
        with pytest.raises(BadInputError, match=rf"ledger\.jsonl, {said}"):
            use()
    assert path.read_bytes() == damaged


def test_a_missing_line_is_noticed(ledger: Ledger) -> None:
    path = ledger.folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(BadInputError, match=r"line 2: is damaged .*acceptance 2"):
        Ledger.open(ledger.folder)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="line 1"):
        Ledger.open(ledger.folder)


def test_lines_are_plain_json(ledger: Ledger) -> None:
    header, first, second = map(json.loads, (ledger.folder / "ledger.jsonl").read_text("utf-8").splitlines())
    assert (header["kind"], header["version"], header["task"], header["validation_fraction"]) == (
        "ledger",
        1,
        "organ",
        0.2,
    )
    assert (first["sequence"], first["patient"], first["subset"]) == (1, "P0", "training")
    assert second["when"].endswith("Z")
