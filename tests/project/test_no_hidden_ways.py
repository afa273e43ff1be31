"""What SECURITY.md promises of the program's own code: no shell strings, nothing unpickled, no other connections.

The syntax trees of all modules are walked: a name counts by what it was imported as, wherever it is used. What a
promise allows is named here, by file; a new place has to be added, and reasoned, in this list.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "training_cli").rglob("*.py")])

NETWORK = (
    *("socket", "ssl", "http.client", "http.server", "urllib.request", "ftplib", "smtplib", "imaplib", "poplib"),
    *(
        "telnetlib",
        "xmlrpc",
        "requests",
        "httpx",
        "urllib3",
        "aiohttp",
        "websockets",
        "websocket",
        "paramiko",
        "pycurl",
    ),
    *("pooch", "fsspec", "boto3", "huggingface_hub", "webbrowser", "asyncio.open_connection", "asyncio.start_server"),
    *("torch.hub", "qtpy.QtNetwork", "qtpy.QtWebEngineWidgets", "qtpy.QtGui.QDesktopServices", "PySide6.QtNetwork"),
    *("PySide6.QtGui.QDesktopServices", "pynetdicom", "dicomweb_client", "sentry_sdk", "socketserver", "nntplib"),
)
UNPICKLING = (
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"),
    *(
        "pandas.read_pickle",
        "torch.load",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "numpy.lib.format.read_array",
    ),
)
SHELL = (
    *("os.system", "os.popen", "os.popen2", "subprocess.getoutput", "subprocess.getstatusoutput", "pty", "commands"),
    *("os.execl", "os.execle", "os.execlp", "os.execv", "os.execve", "os.execvp", "os.execvpe", "os.startfile"),
    *("os.spawnl", "os.spawnle", "os.spawnlp", "os.spawnv", "os.spawnve", "os.spawnvp", "os.posix_spawn"),
    *("asyncio.create_subprocess_shell", "pexpect", "sh", "plumbum", "os.fork"),
)
PROCESSES = ("subprocess", "asyncio.create_subprocess_exec", "qtpy.QtCore.QProcess", "PySide6.QtCore.QProcess")
BUILTINS = ("eval", "exec", "compile", "__import__")
CODE = (
    *BUILTINS,
    *("builtins", "code", "codeop", "runpy", "imp", "ctypes", "cffi"),
    *(
        "importlib.import_module",
        "importlib.util.module_from_spec",
        "importlib.machinery",
        "torch.jit.load",
        "torch.package",
    ),
)

ALLOWED: dict[str, tuple[str, ...]] = {
    "download.py": ("socket", "http.client", "urllib.request"),  # the address that the user gave, with its sha256
    "pacs/archive.py": ("requests", "dicomweb_client"),  # the archive that the user named
    "meduniseg_core/connections.py": ("ssl",),  # reads certificates; connects to nothing
    "serving/client.py": ("requests",),  # the server that the user named
    "training_cli/serving.py": ("socket",),  # 'serve' listens where the user says
    "training/processes.py": ("socket",),  # whether the first process of a training listens
    "restricted_pickle.py": ("pickle",),  # the unpickler that admits plain data only
    "torch_archive.py": ("pickle", "torch.load"),  # the importer of published checkpoints: weights_only=True
    "detached.py": ("subprocess",),  # trainings that outlive the viewer
    "dicom_codec.py": ("subprocess",),  # a decoder that can be ended
    "_process.py": ("qtpy.QtCore.QProcess",),  # the batch, by the command
    "gate_view.py": ("qtpy.QtGui.QDesktopServices",),  # reports on this disk (see _arguments)
    "run_view.py": ("qtpy.QtGui.QDesktopServices",),
    "meduniseg_core/__init__.py": ("importlib.import_module",),  # its own names, when they are first asked for
}
"""By file (its name, or the end of its path): what stands there and nowhere else."""


def found_in(source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of whatever a promise speaks of in a module's source."""
    tree = ast.parse(source)
    known = _imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _forbidden(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node.lineno, name) for name in names if _forbidden(name))
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            name = _dotted(node, known)
            if name is not None and _forbidden(name):
                yield node.lineno, name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in (*NETWORK, *UNPICKLING):
            yield node.lineno, f"the text '{node.value}'"  # for getattr, import_module and the like
        if isinstance(node, ast.Call):
            yield from _arguments(node, _dotted(node.func, known) or "")


