"""``meduniseg dicom``: series from an archive (PACS) by DICOMweb, and results to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli.commands import Commands
from training_cli.options import Json, ProgressOption, a_folder
from training_cli.output import print_json, print_table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.pacs import DicomArchive, RemoteSeries

app = Commands(name="dicom", help="Series from an archive (PACS) by DICOMweb, and results to it.", no_args_is_help=True)

Address = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="The archive's DICOMweb address, https://HOST/dicom-web.")
]
Authority = Annotated[
    Path | None, typer.Option("--ca", metavar="FILE", help="Trust the certificates of this authority (PEM).")
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate", metavar="FILE", help="Show this certificate (PEM) to an archive that asks its clients for one."
    ),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The certificate's key (PEM), unless it stands in the same file."),
]


@app.command("studies")
def studies(
    address: Address,
    patient_id: Annotated[
        str | None, typer.Option("--patient-id", metavar="ID", help="Only studies of this patient.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Only patients of this name; * stands for any characters."),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="YYYYMMDD[-YYYYMMDD]", help="Only studies of these days.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option("--modality", metavar="M", help="Only studies with a series of this modality (CT, MR)."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="List at most this many studies.")
    ] = 100,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the studies of an archive."""
    wanted = {"PatientID": patient_id, "PatientName": name, "StudyDate": date, "ModalitiesInStudy": modality}
    filters = {keyword: text for keyword, text in wanted.items() if text}
    found = _archive(address, authority, certificate, key).studies(limit, **filters)
    if as_json:
        print_json({"studies": [vars(study) for study in found]})
        return
    rows = [
        (study.date, study.patient_id, study.patient, ",".join(study.modalities), study.description, study.uid)
        for study in found
    ]
    print_table(("date", "patient", "name", "modalities", "description", "study"), rows)


@app.command("series")
def series(
    address: Address,
    study: Annotated[str, typer.Option("--study", metavar="UID", help="The study.")],
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the series of a study."""
    found = _archive(address, authority, certificate, key).series(study)
    if as_json:
        print_json({"series": [vars(one) for one in found]})
        return
    rows = [
        (one.number, one.modality, one.description, "" if one.instances is None else str(one.instances), one.uid)
        for one in found
    ]
    print_table(("number", "modality", "description", "instances", "series"), rows)


@app.command("pull")
def pull(
    address: Address,
    study: Annotated[str, typer.Option("--study", metavar="UID", help="The study.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=a_folder, metavar="DIR", help="Where the series' folders go.")
    ],
    wanted: Annotated[
        list[str] | None,
        typer.Option("--series", metavar="UID|MODALITY", help="Only this series, or those of a modality. Repeatable."),
    ] = None,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Fetch series of a study, each into a folder of its own, which appears when it is whole."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.pacs import pull as fetch

        archive = _archive(address, authority, certificate, key)
        chosen = _chosen(archive.series(study), wanted)
        folders = [fetch(archive, one, output, events=session.events, cancel=session.cancel) for one in chosen]
        session.result({"folders": [str(folder) for folder in folders]}, *map(str, folders))


@app.command("push")
def push(
    address: Address,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="DICOM files, or folders of results (their .dcm files).")
    ],
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Send DICOM objects (segmentations, structure sets, reports) to the archive."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.pacs import push as send

        paths = [one for path in files for one in (sorted(path.glob("*.dcm")) if path.is_dir() else [path])]
        if not paths:
            raise UsageError(f"{files[0]} holds no .dcm file; write results with --format dicom-seg.")
        sent = send(_archive(address, authority, certificate, key), paths, events=session.events, cancel=session.cancel)
        session.result({"stored": sent}, *sent)


@app.command("login")
def login(
    address: Address,
    user: Annotated[str, typer.Option("--user", metavar="NAME", prompt=True, help="The user's name there.")],
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Ask for the password for an archive, try it, and keep it in the system's keyring."""
    from meduniseg_core.pacs import Certificates, Credentials, DicomArchive, keep_credentials

    password = typer.prompt("Password", hide_input=True, err=True)
    given = Credentials("the prompt", user=user, password=password)
    archive = DicomArchive(address, given, Certificates(authority, certificate, key))
    archive.studies(limit=1)
    keep_credentials(archive.address, user, password)


def _archive(address: str, authority: Path | None, certificate: Path | None, key: Path | None) -> DicomArchive:
    from meduniseg_core.pacs import Certificates, DicomArchive, credentials_for
    from meduniseg_core.pacs.archive import check_address

    checked = check_address(address)
    return DicomArchive(checked, credentials_for(checked), Certificates(authority, certificate, key))


def _chosen(there: list[RemoteSeries], wanted: list[str] | None) -> list[RemoteSeries]:
    """The series that were asked for, by UID or modality; all images where nothing was."""
    if not wanted:
        return [one for one in there if one.modality not in ("SEG", "RTSTRUCT", "SR", "PR", "KO")] or there
    for name in wanted:
        if not any(name in (one.uid, one.modality) for one in there):
            listed = ", ".join(f"{one.modality} {one.uid}" for one in there)
            raise UsageError(f"The study has no series '{name}'; it has: {listed}.")
    return [one for one in there if one.uid in wanted or one.modality in wanted]
