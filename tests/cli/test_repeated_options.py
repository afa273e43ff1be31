"""Of an option that is given twice no value is dropped without a word."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("segment", "a.png", "-o", "out", "--task", "a", "--task", "b"), "--task is given 2 times"),
        (("segment", "a.png", "-o", "out", "-t", "a", "--task=b"), "several in one with commas between them"),
        (("segment", "a.png", "-o", "out", "-t", "a", "--output", "other"), "--output is given 2 times"),
        (("segment", "a.png", "-o", "o", "-m", "one", "-t", "a", "--model", "two"), "--model is given 2 times"),
        (("evaluate", "a", "b", "--tolerance", "1", "--tolerance", "2"), "--tolerance is given 2 times"),
        (("models", "export", "starter", "-o", "a", "-o", "b"), "--output is given 2 times"),
        (("runs", "list", "--device", "cpu"), "No such option"),
    ],
)
def test_a_value_given_twice_is_refused(meduniseg, arguments, said) -> None:
    done = meduniseg(*arguments)
    assert done.returncode == 2 and said in done.stderr


def test_options_that_are_repeatable_and_flags_may_be_given_again(meduniseg, tmp_path) -> None:
    words = ("segment", tmp_path / "a.png", "-o", tmp_path / "out", "--ensemble", "a", "--ensemble", "b")
    done = meduniseg(*words, "--task", "t", "--tta", "--tta")
    assert done.returncode == 3 and "a.png" in done.stderr  # not there
    assert meduniseg("--version").returncode == 0
