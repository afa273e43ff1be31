"""What answers in an archive's place: a page, lists in lists, an answer without end. One sentence, and soon."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from meduniseg_core.errors import BadInputError

pytest.importorskip("dicomweb_client")

from meduniseg_core.pacs import DicomArchive, archive

ANSWERS = {
    "page": b"<html>log in</html>",
    "numbers": b"[1, 2, 3]",
    "nested": b"[" * 100_000,
    "path": json.dumps([{"0020000D": {"vr": "UI", "Value": ["../../x"]}}]).encode(),
}


class Hostile(BaseHTTPRequestHandler):
    """Answers by the first part of the path; ``endless`` never ends."""

    def do_GET(self) -> None:  # the library's name
        kind = self.path.split("/")[1]
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if kind == "page" else "application/dicom+json")
        if kind in ANSWERS:
            self.send_header("Content-Length", str(len(ANSWERS[kind])))
        self.end_headers()
        if kind in ANSWERS:
            self.wfile.write(ANSWERS[kind])
        else:
            with suppress(OSError):
                while True:
                    self.wfile.write(b" " * 65536)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    thread.join(10)
    found.server_close()


@pytest.mark.parametrize("kind", [*ANSWERS, "endless"])
def test_an_answer_that_is_none_is_one_sentence_without_remarks(
    kind: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LONGEST_LIST", 1 << 20)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        with pytest.raises(BadInputError) as caught:
            DicomArchive(f"{server}/{kind}").studies()
    said = {"path": "no UID", "endless": "answers without end"}.get(kind, "does not answer as DICOMweb does")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not [one for one in remarks if "pydicom" in str(one.filename)]


def test_an_answer_that_takes_too_long_ends(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LIST_SECONDS", 0.0)
    with pytest.raises(BadInputError, match="answers without end"):
        DicomArchive(f"{server}/endless").studies()
