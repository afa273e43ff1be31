"""Reads a run's request as versions up to 0.1 wrote it: the words of a command instead of a job."""

from __future__ import annotations

from typing import Any

from meduniseg_core.structured_text import parse_json

_FLAGS: dict[str, tuple[str, bool]] = {"--quick": ("quick", True), "--no-install": ("install", False)}
_VALUES = ("--output", "--base", "--iterations", "--rank", "--seed", "--device", "--precision", "--modality")


def fields_of_request(data: bytes) -> dict[str, Any]:
    """The fields of the job that a ``request.json`` describes, not validated.

    Options that those versions did not record (``--no-gate``, ``--activate``, ``--replace``) keep their defaults.

    Args:
        data: the file's content.

    Returns:
        The fields that the request has.

    Raises:
        ValueError: it is not a request.
    """
    request = parse_json(data)
    if not isinstance(request, dict):
        raise ValueError("it holds no object")
    words = request.get("arguments")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError("it holds no command")
    fields = {name: request.get(name) for name in ("kind", "name", "base", "created")}
    fields |= _options(words[2:])  # the kind and the data set stand before them
    dataset, task = request.get("dataset"), request.get("task")
    if fields["kind"] == "refine":
        return {**fields, "datasets": [dataset], "tasks": [task]}
    return {**fields, "dataset": dataset, "task": task}


def _options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left_out: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            name, value = _FLAGS[word]
            found[name] = value
        elif word == "--leave-out":
            left_out.append(next(rest, ""))
        elif word in _VALUES:
            found[word.removeprefix("--")] = next(rest, "")
        else:
            raise ValueError(f"its option {word[:40]} is unknown")
    for name in ("output", "base"):  # the request has both beside its command
        found.pop(name, None)
    return {**found, "leave_out": left_out}
