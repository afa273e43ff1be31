"""``meduniseg serve``: segment for other machines or programs."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from meduniseg_core.errors import BadInputError, UsageError
from training_cli.options import Device, ModelName, Precision
from training_cli.output import console

TOKEN = "MEDUNISEG_TOKEN"
_SHORTEST = 16  # characters of a token
_GIB = 1 << 30


def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8470,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "auto",
    waiting: Annotated[
        int,
        typer.Option(
            "--queue", metavar="N", min=1, max=1000, help="Number of jobs that may wait; further ones are refused."
        ),
    ] = 16,
    largest: Annotated[
        float, typer.Option("--largest", metavar="GIB", min=0.001, help="The largest upload, in GiB.")
    ] = 2.0,
    keep: Annotated[
        float, typer.Option("--keep", metavar="SECONDS", min=1, help="How long a result waits to be fetched.")
    ] = 600.0,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help=f"A file with the token; default: the variable {TOKEN}."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="TLS certificate (PEM), with --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The certificate's key (PEM).")] = None,
) -> int:
    """Segment what is sent: a queue of jobs with progress and cancelling, over HTTP; needs the extra 'serve'.

    It listens on this machine alone. For any other address a token is needed, which every request must carry.
    """
    token = _token(token_file)
    local = _is_local(host)
    if not local and token is None:
        raise UsageError(
            f"{host} can be reached from other machines, which needs a token; put one of at least {_SHORTEST} "
            f"characters into the variable {TOKEN} or a file (--token-file)."
        )
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key belong together; give both.")
    try:
        from training_cli.serving import Listening, listen
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette"):
            raise
        raise UsageError(
            "'serve' needs FastAPI and uvicorn, which are not installed; run: pip install 'napari-meduniseg[serve]'."
        ) from None
    if not local and certificate is None:
        text = f"Images and token cross the network to {host} unencrypted; give --certificate and --key, or a proxy."
        console(sys.stderr).print(text, markup=False)
    from meduniseg_core.serving import Limits, NetworkWorker

    size = round(largest * _GIB)
    limits = Limits(upload_bytes=size, unpacked_bytes=4 * size, waiting=waiting, keep_seconds=keep)
    worker = NetworkWorker(limits, model, device, precision)
    worker.offer()  # refuses a model that is not there before anything listens
    return listen(worker, limits, Listening(host, port, token, local, certificate, key))


def _token(file: Path | None) -> str | None:
    from meduniseg_core.files import read_small

    if file is not None:
        token = read_small(file, 4096).decode("utf-8", "replace").strip()
    else:
        token = os.environ.get(TOKEN, "").strip()
    if not token:
        if file is not None:
            raise BadInputError(f"{file} holds no token; write one of at least {_SHORTEST} characters into it.")
        return None
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
        raise UsageError(f"The token needs at least {_SHORTEST} plain characters; make a longer one.")
    return token


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
