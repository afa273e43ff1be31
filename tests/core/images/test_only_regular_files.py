"""Pipes, devices and folders are refused at once: opening a pipe that nobody writes to blocks for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import check_regular, open_regular, sha256_of
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.images.formats import ENDINGS

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes"),
    pytest.mark.timeout(20),
]


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_a_pipe_is_refused_in_every_format(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"pipe{ending}"
    os.mkfifo(path)
    for read in (read_image, read_labels) if ENDINGS[ending] != "jpeg" else (read_image,):
        with pytest.raises(BadInputError, match=rf"pipe{ending} is not an ordinary file"):
            read(path)


@pytest.mark.parametrize(("header", "ending"), [("NRRD", ".nhdr"), ("META", ".mhd")])
def test_a_pipe_as_detached_data_file_is_refused(header: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    if header == "NRRD":
        path.write_text("NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\nencoding: raw\ndata file: x.raw\n\n")
    else:
        path.write_text("NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = x.raw\n")
    os.mkfifo(tmp_path / "x.raw")
    with pytest.raises(BadInputError, match=r"x\.raw"):
        read_image(path)


def test_devices_sockets_and_folders_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, said in (
            ("/dev/zero", "not an ordinary"),
            (tmp_path / "s", "not an ordinary"),
            (tmp_path, "a folder"),
        ):
            for use in (open_regular, check_regular, sha256_of):
                with pytest.raises(BadInputError, match=f"is {said}.* file"):
                    use(Path(path))


def test_links_to_files_are_followed_and_links_to_pipes_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"abc"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other").symlink_to("pipe")
    with pytest.raises(BadInputError, match="not an ordinary file"):
        open_regular(tmp_path / "other")


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"absent cannot be read \(No such file"):
        open_regular(tmp_path / "absent")
    for name in ("x" * 300 + ".png", "a\0b.png"):
        with pytest.raises(BadInputError, match="check"):
            read_image(tmp_path / name)
