"""The worklist: the cases of a folder with their state, and which to annotate next. Knows no Qt."""

from meduniseg_core.worklist.items import DEFAULT_ORDER, ORDERS, Order, State, WorkItem, next_item, ordered
from meduniseg_core.worklist.thumbnails import thumbnail
from meduniseg_core.worklist.worklist import Worklist, default_results, results_of_reader

__all__ = [
    "DEFAULT_ORDER",
    "ORDERS",
    "Order",
    "State",
    "WorkItem",
    "Worklist",
    "default_results",
    "next_item",
    "ordered",
    "results_of_reader",
    "thumbnail",
]
