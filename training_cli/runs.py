"""``meduniseg runs``: manages trainings and their results by name, and checks runs of ``segment --manifest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError
from training_cli.commands import Commands
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.output import print_answer, print_json, print_table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.adaptation.run import Run

app = Commands(
    help="Start, list, compare, adopt, roll back and discard trainings; check runs of 'segment --manifest'.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A run's name, as 'runs list' shows it.")]


@app.command("list")
def list_runs(as_json: Json = False) -> None:
    """List the runs, newest first, and what is in use."""
    from meduniseg_core.adaptation.runs import runs
    from meduniseg_core.weights import ActiveModels

    found, used = runs(), ActiveModels().all()
    if as_json:
        print_json({"runs": [run_report(run) for run in found], "in_use": used})
        return
    rows = [(run.job.name, run.job.task, run.job.base, run.standing().phase, _decided(run)) for run in found]
    print_table(("run", "task", "base", "state", "decision"), rows)
    for task, model in used.items():
        print(f"in use for {task}: {model}")


def _decided(run: Run) -> str:
    """What was decided about a run; adopted models may have been replaced or rolled back since."""
    from meduniseg_core.adaptation.decisions import in_use

    decision = run.decision()
    if decision == "adopted" and not in_use(run):
        return "adopted, no longer in use"
    return decision or "-"


@app.command("start")
def start_run(
    file: Annotated[
        Path, typer.Argument(metavar="JOB.json", help="A job file (job.json), as a run's folder holds it.")
    ],
    name: Annotated[
        str | None, typer.Option("--output", "-o", metavar="NAME", help="Name of the run. Default: the job's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a training from a job file, in a process of its own."""
    from meduniseg_core.adaptation.jobs import read_job, renamed
    from meduniseg_core.adaptation.runs import begin

    job = read_job(file)
    run = begin(renamed(job, name or job.name))
    print_answer(as_json, run_report(run), f"{run.job.name} has started; 'meduniseg runs list' shows its state.")


@app.command("resume")
def resume_run(name: Name, as_json: Json = False) -> None:
    """Continue a stopped run, in a process of its own."""
    from meduniseg_core.adaptation.run import Run

    run = Run.open(name)
    run.start()
    print_answer(as_json, run_report(run), f"{name} continues; 'meduniseg runs list' shows its state.")


@app.command("stop")
def stop_run(name: Name, as_json: Json = False) -> None:
    """Stop a run and save its state; 'runs resume' continues it."""
    from meduniseg_core.adaptation.run import Run

    run = Run.open(name)
    run.stop()
    print_answer(as_json, run_report(run), f"{name} is stopped.")


@app.command("gate")
def gate_run(
    name: Name,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Compare a run's model with its base on the validation cases; the reports go to the run's folder."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.gate import gate_folder, judge
        from meduniseg_core.adaptation.run import Run
        from meduniseg_core.weights import load_model

        run = Run.open(name)
        base = load_model(run.job.base)
        reports = judge(run, base, device=device, precision=precision, events=session.events, cancel=session.cancel)
        pages = {task: gate_folder(run, task) / "gate.html" for task in reports}
        found = {task: {**gate.model_dump(mode="json"), "html": pages[task]} for task, gate in reports.items()}
        named = len(found) > 1
        lines = []
        for task, gate in reports.items():
            lead = f"{task}: " if named else ""
            lines += [f"{lead}{gate.verdict}: {gate.reason} {gate.bias}".strip(), str(pages[task])]
        session.result({"tasks": found} if named else found[run.job.task], *lines)


@app.command("adopt")
def adopt_run(
    name: Name,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Adopt the model even if the comparison found it worse or was not made.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install a run's model and put it into use for its task."""
    from meduniseg_core.adaptation.decisions import adopt
    from meduniseg_core.adaptation.run import Run

    run = Run.open(name)
    model = adopt(run, anyway=anyway)
    print_answer(as_json, {"task": run.job.task, "model": model}, f"{model} is adopted for {run.job.task}.")


@app.command("rollback")
def roll_back(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task to roll back.")],
    as_json: Json = False,
) -> None:
    """Take a task's model or pack out of use; what was in use before it is used again."""
    from meduniseg_core.weights import ActiveModels

    former, now = ActiveModels().roll_back(task)
    after = f"{now} is in use again" if now is not None else "it has no other adopted model or pack"
    print_answer(
        as_json, {"task": task, "taken_back": former, "in_use": now}, f"{former} is out of use for {task}; {after}."
    )


@app.command("discard")
def discard_run(name: Name, as_json: Json = False) -> None:
    """Delete a run and its files."""
    from meduniseg_core.adaptation.decisions import discard
    from meduniseg_core.adaptation.run import Run

    discard(Run.open(name))
    print_answer(as_json, {"discarded": name}, f"{name} is deleted.")


@app.command("verify")
def verify_run(
    manifest: Annotated[Path, typer.Argument(metavar="RUN.jsonl", help="The manifest of 'segment --manifest'.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT_DIR", help="Folder of the results, if it was moved.")
    ] = None,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Also read every image and check that it is the one that was segmented.")
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Prove that a run over many cases is complete: every case once, every file as it was written. Else exit code 3."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.archive import verify_manifest

        report = verify_manifest(manifest, output=output, inputs=inputs, events=session.events, cancel=session.cancel)
        session.result(report.as_json(), *(f"{manifest}: {sentence}" for sentence in report.sentences()))
        return 0 if report.complete else BadInputError.exit_code


def run_report(run: Run) -> dict[str, Any]:
    """One run as plain data."""
    standing = run.standing()
    job = run.job.model_dump(mode="json")
    return {
        **job,
        "task": run.job.task,
        "dataset": str(run.job.datasets[0]),
        "command": run.command,
        "folder": run.folder,
        "state": standing.phase,
        "trouble": standing.trouble,
        "resumable": standing.resumable,
        "decision": run.decision(),
    }
