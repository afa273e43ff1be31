"""The Archive widget: studies of a hospital's archive (PACS); series from there as layers, labels to there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)
from superqt import QCollapsible

from meduniseg_core.connections import Certificates
from meduniseg_core.dicom_objects.formats import SEGMENTATION
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, Progress
from meduniseg_core.pacs import Credentials, DicomArchive, RemoteSeries, RemoteStudy, credentials_for, pull, push
from meduniseg_core.pacs.archive import check_address
from napari_meduniseg._current import current_of
from napari_meduniseg._layers import LayerData
from napari_meduniseg._links import image_of
from napari_meduniseg._reader import read_one
from napari_meduniseg._writer import layers_around, write_on_grid
from napari_meduniseg.widgets.folder_field import file_row, folder_row
from napari_meduniseg.widgets.message import keep_room
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.save_button import suggestion, with_ending
from napari_meduniseg.widgets.working import T

_WORK = "archive"
_DATA = Qt.ItemDataRole.UserRole
_PEM = "PEM (*.pem *.crt *.cer *.key);;All files (*)"


class ArchiveWidget(Panel):
    """Lists studies and their series; opens a series as a layer; sends the current labels as a segmentation."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self.address, self.user, self.password = QLineEdit(), QLineEdit(), QLineEdit()
        self.address.setPlaceholderText("https://pacs.example/dicom-web")
        self.address.setToolTip("The archive's DICOMweb address; https, or this machine's own.")
        self.user.setToolTip(
            "Your name there; empty: that of the keyring ('meduniseg dicom login') or the environment."
        )
        self.password.setToolTip("Your password there. It is used now and kept nowhere.")
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self.authority, self.certificate, self.key = QLineEdit(), QLineEdit(), QLineEdit()
        self.authority.setToolTip(
            "A file (PEM) with the certificates to trust, such as your hospital's; empty: those that the system trusts."
        )
        self.certificate.setToolTip(
            "Your certificate's file (PEM), for an archive that asks its clients for one; else empty."
        )
        self.key.setToolTip("The file of your certificate's key (PEM); empty where it stands in the same file.")
        self.patient, self.date = QLineEdit(), QLineEdit()
        self.patient.setToolTip("Only studies of this patient ID; empty: of all patients.")
        self.date.setPlaceholderText("YYYYMMDD or YYYYMMDD-YYYYMMDD")
        self.date.setToolTip("Only studies of this day or these days; empty: of all days.")
        self.folder = QLineEdit()
        self.folder.setToolTip("Where series that are opened and labels that are sent are kept on this machine.")
        self.search_button = QPushButton("Search")
        self.search_button.setToolTip("List the studies of the archive.")
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Date", "Patient", "Description"])
        self.tree.setToolTip("The studies; a double click lists a study's series, or opens a series.")
        self.open_button, self.send_button = QPushButton("Open"), QPushButton("Send labels")
        self.open_button.setToolTip("Fetch the chosen series and open it as a layer.")
        self.send_button.setToolTip("Send the current labels to the archive, as a DICOM segmentation of their study.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; nothing incomplete stays here or in the archive.")
        self.progress = QProgressBar()
        self.progress.setToolTip("Images received, or objects sent.")
        keep_room(self.progress)
        form = QFormLayout()
        form.addRow("Archive", self.address)
        form.addRow("User", self.user)
        form.addRow("Password", self.password)
        form.addRow("Patient ID", self.patient)
        form.addRow("Date", self.date)
        form.addRow("Folder", folder_row(self.folder, "The folder for series and labels"))
        rows = QWidget()
        files = QFormLayout(rows)
        files.setContentsMargins(0, 0, 0, 0)
        files.addRow("Authority", file_row(self.authority, "The authority's certificate", _PEM))
        files.addRow("Certificate", file_row(self.certificate, "Your certificate", _PEM))
        files.addRow("Key", file_row(self.key, "Your certificate's key", _PEM))
        self.certificates = QCollapsible("Certificates")
        self.certificates.setToolTip("Whom to trust, and what to show to an archive that asks for a certificate.")
        self.certificates.addWidget(rows)
        buttons = QHBoxLayout()
        for button in (self.open_button, self.send_button, self.cancel_button):
            buttons.addWidget(button)
        self.content.addLayout(form)
        self.content.addWidget(self.certificates)
        self.content.addWidget(self.search_button)
        self.content.addWidget(self.tree)
        for widget in (self.said, self.progress):
            self.footer.addWidget(widget)
        self.footer.addLayout(buttons)
        self.search_button.clicked.connect(self.search)
        self.open_button.clicked.connect(self.open)
        self.send_button.clicked.connect(self.send)
        self.cancel_button.clicked.connect(self.cancel)
        self.tree.itemDoubleClicked.connect(lambda *_: self.open())
        self._ended()

    def search(self) -> None:
        """List the studies."""
        wanted = {"PatientID": self.patient.text().strip(), "StudyDate": self.date.text().strip()}
        filters = {keyword: text for keyword, text in wanted.items() if text}
        self._do(lambda archive, _report, _cancel: archive.studies(100, **filters), self._show_studies, "Searching ...")

    def open(self) -> None:
        """List the chosen study's series, or open the chosen series."""
        chosen = self._chosen()
        if isinstance(chosen, RemoteStudy):
            self._do(
                lambda archive, _report, _cancel: archive.series(chosen.uid),
                lambda series: self._show_series(chosen, series),
                "Listing ...",
            )
        elif isinstance(chosen, RemoteSeries):
            with self.saying_failures():
                folder = self._folder()
                self._do(
                    lambda archive, report, cancel: read_one(
                        pull(archive, chosen, folder, events=report, cancel=cancel)
                    ),
                    self._opened,
                    "Fetching ...",
                )
        else:
            self.say("Choose a study or a series in the list.")

    def send(self) -> None:
        """Send the current labels."""
        layer = self._current.labels
        if layer is None:
            self.say_failure("There are no labels; run Segment or draw some first.")
            return
        with self.saying_failures():
            path = self._folder() / with_ending(suggestion(layer), SEGMENTATION.ending).name
            _, attributes, _ = layer.as_layer_data_tuple()
            now, layers = np.array(layer.data), layers_around(layer.data)
            image = None if layers is None else image_of(layer, layers)

            def work(archive: DicomArchive, report: Callable[[object], None], cancel: CancelToken) -> str:
                write_on_grid(str(path), now, attributes, layers, image)
                push(archive, [path], events=report, cancel=cancel)
                return path.name

            self._do(work, lambda name: self.say(f"Sent {name}; the archive has it."), "Sending ...")

    def cancel(self) -> None:
        """Stop what is being done."""
        if self.cancel_job(_WORK):
            self.say("Stopping ...")

    def _do(
        self,
        work: Callable[[DicomArchive, Callable[[object], None], CancelToken], T],
        then: Callable[[T], None],
        text: str,
    ) -> None:
        """Do work with the archive in a thread."""
        if self.does(_WORK):
            self.say("Another request is still running; wait, or cancel it.")
            return
        with self.saying_failures():
            address, user, password = check_address(self.address.text().strip()), self.user.text(), self.password.text()
            if bool(user) != bool(password):
                raise UsageError("User and password belong together; give both, or neither.")
            certificates = self._certificates()

            def talk(report: Callable[[object], None], cancel: CancelToken) -> T:
                given = Credentials("this panel", user=user, password=password) if user else credentials_for(address)
                return work(DicomArchive(address, given, certificates), report, cancel)

            def end(act: Callable[..., None], *answer: object) -> None:
                self._ended()
                act(*answer)

            self.start_job(
                talk,
                lambda answer: end(then, answer),
                lambda sentence: end(self.say_failure, sentence),
                cancelled=lambda: end(self.say, "Cancelled; nothing incomplete is left."),
                event=self._show_event,
                kind=_WORK,
                title="Work with the archive",
            )
            self.cancel_button.setEnabled(True)
            self.progress.setRange(0, 0)
            self.progress.show()
            self.say(text)

    def _ended(self) -> None:
        self.cancel_button.setEnabled(False)
        self.progress.hide()

    def _show_event(self, event: object) -> None:
        if isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)

    def _folder(self) -> Path:
        text = self.folder.text().strip()
        if not text or not Path(text).is_dir():
            raise UsageError("Choose a folder in which series and labels are kept.")
        return Path(text)

    def _certificates(self) -> Certificates:
        """The chosen files; only their names stay in the panel."""
        texts = (field.text().strip() for field in (self.authority, self.certificate, self.key))
        return Certificates(*(Path(text) if text else None for text in texts))

    def _chosen(self) -> RemoteStudy | RemoteSeries | None:
        item = self.tree.currentItem()
        found = None if item is None else item.data(0, _DATA)
        return found if isinstance(found, RemoteStudy | RemoteSeries) else None

    def _show_studies(self, studies: list[RemoteStudy]) -> None:
        self.tree.clear()
        for study in studies:
            modalities = f" ({', '.join(study.modalities)})" if study.modalities else ""
            item = QTreeWidgetItem(
                [study.date, f"{study.patient} {study.patient_id}", f"{study.description}{modalities}"]
            )
            item.setData(0, _DATA, study)
            self.tree.addTopLevelItem(item)
        self.say(f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}." if studies else "No study matches.")

    def _show_series(self, study: RemoteStudy, series: list[RemoteSeries]) -> None:
        for row in range(self.tree.topLevelItemCount()):
            item = self.tree.topLevelItem(row)
            if item is None or item.data(0, _DATA) != study:
                continue
            item.takeChildren()
            for one in series:
                count = "" if one.instances is None else f" ({one.instances} images)"
                child = QTreeWidgetItem([one.modality, one.number, f"{one.description}{count}"])
                child.setData(0, _DATA, one)
                item.addChild(child)
            item.setExpanded(True)
        self.say(f"{len(series)} series; choose one and press Open.")

    def _opened(self, layers: list[LayerData]) -> None:
        added = [self._current.viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in layers]
        if added and isinstance(added[0], ImageLayer):
            self._current.choose_image(added[0])
        self.say(f"Opened {', '.join(layer.name for layer in added)}.")
