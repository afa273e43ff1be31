"""Small copies of the official layouts of all data sets that can be converted, with values that a test can foresee.

Every volume and picture has its target in the block ``BLOCK`` of its label map (or the part of it that is said there).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
from miniature_files import (
    SHAPE,
    SIDE,
    blocks,
    dicom,
    item,
    mask,
    nifti,
    photograph,
    picture,
    pixels,
    saved,
    segmentation,
    series,
    structures,
    volume,
)
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)


def lits(root: Path) -> None:
    for number in range(5):
        folder = root / f"Training Batch {1 + number // 3}"
        nifti(folder / f"volume-{number}.nii", volume(number))
        nifti(folder / f"segmentation-{number}.nii", blocks(1, 2))


def kits19(root: Path) -> None:
    for number in range(6):  # the last has no labels, as in the official test set
        nifti(root / f"data/case_{number:05d}/imaging.nii.gz", volume(number))
        if number < 5:
            nifti(root / f"data/case_{number:05d}/segmentation.nii.gz", blocks(1, 2))


def decathlon(task: str, stem: str, *values: int) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        folder = root / task
        for number in range(5):
            nifti(folder / f"imagesTr/{stem}_{number:03d}.nii.gz", volume(number))
            nifti(folder / f"labelsTr/{stem}_{number:03d}.nii.gz", blocks(*values))
        (folder / f"imagesTr/._{stem}_000.nii.gz").write_bytes(b"macOS")
        nifti(folder / f"imagesTs/{stem}_900.nii.gz", volume())
        (folder / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "target"}}')

    return make


def verse20(root: Path) -> None:
    scans = ["sub-gl003_dir-ax", "sub-gl016_dir-ax", "sub-verse500_split-verse201", "sub-verse500_split-verse202"]
    for number, scan in enumerate([*scans, "sub-verse600"]):
        part = root / ("dataset-01training" if number < 3 else "dataset-02validation")
        subject = scan.split("_")[0]
        nifti(part / f"rawdata/{subject}/{scan}_ct.nii.gz", volume(number))
        nifti(part / f"derivatives/{subject}/{scan}_seg-vert_msk.nii.gz", blocks(18, 19, 25))
        (part / f"derivatives/{subject}/{scan}_seg-subreg_ctd.json").write_text("[]")
    nifti(root / "dataset-03test/rawdata/sub-verse999/sub-verse999_ct.nii.gz", volume())
    nifti(root / "dataset-03test/derivatives/sub-verse999/sub-verse999_seg-vert_msk.nii.gz", blocks(18))


def prostate(root: Path) -> None:
    for collection, patient in (("Prostate-3T", "Prostate3T-01-0001"), ("PROSTATE-DIAGNOSIS", "ProstateDx-01-0002")):
        series(root / collection / patient / "1.2.840/T2 TSE-4", MRImageStorage, mr(), Modality="MR")
        label = SimpleITK.GetImageFromArray(blocks(1, 2).astype(np.uint8))
        label.SetSpacing((1.0, 1.0, 2.0))
        (root / "NCI-ISBI").mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(label, root / "NCI-ISBI" / f"{patient}.nrrd")
    patient = root / "I2CVB/Siemens/Patient_384"
    series(patient / "T2W", MRImageStorage, mr(2), Modality="MR")
    series(patient / "GT/prostate", MRImageStorage, blocks(255).astype(np.uint16), Modality="MR")
    series(patient / "GT/cg", MRImageStorage, blocks(255).astype(np.uint16), Modality="MR")
    (root / "PROMISE12").mkdir()
    for number in range(2):
        for name, array in ((f"Case{number:02d}", volume(number)), (f"Case{number:02d}_segmentation", blocks(1))):
            image = SimpleITK.GetImageFromArray(array)
            image.SetSpacing((0.6, 0.6, 3.6))
            SimpleITK.WriteImage(image, root / "PROMISE12" / f"{name}.mhd")


def mr(seed: int = 0) -> np.ndarray:
    return (volume(seed) + 100).astype(np.uint16)


def prostate_joined(root: Path) -> None:
    for site in ("BIDMC", "HK"):
        for number in range(2):
            nifti(root / site / f"Case{number:02d}.nii.gz", volume(number))
            nifti(root / site / f"Case{number:02d}_Segmentation.nii.gz", blocks(1, 2))


def brats21(root: Path) -> None:
    for number in range(5):
        case = f"BraTS2021_{number:05d}"
        for seed, kind in enumerate(("flair", "t1", "t1ce", "t2")):
            nifti(root / case / f"{case}_{kind}.nii.gz", volume(10 * seed + number))
        nifti(root / case / f"{case}_seg.nii.gz", blocks(1, 2, 4))


CT_SHAPE = (6, 20, 24)  # half the PET's pixel, so that it covers the same field


def autopet22(root: Path) -> None:
    """Five studies of four patients as NIfTI, one of them without a lesion."""
    pet = np.diag([-1.0, -1.0, 2.0, 1.0])
    ct = np.array([[-0.5, 0, 0, 0.25], [0, -0.5, 0, 0.25], [0, 0, 2, 0], [0, 0, 0, 1]])
    for number, patient in enumerate(("a1", "a1", "b2", "c3", "d4")):
        folder = root / f"FDG-PET-CT-Lesions/PETCT_{patient}/0{number + 1}-23-2003-NA-PET-CT Ganzkoerper-4296{number}"
        nifti(folder / "CT.nii.gz", volume(number, CT_SHAPE), ct)
        nifti(folder / "SUV.nii.gz", np.abs(volume(number)).astype(np.float32) / 50, pet)
        nifti(folder / "PET.nii.gz", np.abs(volume(number)), pet)
        nifti(folder / "SEG.nii.gz", blocks(*((1,) if number < 4 else ())), pet)


PET_DOSE = {"RadionuclideTotalDose": 3.0e8, "RadionuclideHalfLife": 6586.2, "RadiopharmaceuticalStartTime": "100000"}


def autopet22_dicom(root: Path) -> None:
    """Two studies as TCIA has them: 75 kg, one hour after 300 MBq; the second has no lesion."""
    for number in range(2):
        study = root / f"FDG-PET-CT-Lesions/PETCT_e{number}/06-10-2005-NA-PET-CT Thorax-5512{number}"
        series(study / "5.0-CT-1", CTImageStorage, mr_like(CT_SHAPE), (2.0, 0.5, 0.5), Modality="CT")
        series(
            study / "3.0-PET-2",
            PositronEmissionTomographyImageStorage,
            np.full(SHAPE, 5000, np.uint16),
            Modality="PT",
            Units="BQML",
            DecayCorrection="START",
            PatientWeight="75",
            SeriesTime="110000",
            AcquisitionTime="110000",
            RadiopharmaceuticalInformationSequence=[item(**PET_DOSE)],
        )
        marked = blocks(*((1,) if number == 0 else ())) > 0
        segmentation(study / "300.0-Segmentation-3/1-1.dcm", marked, (2.0, 1.0, 1.0))


def mr_like(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 400, size=shape, dtype=np.uint16)


def isic18(root: Path) -> None:
    for part, count in (("Training", 3), ("Validation", 1), ("Test", 2)):
        for number in range(count):
            name = f"ISIC_{hash_of(part, number):07d}"
            picture(root / f"ISIC2018_Task1-2_{part}_Input/{name}.jpg", photograph(number))
            picture(root / f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png", mask())
        (root / f"ISIC2018_Task1-2_{part}_Input/ATTRIBUTION.txt").write_text("see the archive")


def hash_of(part: str, number: int) -> int:
    return 100 * len(part) + number


def refuge2(root: Path) -> None:
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            picture(root / f"REFUGE2/{part}/images/{part[0]}{number:04d}.jpg", photograph(number))
            picture(root / f"REFUGE2/{part}/mask/{part[0]}{number:04d}.bmp", disc())


def disc() -> np.ndarray:
    array = mask(128, rest=255)
    array[6:8, 8:10] = 0
    return array


def refuge1(root: Path) -> None:
    for folder, name in (("Glaucoma", "g0001"), ("Non-Glaucoma", "n0001")):
        picture(root / f"Training400/{folder}/{name}.jpg", photograph())
        picture(root / f"Annotation-Training400/Disc_Cup_Masks/{folder}/{name}.bmp", disc())
    picture(root / "REFUGE-Validation400/V0001.jpg", photograph())
    picture(root / "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp", disc())


def glas(root: Path) -> None:
    for name in ("train_1", "train_2", "train_3", "testA_1", "testB_1"):
        folder = root / "Warwick QU Dataset (Released 2016_07_08)"
        picture(folder / f"{name}.bmp", photograph())
        instances = mask(1) + mask(2, slice(12, 16))
        picture(folder / f"{name}_anno.bmp", instances)
    rows = ["name, patient ID, grade (GlaS)", "train_1, 7, benign", "train_2, 7, malignant", "testA_1, 3, benign"]
    (folder / "Grade.csv").write_text("\n".join(rows))


def busi(root: Path) -> None:
    for kind, value in (("benign", 255), ("malignant", 255), ("normal", 0)):
        for number in (1, 2):
            base = root / f"Dataset_BUSI_with_GT/{kind}/{kind} ({number})"
            picture(base.with_name(base.name + ".png"), photograph(number))
            picture(base.with_name(base.name + "_mask.png"), mask(value))
    picture(root / "Dataset_BUSI_with_GT/benign/benign (2)_mask_1.png", mask(255, slice(12, 16)))


def qatav2(root: Path) -> None:
    training = ("covid_1", "sub-S09345_ses-E24503_run-1", "sub-S09345_ses-E24504_run-1")
    names = {"Train Set": training, "Test Set": ("covid_2",)}
    for part, stems in names.items():
        for seed, stem in enumerate(stems):
            picture(root / f"QaTa-COV19-v2/{part}/Images/{stem}.png", photograph(seed)[..., 0])
            picture(root / f"QaTa-COV19-v2/{part}/Ground-truths/mask_{stem}.png", mask())


def polyp(root: Path) -> None:
    for stem in ("cju0qkwl35piu0993l0dewei2", "cju1", "17", "612"):
        picture(root / f"TrainDataset/image/{stem}.png", photograph())
        picture(root / f"TrainDataset/mask/{stem}.png", mask())
    for source in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"):
        picture(root / f"TestDataset/{source}/images/17.png", photograph())
        picture(root / f"TestDataset/{source}/masks/17.png", mask())


def polyp_sources(root: Path) -> None:
    """The five sources as their own pages offer them."""
    for number in range(1, 11):
        picture(root / f"Kvasir-SEG/images/cju{number}.jpg", photograph(number))
        picture(root / f"Kvasir-SEG/masks/cju{number}.jpg", mask())
        picture(root / f"CVC-ClinicDB/Original/{number}.tif", photograph(number))
        picture(root / f"CVC-ClinicDB/Ground Truth/{number}.tif", mask())
    picture(root / "ETIS-LaribPolypDB/ETIS-LaribPolypDB/1.tif", photograph())
    picture(root / "ETIS-LaribPolypDB/Ground Truth/p1.tif", mask())
    for source in ("CVC-300", "CVC-ColonDB"):
        picture(root / source / "images/1.png", photograph())
        picture(root / source / "masks/1.png", mask())


def btcv(root: Path) -> None:
    for number in (1, 2, 3, 21, 40):
        nifti(root / f"RawData/Training/img/img{number:04d}.nii.gz", volume(number))
        nifti(root / f"RawData/Training/label/label{number:04d}.nii.gz", thirteen())
    nifti(root / "RawData/Testing/img/img0061.nii.gz", volume())


def thirteen() -> np.ndarray:
    array = np.zeros(SHAPE, np.int16)
    array.reshape(-1)[40:92] = np.repeat(np.arange(1, 14), 4)
    return array


def covid1920(root: Path) -> None:
    for number in range(5):
        base = root / f"COVID-19-20_v2/Train/volume-covid19-A-{number:04d}"
        nifti(base.with_name(base.name + "_ct.nii.gz"), volume(number))
        nifti(base.with_name(base.name + "_seg.nii.gz"), blocks(1))
    nifti(root / "COVID-19-20_v2/Validation/volume-covid19-A-0900_ct.nii.gz", volume())


SQUARE = ((1.6, 1.6), (6.4, 1.6), (6.4, 5.4), (1.6, 5.4))  # (x, y): columns 2 to 6, rows 2 to 5
HOLE = ((2.6, 2.6), (4.4, 2.6), (4.4, 3.4), (2.6, 3.4))  # columns 3 and 4 of row 3


def vs(root: Path) -> None:
    for number in (1, 2, 3):
        study = root / f"Vestibular-Schwannoma-SEG/VS-SEG-{number:03d}/09-09-1997-NA-MR RADIOTHERAPY-{number}"
        t1 = series(study / "1.0-t1mprage-1", MRImageStorage, mr(), Modality="MR", SeriesDescription="t1_mpr_tra")
        t2 = series(study / "2.0-t2-2", MRImageStorage, mr(1), Modality="MR", SeriesDescription="t2_ci3d_tra")
        ring = [[(*point, 4.0) for point in polygon] for polygon in (SQUARE, HOLE)]
        other = [[(8.0, 8.0, 4.0), (9.9, 8.0, 4.0), (9.9, 9.0, 4.0)]]
        structures(study / "1.0-RTSTRUCT-3/1-1.dcm", t1, {"TV": ring, "Cochlea": other})
        structures(study / "1.0-RTSTRUCT-4/1-1.dcm", t2, {"TV": other})


def vs_convenient(root: Path) -> None:
    folder = root / "vs_gk_7_t1"
    uid = series(folder, MRImageStorage, mr(), Modality="MR", SeriesDescription="t1_mpr_tra")
    structures(folder / "RTSS.dcm", uid, {"AN": [[(*point, 2.0) for point in SQUARE]]})


def siim(root: Path) -> None:
    lines = ["ImageId, EncodedPixels"]
    for part, count in (("train", 6), ("test", 2)):
        for number in range(count):
            uid = f"1.2.276.0.{len(part)}.{number}"
            plane = photograph(number)[..., 0]
            dataset = dicom(
                SecondaryCaptureImageStorage,
                Modality="CR",
                SeriesInstanceUID=generate_uid(),
                PixelSpacing=[0.17, 0.17],
                **pixels(plane),
            )
            saved(dataset, root / f"dicom-images-{part}/{uid}.1/{uid}.2/{uid}.dcm")
            # the second run begins ten pixels after the first one's end: rows 4 to 6 of column 3, then rows 17, 18
            lines += [f"{uid}, 64 3 10 2"] if number < 2 else [f"{uid},  -1"]
            if number == 1:
                lines.append(f"{uid}, 0 1")
    (root / "train-rle.csv").write_text("\n".join(line for line in lines if ".4." not in line) + "\n")
    (root / "stage_2_train.csv").write_text("\n".join(lines) + "\n")


def idrid(root: Path) -> None:
    for part, numbers in (("a. Training Set", (1, 2, 3)), ("b. Testing Set", (55,))):
        for number in numbers:
            picture(root / f"A. Segmentation/1. Original Images/{part}/IDRiD_{number:02d}.jpg", photograph())
            truth = root / "A. Segmentation/2. All Segmentation Groundtruths" / part
            red = np.zeros((*SIDE, 3), np.uint8)
            red[..., 0] = mask(76)
            if number != 2:  # an image without haemorrhages has no file of them
                picture(truth / f"2. Haemorrhages/IDRiD_{number:02d}_HE.tif", red)
            red[..., 0] = mask(76, slice(9, 14))
            picture(truth / f"3. Hard Exudates/IDRiD_{number:02d}_EX.tif", red)
            picture(truth / f"1. Microaneurysms/IDRiD_{number:02d}_MA.tif", red)


def segpc(root: Path) -> None:
    for part, numbers in (("train", (106, 107, 108)), ("validation", (1704, 1705))):
        for number in numbers:
            cell = mask(20)
            cell[6:8, 7:9] = 40
            picture(root / f"TCIA_SegPC_dataset/{part}/x/{number}.bmp", photograph(number))
            picture(root / f"TCIA_SegPC_dataset/{part}/y/{number}_1.bmp", cell)
            picture(root / f"TCIA_SegPC_dataset/{part}/y/{number}_2.bmp", mask(40, slice(12, 14)))
    picture(root / "TCIA_SegPC_dataset/test/x/2000.bmp", photograph())


DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "LiTS": lits,
    "KiTS19": kits19,
    "MSD-HepaticVessel": decathlon("Task08_HepaticVessel", "hepaticvessel", 1, 2),
    "MSD-Pancreas": decathlon("Task07_Pancreas", "pancreas", 1, 2),
    "MSD-Colon": decathlon("Task10_Colon", "colon", 1),
    "MSD-Lung": decathlon("Task06_Lung", "lung", 1),
    "MSD-Spleen": decathlon("Task09_Spleen", "spleen", 1),
    "VerSe20": verse20,
    "Prostate": prostate,
    "BraTS21": brats21,
    "AutoPET22": autopet22,
    "ISIC18": isic18,
    "REFUGE2": refuge2,
    "GlaS": glas,
    "BUSI": busi,
    "QaTav2": qatav2,
    "Polyp": polyp,
    "BTCV": btcv,
    "COVID-19-20": covid1920,
    "VS": vs,
    "SIIM": siim,
    "IDRiD": idrid,
    "SegPC": segpc,
}
"""For each data set a function that makes its download in a folder."""
