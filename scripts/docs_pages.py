"""Pages of the documentation site that are made from something else, so that nothing is written twice (mkdocs.yml).

- ``reference/cli.md``: by Typer, from the command line itself;
- ``reference/training.md``: the settings of a training, from the configuration's fields;
- ``reference/api/``: one page for each package of the core, from its docstrings (mkdocstrings);
- ``reference/changelog.md`` and ``explanation/security.md``: CHANGELOG.md and SECURITY.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "meduniseg_core"
API_INDEX = "reference/api/index.md"

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):\s*(?=<code>)")
_CITATION = re.compile(r"docs/spec\.md sections? \d+(?:(?:-|, | and )\d+)*")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the packages' pages into the navigation, where ``mkdocs.yml`` has their index."""
    _fill(config.nav, [path for path in api_pages() if path != API_INDEX])
    return config


def _fill(nav: list[Any] | dict[str, Any], pages: list[str]) -> None:
    for key, entry in list(nav.items() if isinstance(nav, dict) else enumerate(nav)):
        if entry == API_INDEX:
            nav[key] = [API_INDEX, *pages]
        elif isinstance(entry, list | dict):
            _fill(entry, pages)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {
        "reference/cli.md": command_line_page(),
        "reference/training.md": settings_page(),
        "reference/changelog.md": page_of(ROOT / "CHANGELOG.md", "reference"),
        "explanation/security.md": page_of(ROOT / "SECURITY.md", "explanation"),
        **api_pages(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show links to files of the repository that are no pages as the files' paths: the site does not hold them.

    Raises:
        PluginError: such a file does not exist.
    """
    here = Path(config.docs_dir) / page.file.src_uri

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if "://" in target or target.startswith(("mailto:", "../reference/", "reference/")):
            return match[0]
        path = Path(os.path.normpath(here.parent / target))
        if path.is_relative_to(config.docs_dir):
            return match[0]  # MkDocs checks it
        if not path.exists():
            raise PluginError(f"{page.file.src_uri} links to {target}, which does not exist")
        return f"{text} (`{path.relative_to(ROOT).as_posix()}` in the repository)"

    return _LINK.sub(shown, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show docstrings as they are meant: names without Sphinx's roles, citations of ``docs/spec.md`` as links."""
    spec = "../" * page.file.src_uri.count("/") + "spec.html"
    return _CITATION.sub(rf'<a href="{spec}">\g<0></a>', _ROLE.sub("", html))


def page_of(document: Path, folder: str) -> str:
    """The text of a document of the repository's root, its links as they are from ``folder`` of the site."""

    def moved(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        target = Path(os.path.relpath(ROOT / match[2], ROOT / "docs" / folder)).as_posix()
        return f"[{match[1]}]({target}{match[3] or ''})"

    return _LINK.sub(moved, document.read_text("utf-8"))


def command_line_page() -> str:
    """The reference of ``meduniseg`` in Markdown, as Typer writes it."""
    command = [sys.executable, "-m", "typer", "training_cli.main", "utils", "docs", "--name", "meduniseg"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        raise PluginError(f"the command line's page cannot be made:\n{done.stderr}")
    return done.stdout.replace("# `meduniseg`", "# The command line: `meduniseg`", 1)


def settings_page() -> str:
    """The settings of a training's configuration, table by table, from the fields themselves."""
    from meduniseg_core.training.absence import AbsenceSettings
    from meduniseg_core.training.augmentation import AugmentationConfig
    from meduniseg_core.training.config import TrainingConfig
    from meduniseg_core.training.settings import NetworkSettings, PlanSettings

    tables: list[tuple[str, type[BaseModel]]] = [
        ("The run", TrainingConfig),
        ("`[network]`", NetworkSettings),
        ("`[plan_2d]`, `[plan_3d]`, `[plan.TASK]`", PlanSettings),
        ("`[augmentation]`", AugmentationConfig),
        ("`[absence.TASK]`", AbsenceSettings),
    ]
    lines = [
        "# Settings of a training",
        "",
        "The fields of the TOML file that `meduniseg train` takes. Those without a default are required.",
    ]
    for title, model in tables:
        lines += ["", f"## {title}", "", "| setting | default | |", "| --- | --- | --- |"]
        for name, field in model.model_fields.items():
            if field.is_required():
                default = ""
            elif field.default_factory is not None or isinstance(field.default, BaseModel):
                default = "a table of its own"
            else:
                default = f"`{json.dumps(field.default)}`" if field.default is not None else "none"
            text = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{name}` | {default} | {text} |")
    return "\n".join(lines) + "\n"


def api_pages() -> dict[str, str]:
    """One page for each package of the core, the core itself among them, and an index."""
    pages = {}
    rows = []
    for package in sorted(path.parent for path in CORE.rglob("__init__.py")):
        name = _dotted(package)
        modules = sorted(path for path in package.glob("*.py") if not path.name.startswith("_"))
        pages[f"reference/api/{name}.md"] = _api_page(name, list(map(_dotted, modules)))
        rows.append(f"| [`{name}`]({name}.md) | {_first_line(package / '__init__.py')} |")
    head = "# Python\n\nThe core, package by package. Arrays are `(C, D, H, W)`, lengths mm, coordinates LPS.\n\n"
    pages[API_INDEX] = head + "| package | |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    return pages


def _api_page(package: str, modules: list[str]) -> str:
    # what a package re-exports is shown once, where it is defined
    directives = [f"::: {package}\n    options:\n      members: false\n      show_root_heading: false"]
    directives += [f"::: {module}" for module in modules]
    return f"# `{package}`\n\n" + "\n\n".join(directives) + "\n"


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(CORE.parent).with_suffix("").parts)


def _first_line(path: Path) -> str:
    match = re.match(r'"""(.+)', path.read_text("utf-8"))
    return match[1].rstrip('"') if match else ""
