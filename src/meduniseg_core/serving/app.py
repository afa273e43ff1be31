"""The server's addresses (FastAPI). What they do is in `jobs` and `worker`."""

from __future__ import annotations

import asyncio
import hmac
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from meduniseg_core.addresses import LOCAL_HOSTS
from meduniseg_core.errors import BadInputError, MedUniSegError, UsageError
from meduniseg_core.files import writing_into
from meduniseg_core.serving.jobs import FullQueueError, Job, JobQueue, UnknownJobError
from meduniseg_core.serving.orders import JobOrder
from meduniseg_core.serving.worker import NetworkWorker
from meduniseg_core.version import __version__
from meduniseg_core.weights import ModelInfo

_LOOK = 0.1  # seconds between looks at a job that somebody waits for
_RETRY = "10"  # seconds after which to try again where the queue is full
_LOCAL_HOSTS = frozenset(f"[{host}]" if ":" in host else host for host in LOCAL_HOSTS)  # as a request names them


def make_app(worker: NetworkWorker, jobs: JobQueue, token: str | None, *, local: bool) -> FastAPI:
    """Make the application.

    Args:
        worker: answers what can be asked for.
        jobs: the queue; it is closed with the application.
        token: what every request must carry as ``Authorization: Bearer TOKEN``; None where none is needed.
        local: the server listens on this machine alone: requests that name another host are refused, because a web
            page can make a browser send them.

    Returns:
        The application.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(jobs.close)

    def guard(request: Request) -> None:
        host = request.headers.get("host", "")
        if local and (host.rsplit(":", 1)[0] if not host.endswith("]") else host) not in _LOCAL_HOSTS:
            raise HTTPException(403, "This server answers on this machine's own address only.")
        if "origin" in request.headers:
            raise HTTPException(403, "Web pages cannot use this server.")
        if token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise HTTPException(401, "The token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    app = FastAPI(
        title="MedUniSeg",
        version=__version__,
        lifespan=lifespan,
        dependencies=[Depends(guard)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_errors(app)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "version": __version__, "jobs": jobs.counts()}

    @app.get("/models")
    def models() -> dict[str, Any]:
        return {"models": [_described(info) for info in worker.offer().infos.values()]}

    @app.get("/tasks")
    def tasks() -> dict[str, Any]:
        offer = worker.offer()
        return {
            "tasks": [
                {"model": offer.infos[offer.models[task]].name, **plan.model_dump(mode="json")}
                for task, plan in offer.plans.items()
            ]
        }

    @app.post("/jobs", status_code=202)
    async def add(request: Request, order: Annotated[JobOrder, Query()]) -> dict[str, Any]:
        job = await _receive(request, order, worker, jobs)
        return job.as_json()

    @app.get("/jobs/{job_id}")
    def look(job_id: str) -> dict[str, Any]:
        return jobs.find(job_id).as_json()

    @app.get("/jobs/{job_id}/files/{number}")
    def fetch(job_id: str, number: int) -> FileResponse:
        job = jobs.find(job_id)
        if not 0 <= number < len(job.files):
            raise UsageError(f"The job has {len(job.files)} files; ask for one by its number from 0.")
        path = job.files[number].path
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @app.delete("/jobs/{job_id}", status_code=204)
    def remove(job_id: str) -> Response:
        jobs.remove(jobs.find(job_id))
        return Response(status_code=204)

    @app.post("/segment")
    async def segment(request: Request, order: Annotated[JobOrder, Query()]) -> FileResponse:
        """Wait for the result: the label file of one task, or a zip of all files."""
        job = await _receive(request, order, worker, jobs)
        try:
            while not job.over:
                if await request.is_disconnected():
                    raise ClientDisconnect
                await asyncio.sleep(_LOOK)
            if job.state != "done":
                raise HTTPException(_status(job.exit_code), job.error or "The job was cancelled.")
            path = await run_in_threadpool(_answer, job)
        except BaseException:
            await run_in_threadpool(jobs.remove, job)
            raise
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename=path.name,
            background=BackgroundTask(jobs.remove, job),
        )

    return app


async def _receive(request: Request, order: JobOrder, worker: NetworkWorker, jobs: JobQueue) -> Job:
    """Take an upload into a job of its own, and put it in line. Nothing of one that breaks off is left."""
    await run_in_threadpool(worker.check, order)
    most = jobs.limits.upload_bytes
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise HTTPException(413, f"{order.filename} has more than the {most} bytes that this server takes.")
    job = await run_in_threadpool(jobs.reserve, order)
    try:
        size = await _write(request, job.upload, most)
        if size == 0:
            raise BadInputError(f"{order.filename} is empty; send the file as the request's body.")
        jobs.submit(job)
    except BaseException:  # whoever sent it may be gone
        await asyncio.shield(run_in_threadpool(jobs.remove, job))
        raise
    return job


async def _write(request: Request, path: Path, most: int) -> int:
    size = 0
    with writing_into(path.parent), path.open("xb") as sink:
        async for block in request.stream():
            size += len(block)
            if size > most:
                raise HTTPException(413, f"{path.name} has more than the {most} bytes that this server takes.")
            await run_in_threadpool(sink.write, block)
    return size


def _answer(job: Job) -> Path:
    """The label file where there is one task and nothing else was asked for, else a zip of all files."""
    labels = [file for file in job.files if file.kind == "labels"]
    if len(labels) == 1 and len(job.files) == 2:
        return labels[0].path
    path = job.folder / "results.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for file in job.files:
            packed.write(file.path, f"{file.task}/{file.path.name}" if len(labels) > 1 else file.path.name)
    return path


def _described(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": info.title,
        "intended_use": info.intended_use,
        "modalities": list(info.modalities),
        "tasks": [plan.task for plan in info.tasks],
    }


def _add_errors(app: FastAPI) -> None:
    """Every refusal is one sentence under "error"."""

    def answer(status: int, sentence: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": sentence}, status, headers)

    handlers: dict[type[Exception], Callable[[Any], JSONResponse]] = {
        FullQueueError: lambda error: answer(429, str(error), {"Retry-After": _RETRY}),
        UnknownJobError: lambda error: answer(404, str(error)),
        MedUniSegError: lambda error: answer(_status(error.exit_code), str(error)),
        AnyHTTPException: lambda error: answer(error.status_code, str(error.detail), error.headers),
        RequestValidationError: lambda error: answer(400, _first_fault(error)),
        ClientDisconnect: lambda _error: answer(499, "The request broke off."),
    }
    for kind, handle in handlers.items():
        app.add_exception_handler(kind, _handler(handle))


def _handler(handle: Callable[[Any], JSONResponse]) -> Callable[[Request, Exception], JSONResponse]:
    return lambda _request, error: handle(error)


def _first_fault(error: RequestValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"][1:]) or "the request"
    return f"{where}: {str(fault['msg'])[:200]}."


def _status(exit_code: int) -> int:
    """HTTP's status of an error's exit code."""
    return {UsageError.exit_code: 400, BadInputError.exit_code: 400, 4: 507}.get(exit_code, 500)