def _arguments(call: ast.Call, name: str) -> Iterator[tuple[int, str]]:
    """Keywords that make a harmless call a dangerous one, unless their value is the harmless constant."""
    harmless = {"shell": (False,), "allow_pickle": (False,), "weights_only": (True,)}
    for keyword in call.keywords:
        values = harmless.get(keyword.arg or "")
        if values is not None and not (isinstance(keyword.value, ast.Constant) and keyword.value.value in values):
            yield call.lineno, f"{keyword.arg}={ast.unparse(keyword.value)}"
        if keyword.arg is None and (name in ("torch.load", "numpy.load") or name.startswith("subprocess.")):
            yield call.lineno, f"{name}(**...)"
    if name == "torch.load" and not any(keyword.arg == "weights_only" for keyword in call.keywords):
        yield call.lineno, "torch.load without weights_only"
    if name.endswith(".openUrl") and not (call.args and ast.unparse(call.args[0]).startswith("QUrl.fromLocalFile(")):
        yield call.lineno, "openUrl of an address"
    if name.startswith("subprocess.") and call.args and isinstance(call.args[0], (ast.Constant, ast.JoinedStr)):
        yield call.lineno, f"{name} of a string"


def _imports(tree: ast.AST) -> dict[str, str]:
    """What each imported name of the module stands for, wherever that is; builtins that are no parameter's name."""
    known: dict[str, str] = {name: name for name in BUILTINS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    parameters = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {name: meaning for name, meaning in known.items() if not (name in BUILTINS and name in parameters)}


def _dotted(node: ast.AST, known: dict[str, str]) -> str | None:
    """The dotted name of what is used, by what was imported; builtins by themselves."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, known)
        return None if before is None else f"{before}.{node.attr}"
    return None


def test_in_a_place_that_may_open_reports_nothing_else_is_opened() -> None:
    source = "from qtpy.QtGui import QDesktopServices as D\nD.openUrl(QUrl.fromLocalFile(x))\nD.openUrl(QUrl(x))"
    assert [(line, name) for line, name in found_in(source) if name == "openUrl of an address"] == [
        (3, "openUrl of an address")
    ]


def _forbidden(name: str) -> bool:
    parts = name.split(".")
    starts = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return not starts.isdisjoint({*NETWORK, *UNPICKLING, *SHELL, *PROCESSES, *CODE})


def _allowed(path: Path, name: str) -> bool:
    there = (names for end, names in ALLOWED.items() if path.as_posix().endswith(f"/{end}"))
    return any(name == known or name.startswith(f"{known}.") for names in there for known in names)


def test_the_program_has_no_shell_strings_no_unpickling_and_no_other_connection() -> None:
    assert len(SOURCES) > 150
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in SOURCES
        for line, name in found_in(path.read_text("utf-8"))
        if not _allowed(path, name)
    ]
    assert not faults, "\n".join(faults)


def test_every_exception_is_used() -> None:
    used = {
        (end, known)
        for end, names in ALLOWED.items()
        for path in SOURCES
        if path.as_posix().endswith(f"/{end}")
        for _, name in found_in(path.read_text("utf-8"))
        for known in names
        if name == known or name.startswith(f"{known}.")
    }
    assert {end for end, _ in used} == set(ALLOWED)
    assert {name for names in ALLOWED.values() for name in names} - {name for _, name in used} == set()


@pytest.mark.parametrize(
    "planted",
    [
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess as s\ns.run(['ls'], shell=yes)",
        "from subprocess import run\nrun(f'ls {x}')",
        "import os\nos.system('ls')",
        "from os import system as f\nf('ls')",
        "import os as o\ndef g():\n    return o.popen('ls')",
        "eval('1')",
        "f = exec\nf('1')",
        "import builtins\nbuiltins.eval('1')",
        "def f():\n    import pickle\n    pickle.loads(b'')",
        "from pickle import loads",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=yes)",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x', weights_only=False)",
        "from torch import load\nload('x')",
        "import torch\ntorch.hub.load('x')",
        "import socket",
        "from urllib import request\nrequest.urlopen('https://x')",
        "import urllib.request\nurllib.request.urlopen('https://x')",
        "from http import client",
        "import requests",
        "from qtpy.QtNetwork import QNetworkAccessManager",
        "from qtpy.QtGui import QDesktopServices as D\nD.openUrl('https://x')",
        "from qtpy.QtGui import QDesktopServices as D\nD.openUrl(QUrl(address))",
        "from importlib import import_module\nimport_module('socket')",
        "getattr(m, 'socket')",
    ],
)
def test_a_planted_way_is_found(planted: str) -> None:
    assert [name for _, name in found_in(planted)]


@pytest.mark.parametrize(
    "harmless",
    [
        "network.eval()",
        "import re\nre.compile('x')",
        "from urllib.parse import urlsplit",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import json\njson.load(f)",
        "self.code = 3\nprint(error.code)",
        "code = 3\nprint(code)",
    ],
)
def test_what_only_looks_like_one_is_not(harmless: str) -> None:
    assert not list(found_in(harmless))
