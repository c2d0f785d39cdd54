"""Write ``sidecar/dicom/dictionary.tsv`` from pydicom's dictionary."""

from pathlib import Path

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

from sidecar.dicom import dictionary

FILE = Path(dictionary.__file__).with_name("dictionary.tsv")


def table() -> str:
    """The file's text: repeating groups behind the others, each in the order of their tags."""
    entries = {f"{tag:08x}": found for tag, found in sorted(DicomDictionary.items())}
    entries |= dict(sorted(RepeatersDictionary.items()))
    return "".join(
        f"{tag}\t{vr}\t{keyword}\t{retired.lower()}\n"
        for tag, (vr, _, _, retired, keyword) in entries.items()
    )


if __name__ == "__main__":
    FILE.write_text(table(), "utf-8")
