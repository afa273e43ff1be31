"""Durations as text for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a number of seconds in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def duration_range(low: float, high: float) -> str:
    """Write a range of seconds; one number where both ends are the same in words."""
    first, last = duration(low), duration(high)
    if first == last:
        return first
    number, unit = first.split(" ")
    return f"{number} to {last}" if last.endswith(f" {unit}") else f"{first} to {last}"
