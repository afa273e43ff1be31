"""Shards: the cases of a run divided among jobs of a cluster, none of which knows of the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from meduniseg_core.errors import UsageError

_ItemT = TypeVar("_ItemT")
_MOST = 100_000


@dataclass(frozen=True)
class Shard:
    """Shard ``number`` of ``count``, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Args:
            text: the shard, such as "2/8".

        Returns:
            The shard.

        Raises:
            UsageError: it is not a shard; they count from 1 to n.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
            raise UsageError(f"'{text}' is not a shard; write 1/8 to 8/8 for eight jobs (the first has number 1).")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[_ItemT]) -> list[_ItemT]:
        """This shard's items: every ``count``-th, so that shards differ by one item at most.

        Args:
            items: the items of the whole run, in an order that all shards agree on.

        Returns:
            The items of this shard; none where there are more shards than items.
        """
        return list(items[self.number - 1 :: self.count])

    def manifest(self, path: Path) -> Path:
        """Name the manifest of this shard. Each has a file of its own: locks do not work on every cluster's disk.

        Args:
            path: the manifest of the whole run.

        Returns:
            ``RUN.2-of-8.jsonl`` for ``RUN.jsonl``.
        """
        return path.with_name(f"{path.stem}.{self.number}-of-{self.count}{path.suffix}")


def shard_manifests(path: Path) -> dict[Shard, Path]:
    """Find the manifests of a run's shards.

    Args:
        path: the manifest of the whole run, which need not exist.

    Returns:
        The manifests that are there, in the order of their numbers.
    """
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d{{1,9}})-of-(\d{{1,9}}){re.escape(path.suffix)}")
    found = {}
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        match = pattern.fullmatch(entry.name)
        if match is not None and entry.is_file():
            found[Shard(int(match[1]), int(match[2]))] = entry
    return dict(sorted(found.items(), key=lambda item: (item[0].count, item[0].number)))
