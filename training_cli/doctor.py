"""``meduniseg doctor``: shows what this machine offers, and what the program chooses."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from training_cli.options import Json
from training_cli.output import is_installed

LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-image", "SimpleITK", "nibabel", "pydicom", "monai", "safetensors", "pydantic",
)  # fmt: skip
VIEWER = ("napari", "qtpy", "magicgui", "superqt", "pyqtgraph")
BINDINGS = ("PySide6", "PyQt6", "PyQt5")  # one of them draws the window


def doctor(as_json: Json = False) -> None:
    """Show this machine's devices, precision, memory, versions, models and folders."""
    from training_cli.session import work

    with work(as_json=as_json) as session:
        report = examine()
        session.result(report, *_lines(report))


def examine() -> dict[str, Any]:
    """Collect everything that ``doctor`` reports."""
    import torch

    from meduniseg_core import __version__
    from meduniseg_core.allowance import available_memory, total_memory, usable_cores
    from meduniseg_core.model.compute import probe_cpu, resolve_device, resolve_precision
    from meduniseg_core.paths import user_folder

    device = resolve_device("auto")
    folder = user_folder()
    return {
        "meduniseg": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": str(device),
        "devices": _devices(),
        "precision": str(resolve_precision("auto", device)).removeprefix("torch."),
        "cpu": {
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
            "probe": probe_cpu(),
        },
        "memory": {"total_bytes": total_memory(), "available_bytes": available_memory()},
        "folder": {"path": str(folder), "exists": folder.is_dir(), "from": _folder_source()},
        "models": _models(),
        "napari_plugin": is_installed("napari_meduniseg"),
        "viewer": _viewer(),
        "versions": {name: _version(name) for name in (*LIBRARIES, "napari")},
    }


def _devices() -> list[dict[str, Any]]:
    import torch

    found: list[dict[str, Any]] = [{"name": "cpu"}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append({"name": f"cuda:{index}", "model": properties.name, "total_bytes": properties.total_memory})
    if torch.backends.mps.is_available():
        found.append({"name": "mps"})
    return found


def _folder_source() -> str:
    return "MEDUNISEG_HOME" if os.environ.get("MEDUNISEG_HOME") else "the system's default"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _viewer() -> dict[str, Any]:
    """Versions of what the window needs, and what of it is missing."""
    versions = {name: _version(name) for name in VIEWER}
    bindings = {name: _version(name) for name in BINDINGS if _version(name) is not None}
    missing = [name for name, version in versions.items() if version is None]
    if not bindings:
        missing.append("PySide6")
    return {"usable": not missing, "missing": missing, "versions": {**versions, **bindings}}


def _viewer_line(viewer: dict[str, Any], plugin: bool) -> str:
    if not viewer["versions"]["napari"]:
        return "napari is not installed; \"pip install 'napari-meduniseg[napari]'\" brings it"
    found = ", ".join(f"{name} {version}" for name, version in viewer["versions"].items() if version)
    missing = f"; missing: {', '.join(viewer['missing'])}" if viewer["missing"] else ""
    return f"{found}{missing}; panel {'installed' if plugin else 'not installed'}"


def _models() -> list[dict[str, Any]]:
    from meduniseg_core.weights import Registry
    from training_cli.asset_commands import entry_report

    return [entry_report(entry) for entry in Registry().list()]


def _lines(report: dict[str, Any]) -> list[str]:
    cpu, memory, folder = report["cpu"], report["memory"], report["folder"]
    probe = cpu["probe"]
    accelerators = [_device_name(device) for device in report["devices"] if device["name"] != "cpu"]
    models = [f"{m['name']} (unusable: {m['problem']})" if m["problem"] else m["name"] for m in report["models"]]
    rows = {
        "meduniseg": f"{report['meduniseg']}, Python {report['python']}, {report['system']}",
        "runs on": f"{report['device']} in {report['precision']}",
        "accelerators": ", ".join(accelerators) or "none",
        "CPU": f"{cpu['cores']} cores, {cpu['threads']} threads, {cpu['instructions']}",
        "bf16 on the CPU": f"{1 / probe['ratio']:.2g} times as fast as fp32 (measured just now)",
        "memory": f"{memory['total_bytes'] / 2**30:.1f} GiB, {memory['available_bytes'] / 2**30:.1f} GiB free",
        "user's folder": f"{folder['path']} ({folder['from']}{'' if folder['exists'] else ', not created yet'})",
        "models": ", ".join(models) or "none",
        "viewer": _viewer_line(report["viewer"], report["napari_plugin"]),
        "versions": ", ".join(f"{name} {version or 'not installed'}" for name, version in report["versions"].items()),
    }
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _device_name(device: dict[str, Any]) -> str:
    if "model" not in device:
        return str(device["name"])
    return f"{device['name']} {device['model']} ({device['total_bytes'] / 2**30:.0f} GiB)"
