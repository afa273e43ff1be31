"""The server from the other side: segments an image on another machine, as `Predictor.segment` does on this one."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.addresses import address_fault
from meduniseg_core.connections import BUNDLE, certificate_fault, check_bundle, line_broke
from meduniseg_core.errors import BadInputError, CancelledError, MedUniSegError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message, Progress, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.findings import Finding, merge
from meduniseg_core.inference import Segmentation
from meduniseg_core.inference.quality.assessment import quality_from
from meduniseg_core.serving.packed_image import ENDING, write_packed
from meduniseg_core.structured_text import parse_json

TOKEN = "MEDUNISEG_TOKEN"
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and to answer
_LOOK = 0.2  # seconds between looks at the job
_TRIES = 5  # looks in a row that may fail
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Server:
    """A ``meduniseg serve`` by its address, https unless it is on this machine."""

    address: str
    token: str = field(default="", repr=False)

    @classmethod
    def at(cls, address: str) -> Server:
        """A server with the token of the environment.

        Args:
            address: ``https://HOST:PORT``, or ``http://127.0.0.1:PORT`` (a tunnel, say).

        Returns:
            The server.

        Raises:
            UsageError: it is no such address, or images would cross a network unencrypted.
        """
        fault, host = address_fault(address.strip())
        if fault in ("none", "password"):
            raise UsageError(f"{address[:80]!r} is not a server's address; give https://HOST:8470.")
        if fault == "unencrypted":
            raise UsageError(
                f"Images would cross the network to {host} unencrypted; give its https address or a tunnel."
            )
        return cls(address.strip().rstrip("/"), os.environ.get(TOKEN, "").strip())


@dataclass(frozen=True)
class RemoteRequest:
    """What is to be done: the arguments of `Predictor.segment` that make sense from afar."""

    tasks: Sequence[str]
    tta: bool = False
    overlap: float = 0.5
    box: Box | None = None
    scale: float = 1.0
    orientation: str | None = None
    packs: bool = True


def segment_on_server(
    server: Server,
    image: Image,
    request: RemoteRequest,
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> dict[str, Segmentation]:
    """Send an image to a server, wait for its labels, and leave nothing there.

    Args:
        server: the server.
        image: the image ``(C, D, H, W)``.
        request: what is to be done.
        events: receives progress (stage "segment", of all tasks) and messages.
        cancel: stops within a moment, on the server, too.

    Returns:
        The segmentation of each task, on the image's grid.

    Raises:
        UsageError: the request is refused, or the client's library is missing.
        BadInputError: the server cannot be reached, refuses, goes away, or answers something else.
        CancelledError: ``cancel`` was set.
    """
    cancel = cancel or CancelToken()
    conversation = _Conversation(server)
    with tempfile.TemporaryDirectory(prefix="meduniseg-send-") as folder:
        packed = Path(folder) / f"image{ENDING}"
        write_packed(image, packed)
        cancel.raise_if_cancelled()
        job = conversation.send(packed, _query(request), cancel)
    try:
        done = conversation.wait(job, events, cancel)
        return {task: _result(conversation, done, task, image, server.address) for task in request.tasks}
    finally:
        conversation.forget(job)


def _query(request: RemoteRequest) -> dict[str, Any]:
    query: dict[str, Any] = {
        "filename": f"image{ENDING}",
        "task": ",".join(request.tasks),
        "format": "npy",
        "tta": request.tta,
        "overlap": request.overlap,
        "scale": request.scale,
        "packs": "in-use" if request.packs else "none",
    }
    if request.orientation is not None:
        query["orientation"] = request.orientation
    if request.box is not None:
        query["box"] = ",".join(str(end) for axis in request.box for end in axis)
    return query


class _Conversation:
    """Requests to one server; its refusals become our errors."""

    def __init__(self, server: Server) -> None:
        try:
            import requests
        except ImportError:
            raise UsageError("A server is reached by the library requests; run: pip install requests.") from None
        check_bundle()
        self._requests, self._address = requests, server.address
        self._session = requests.Session()
        self._session.trust_env = True  # a hospital's proxy and certificates
        self._session.max_redirects = 0
        self._headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}

    def send(self, path: Path, query: dict[str, Any], cancel: CancelToken) -> str:
        def blocks() -> Iterator[bytes]:
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    cancel.raise_if_cancelled()
                    yield block

        return str(self._json("POST", "/jobs", params=query, data=blocks())["id"])

    def wait(self, job: str, events: EventSink, cancel: CancelToken) -> dict[str, Any]:
        heard, failed, before = 0, 0, None
        found: dict[str, Any]
        while True:
            cancel.raise_if_cancelled()
            try:
                found = self._json("GET", f"/jobs/{job}")
                failed = 0
            except _UnreachableError:
                failed += 1
                if failed >= _TRIES:
                    raise
                time.sleep(_LOOK * 2**failed)
                continue
            for message in found["messages"][heard:]:
                events(Message("warning" if message["level"] == "warning" else "info", str(message["text"])))
            heard = len(found["messages"])
            progress = found["progress"]
            if progress is not None and progress != before:
                events(Progress("segment", int(progress["done"]), int(progress["total"]), float(progress["seconds"])))
                before = progress
            if found["state"] == "done":
                return found
            if found["state"] == "cancelled":
                raise CancelledError("The server stopped the job; nothing was written.")
            if found["state"] == "failed":
                kind = UsageError if found.get("exit_code") == UsageError.exit_code else BadInputError
                raise kind(str(found["error"]))
            time.sleep(_LOOK)

    def file(self, job: str, number: int) -> bytes:
        content: bytes = self._answer("GET", f"/jobs/{job}/files/{number}").content
        return content

    def forget(self, job: str) -> None:
        with suppress(MedUniSegError):
            self._answer("DELETE", f"/jobs/{job}")
        self._session.close()

    def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            return parse_json(self._answer(method, path, **more).content)
        except ValueError as error:
            raise BadInputError(
                f"{self._address} does not answer as 'meduniseg serve' does; check the address."
            ) from error

    def _answer(self, method: str, path: str, **more: Any) -> Any:
        requests = self._requests

        def authorised(request: Any) -> Any:  # always set: no file (.netrc) is asked
            request.headers.update(self._headers)
            return request

        try:
            answer = self._session.request(method, f"{self._address}{path}", timeout=_TIMEOUT, auth=authorised, **more)
        except requests.exceptions.SSLError as error:
            remedy = f"name its authority's file (PEM) in the variable {BUNDLE}"
            said = certificate_fault(self._address, error, remedy, "reach it by an SSH tunnel")
            raise (_UnreachableError if line_broke(error) else BadInputError)(said) from None
        except requests.TooManyRedirects:
            raise BadInputError(f"{self._address} redirects to another address; give that one.") from None
        except requests.RequestException as error:
            raise _UnreachableError(
                f"{self._address} cannot be reached, or went away ({type(error).__name__}); check that it runs."
            ) from None
        if answer.status_code < 300:
            return answer
        try:
            sentence = str(parse_json(answer.content)["error"])
        except (ValueError, KeyError, TypeError):
            sentence = f"status {answer.status_code}"
        if answer.status_code == 401:
            sentence = f"the token is missing or wrong; set the variable {TOKEN}."
        raise (UsageError if answer.status_code in (400, 401) else BadInputError)(f"{self._address}: {sentence}")


class _UnreachableError(BadInputError):
    pass


def _result(conversation: _Conversation, done: dict[str, Any], task: str, image: Image, address: str) -> Segmentation:
    """A task's result, checked: what comes from another machine is not trusted."""
    places = {(str(one["task"]), str(one["kind"])): number for number, one in enumerate(done["results"])}
    wrong = BadInputError(f"{address} sent no labels of {task} that fit the image; update both programs.")
    try:
        labels = conversation.file(done["id"], places[task, "labels"])
        record = parse_json(conversation.file(done["id"], places[task, "record"]))
        array = np.load(io.BytesIO(labels), allow_pickle=False)
        names = [str(record["classes"][str(label)]) for label in range(1, len(record["classes"]) + 1)]
        if (
            array.dtype.kind not in "iu"
            or array.size != image.array[0].size
            or array.min() < 0
            or array.max() > len(names)
        ):
            raise wrong
        return Segmentation(
            labels=image.with_array(array.reshape((1, *image.geometry.shape))),
            image=image,
            task=task,
            modality=str(record["modality"]),
            class_names=tuple(names),
            model=str(record["model"]),
            model_sha256=str(record["model_sha256"]),
            version=str(record["version"]),
            seconds=float(record["seconds"]),
            execution=f"{record['ran_on']} on {address}",
            intended_use=str(record["intended_use"]),
            settings=dict(record["settings"]),
            pack=record.get("pack"),
            pack_sha256=record.get("pack_sha256"),
            findings=merge(image.findings, [Finding(**found) for found in record["warnings"]]),
            quality=quality_from(record["quality"]),
        )
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise wrong from error
