"""The picture of the imports has no circle: import-linter sees siblings, this sees packages and their parts, too."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_no_module_imports_what_imports_it() -> None:
    graph = grimp.build_graph(
        "meduniseg_core",
        "training_cli",
        "napari_meduniseg",
        exclude_type_checking_imports=True,  # the packages' facades name for types what they import on first use
        cache_dir=None,
    )
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(arrows) > 200
    TopologicalSorter(arrows).prepare()  # CycleError names the circle
