"""Kinds of files that archives hold: which pass, which rule refuses the others, and why (SIA-42).

The table is the specification; docs/files.md says the same in prose. A kind passes where every
reader finds the same patient and no later byte can name another. A kind is refused where two
readers can differ.
"""

import struct

from tests.dicom.encodings import (
    CT,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    explicit,
    implicit,
    item,
)
from tests.dicom.file_kinds import (
    AFTER_META,
    BIG,
    CREATOR_29,
    DEEP,
    DEFLATED,
    EVIL,
    FRAGMENTS,
    GE,
    HIDDEN,
    ICON,
    IMPLICIT_HIDDEN,
    ISSUER,
    JPEG,
    LOOKS,
    NONE,
    NONE_IMPLICIT,
    NUMBERS,
    OTHERS,
    PATIENT_ID,
    PATIENT_NAME,
    PIXEL_DATA,
    PIXELS,
    PRIVATE_IMPLICIT,
    SERIES,
    SHORT_ICON,
    STUDY,
    File,
    Kind,
    Names,
    at_end,
    behind,
    big,
    changed,
    deflate,
    disguised,
    first,
    implicit_behind,
    meta,
    meta_out_of_order,
    patient,
    repeated,
    sequence,
    with_meta,
    without_group_length,
)

PASSES = ""
KINDS: dict[str, Kind] = {
    # How it is written.
    "explicit": Kind(File(), PASSES, "PS3.5 A.2"),
    "implicit": Kind(File(IMPLICIT, implicit), PASSES, "PS3.5 A.1"),
    "big endian": Kind(File(BIG, big), PASSES, "PS3.5 A.3, retired"),
    "deflated": Kind(File(DEFLATED, packed=deflate), PASSES, "PS3.5 A.5"),
    "a syntax that nobody knows": Kind(File("1.2.3.4.5"), PASSES, "explicit, as PS3.5 A.4 has all others"),
    "GE's private syntax": Kind(
        File(GE, implicit), "private_transfer_syntax", "implicit for those who know it, explicit for others"),
    "implicit that looks explicit": Kind(
        File(IMPLICIT, implicit, first=LOOKS), "implicit_looks_explicit", "some readers believe the VR",
        pydicom=""),
    "deflated and broken": Kind(
        File(DEFLATED, packed=lambda body: b"\xff" * 40 + deflate(body)), "deflated_data", "nobody can read it",
        pydicom="", dcmdump=""),
    "a file behind a deflated one": Kind(
        File(DEFLATED, packed=lambda body: deflate(body) + body), "data_behind_end", "some readers would go on there"),
    # File meta.
    "no preamble": Kind(File(meta=lambda one: meta(one, EXPLICIT)[132:]), PASSES, "the file meta is there"),
    "a TIFF's preamble": Kind(
        File(meta=lambda one: b"II*\0" + meta(one, EXPLICIT)[4:]), PASSES, "PS3.10 7.1: anything may stand there"),
    "no group length": Kind(File(meta=without_group_length), PASSES, "its group ends where another begins"),
    "a group length before the last elements": Kind(
        with_meta(EXPLICIT, behind=AFTER_META, length=-len(AFTER_META)), PASSES,
        "an element was added later; whether one stops there or reads on, all that follows is explicit"),
    "a group length before the last elements, implicit": Kind(
        with_meta(IMPLICIT, behind=AFTER_META, length=-len(AFTER_META), write=implicit), "meta_group_length",
        "who stops there reads explicit elements as implicit", dcmdump=""),
    "a group length before the transfer syntax": Kind(
        with_meta(EXPLICIT, length=-len(explicit(0x0002_0010, "UI", EXPLICIT))), "meta_group_length",
        "who stops there does not know the syntax"),
    "a group length too short by 6": Kind(
        with_meta(EXPLICIT, length=-6), "meta_group_length", "who trusts it begins within a value"),
    "a group length too long by 10": Kind(
        with_meta(EXPLICIT, length=10), "meta_group_length", "who trusts it begins within a value"),
    "a group length over several elements": Kind(
        with_meta(EXPLICIT, length=200), "meta_group_length", "who trusts it begins behind SpecificCharacterSet"),
    "group 2 again": Kind(repeated(EXPLICIT, EXPLICIT), PASSES, "it says the same, and is written as the rest"),
    "group 2 again, another syntax": Kind(
        repeated(EXPLICIT, IMPLICIT), "transfer_syntax_twice", "readers take the one or the other"),
    "group 2 again, before implicit elements": Kind(
        repeated(IMPLICIT, IMPLICIT, implicit), "meta_group_length", "some readers take it for implicit", dcmdump=""),
    "file meta out of order": Kind(
        File(meta=meta_out_of_order), "meta_order", "not seen in the wild, so not tried on readers"),
    "a transfer syntax with a space": Kind(
        with_meta(EXPLICIT + " "), PASSES, "all readers that we know take it for padding"),
    "a transfer syntax with a space, implicit": Kind(with_meta(IMPLICIT + " ", write=implicit), PASSES, "likewise"),
    "a transfer syntax with a space, big endian": Kind(with_meta(BIG + " ", write=big), PASSES, "likewise"),
    "a transfer syntax with two spaces": Kind(
        with_meta(EXPLICIT + "  "), "no_transfer_syntax", "one byte at most is padding (PS3.5 9.1)"),
    "a transfer syntax behind a space": Kind(
        with_meta(" " + EXPLICIT), "no_transfer_syntax", "pydicom takes it for another one"),
    "no transfer syntax": Kind(with_meta(), "no_transfer_syntax", "readers guess"),
    "no file meta": Kind(NONE, "no_file_meta", "readers guess; some always take it for implicit"),
    "no file meta, implicit": Kind(NONE_IMPLICIT, "no_file_meta", "no DICOM file (PS3.10 7.1): readers guess"),
    "an endless file meta": Kind(
        with_meta(EXPLICIT, behind=b"".join(explicit(0x0002_0100 + one, "LO", bytes(60)) for one in range(2_000))),
        "meta_length", "it is held until it is whole"),
    "a command set first": Kind(
        first(struct.pack("<HHII", 0, 0, 4, 0)), "command_set", "pydicom reads it, others do not",
        dcmdump=""),
    "group 0004 first": Kind(
        first(explicit(0x0004_1130, "CS", "X ")), "group_before_0008", "of a DICOMDIR, no image"),
    # PatientID and the UIDs.
    "PatientID of VR SH": Kind(changed(PATIENT_ID, patient(vr="SH")), PASSES, "the same length, the same characters"),
    "PatientID of VR ST": Kind(changed(PATIENT_ID, patient(vr="ST")), PASSES, "likewise"),
    "PatientID of VR LT": Kind(changed(PATIENT_ID, patient(vr="LT")), PASSES, "likewise"),
    "PatientID of VR UN": Kind(
        changed(PATIENT_ID, patient(vr="UN")), PASSES, "PS3.5 6.2.2: what it is, the dictionary says"),
    "IssuerOfPatientID of VR SH": Kind(
        changed(PATIENT_ID, patient() + explicit(ISSUER, "SH", "HOSPITAL")), PASSES, "as PatientID"),
    "PatientID of VR PN": Kind(
        changed(PATIENT_ID, patient(vr="PN")), "patient_id_vr", "a name has components and groups"),
    "PatientID of VR CS": Kind(
        changed(PATIENT_ID, patient(vr="CS")), "patient_id_vr", "other characters than text"),
    "PatientID of VR OB": Kind(
        changed(PATIENT_ID, patient(vr="OB")), "patient_id_vr", "no text", pydicom="b'p1'", dcmdump="70\\31"),
    "PatientID of VR UT": Kind(
        changed(PATIENT_ID, patient(vr="UT")), "patient_id_vr", "a length of four bytes"),
    "StudyInstanceUID of VR LO": Kind(
        changed(STUDY, lambda names: explicit(STUDY, "LO", names.study)), "study_instance_uid_vr",
        "not seen in the wild"),
    "PatientID of odd length": Kind(
        changed(PATIENT_ID, struct.pack("<HH2sH", 0x10, 0x20, b"LO", 3) + b"p1 "), PASSES, "the length is as it says"),
    "PatientID padded with NUL": Kind(changed(PATIENT_ID, patient(b"p1\0\0")), PASSES, "no part of the value"),
    "PatientID between spaces": Kind(changed(PATIENT_ID, patient(" p1 ")), PASSES, "PS3.5 6.2: no part of the value"),
    "PatientID of 2 KB": Kind(
        changed(PATIENT_ID, patient("p" * 2_048)), "patient_id_length", "PS3.5 6.2: 64 characters", pydicom="p" * 2_048,
        dcmdump="p" * 2_048),
    "no PatientID": Kind(changed(PATIENT_ID, b""), "no_patient_id", "nobody's", pydicom="", dcmdump=""),
    "an empty PatientID": Kind(
        changed(PATIENT_ID, patient("")), "no_patient_id", "nobody's", pydicom="", dcmdump=""),
    "no StudyInstanceUID": Kind(changed(STUDY, b""), "no_study_instance_uid", "of no study"),
    "characters of no character set": Kind(
        changed(PATIENT_ID, patient(b"p1\xc4\xc4")), "character_set", "each reader guesses another", pydicom="p1ÄÄ",
        dcmdump="p1ÄÄ"),
    "PatientID twice": Kind(changed(PATIENT_ID, patient() * 2), PASSES, "the same bytes: whichever is taken"),
    "PatientID again at the end": Kind(at_end(patient()), PASSES, "the same bytes"),
    "PatientID twice, another one": Kind(
        changed(PATIENT_ID, patient() + patient(EVIL)), "patient_id_twice", "pydicom takes the last, dcmtk the first",
        pydicom=EVIL),
    "PatientID again at the end, another one": Kind(
        at_end(patient(EVIL)), "patient_id_twice", "likewise", pydicom=EVIL),
    "PatientID twice, once with spaces": Kind(
        changed(PATIENT_ID, patient() + patient("p1  ")), "patient_id_twice", "other bytes; whether that matters, "
        "readers decide"),
    "StudyInstanceUID twice": Kind(
        changed(STUDY, lambda names: explicit(STUDY, "UI", names.study) * 2), PASSES, "the same bytes"),
    "StudyInstanceUID twice, another one": Kind(
        changed(0x0020_0013, explicit(STUDY, "UI", "9.9.9.9")), "study_instance_uid_twice", "as PatientID"),
    # The order of elements.
    "group 0008 out of order": Kind(
        changed(0x0008_0060, explicit(0x0008_0060, "CS", "CT") + explicit(0x0008_0050, "SH", "A1")), PASSES,
        "wanted elements have one value, wherever they stand"),
    "an element out of order before SeriesInstanceUID": Kind(
        changed(STUDY, lambda names: explicit(STUDY, "UI", names.study) + explicit(0x0018_0050, "DS", "1 ")), PASSES,
        "likewise"),
    "PatientID behind its group": Kind(
        File(changed={PATIENT_ID: b"", 0x0010_0040: explicit(0x0010_0040, "CS", "O ") + patient()}), PASSES,
        "it stands once"),
    "PatientID behind SeriesInstanceUID": Kind(
        File(changed={PATIENT_ID: b"", 0x0020_0013: patient()}), "no_patient_id or patient_id_out_of_order",
        "readers that stop behind the header find none"),
    "PatientName twice": Kind(
        changed(PATIENT_ID, patient() + explicit(PATIENT_NAME, "PN", "E^F ")), "patient_group_out_of_order",
        "readers take different names"),
    "SpecificCharacterSet behind PatientID": Kind(
        changed(PATIENT_ID, patient() + explicit(0x0008_0005, "CS", "ISO_IR 192")),
        "specific_character_set_out_of_order", "some readers decode as they go"),
    "SpecificCharacterSet behind SOPClassUID": Kind(
        changed(0x0008_0016, explicit(0x0008_0016, "UI", CT) + explicit(0x0008_0005, "CS", "ISO_IR 192")), PASSES,
        "it is there before what it is about"),
    "elements out of order behind the header": Kind(
        behind(explicit(0x0018_0050, "DS", "1 ")), PASSES, "nobody asks for them"),
    # Elements that not all readers understand.
    "VR ?? behind the header": Kind(
        behind(disguised(b"??")), "unknown_vr",
        "dcmtk takes two bytes behind it for the length, pydicom these and the VR", pydicom=EVIL),
    "VR of two spaces behind the header": Kind(
        behind(disguised(b"  ")), "unknown_vr", "likewise", pydicom=EVIL),
    "VR un behind the header": Kind(
        behind(disguised(b"un")), "unknown_vr", "likewise", pydicom=EVIL),
    "VR OX behind the header": Kind(
        behind(explicit(0x0029_1001, "OX")), "unknown_vr", "of two or of four bytes, as each reader thinks"),
    "an undefined length of OB": Kind(
        behind(explicit(0x0029_1010, "OB", length=UNDEFINED) + SEQUENCE_END), "undefined_length",
        "some end it at the next delimiter, some do not"),
    "fragments in implicit VR": Kind(
        File(IMPLICIT, implicit, changed={PIXEL_DATA: FRAGMENTS}), "fragments_implicit",
        "PS3.5 A.4: they are explicit"),
    "an item outside of a sequence": Kind(
        behind(item(b"")), "item_outside_sequence", "readers go on in different places"),
    "group lengths": Kind(first(explicit(0x0008_0000, "UL", bytes(4))), PASSES, "retired; nobody trusts them"),
    "JPEG": Kind(
        File(JPEG, changed={PIXEL_DATA: explicit(PIXEL_DATA, "OB", length=UNDEFINED) + item(b"") + item(PIXELS)
             + SEQUENCE_END}), PASSES, "PS3.5 A.4"),
    "JPEG without its last delimiter": Kind(
        File(JPEG, changed={PIXEL_DATA: explicit(PIXEL_DATA, "OB", length=UNDEFINED) + item(b"") + item(PIXELS)}),
        "cut_short", "pydicom looks for a delimiter within the fragments"),
    "JPEG, cut in a fragment with a delimiter": Kind(
        File(JPEG, changed={PIXEL_DATA: explicit(PIXEL_DATA, "OB", length=UNDEFINED) + item(b"")
             + item(SEQUENCE_END + patient(EVIL), 4_000)}), "cut_short", "likewise", pydicom=EVIL),
    "JPEG with a delimiter in a fragment": Kind(
        File(JPEG, changed={PIXEL_DATA: explicit(PIXEL_DATA, "OB", length=UNDEFINED) + item(b"")
             + item(SEQUENCE_END + patient(EVIL)) + SEQUENCE_END}), PASSES, "it has its length"),
    "cut in the pixel data": Kind(
        changed(PIXEL_DATA, explicit(PIXEL_DATA, "OW", PIXELS)[:-4]), PASSES, "nothing follows"),
    "cut before StudyInstanceUID": Kind(
        File(changed=dict.fromkeys([*NUMBERS, STUDY, SERIES, 0x0020_0013, 0x0028_0004, PIXEL_DATA], b"")
             | {0x0010_0040: explicit(0x0010_0040, "CS", "O ")[:-1]}), "cut_short", "of no study"),
    # Sequences.
    "others' PatientIDs in a sequence": Kind(
        first(sequence(0x0008_0006, OTHERS) + sequence(0x0008_0012, OTHERS, None)), PASSES,
        "what a sequence holds is not the image's"),
    "a sequence in a UN": Kind(
        first(explicit(0x0008_0006, "UN", length=UNDEFINED) + item(implicit(PATIENT_ID, "LO", EVIL)) + SEQUENCE_END),
        PASSES, "PS3.5 6.2.2: implicit"),
    "an icon item short by 24": Kind(
        behind(sequence(0x0088_0200, SHORT_ICON)), "element_overruns_item", "some trust the item, some its elements"),
    "an icon item short by 24, and its sequence": Kind(
        behind(sequence(0x0088_0200, SHORT_ICON, len(ICON) - 16)), "element_overruns_item", "likewise"),
    "an icon item short by 24 in a whole sequence": Kind(
        behind(sequence(0x0088_0200, SHORT_ICON, len(ICON) + 8)), PASSES,
        "behind its sequence all goes on alike, or not at all"),
    "an icon item short by 24 in a whole sequence, a delimiter in the rest": Kind(
        behind(sequence(0x0088_0200, item(ICON[:-24] + SEQUENCE_END + HIDDEN + bytes(4), len(ICON) - 24),
               len(ICON) + 8)), "element_overruns_item", "who trusts the item ends the sequence there"),
    "an icon item short by 24, and another item": Kind(
        behind(sequence(0x0088_0200, SHORT_ICON + item(b""), None)), "element_overruns_item",
        "who trusts the item looks for the next one within the icon"),
    "a delimiter first in a sequence of known length": Kind(
        first(sequence(0x0008_0006, SEQUENCE_END + HIDDEN, None)), "no_item_in_sequence",
        "dcmtk ends the sequence there, pydicom by its length"),
    "a delimiter first in a sequence of known length, behind the header": Kind(
        behind(sequence(0x0040_0275, SEQUENCE_END + HIDDEN, None)), "no_item_in_sequence", "likewise"),
    "a delimiter in a sequence of known length, behind the header": Kind(
        behind(sequence(0x0040_0275, item(b"") + SEQUENCE_END + HIDDEN, None)), "no_item_in_sequence", "likewise"),
    "delimiters in an item of known length, behind the header": Kind(
        behind(sequence(0x0040_0275, item(ITEM_END + SEQUENCE_END + HIDDEN), None)), "delimiter_in_item", "likewise"),
    "a delimiter in a nested sequence of known length, behind the header": Kind(
        behind(sequence(0x0040_0275, item(
            sequence(0x0040_0008, SEQUENCE_END + ITEM_END + SEQUENCE_END + HIDDEN, None), UNDEFINED) + ITEM_END)),
        "no_item_in_sequence", "likewise"),
    "an item longer than its sequence, behind the header": Kind(
        behind(sequence(0x0040_0275, item(b"", 24), None) + explicit(0x0041_1010, "OB", bytes(12) + HIDDEN)),
        "item_overruns_sequence", "dcmtk goes on behind the item, pydicom behind the sequence"),
    "an element longer than the sequence around it, behind the header": Kind(
        behind(sequence(0x0040_0275, item(explicit(0x0041_1010, "OB", bytes(4), 10**6), UNDEFINED), None) + patient(EVIL)),
        "element_overruns_item", "pydicom goes on behind the sequence", pydicom=EVIL),
    "an item longer than the sequence around it, behind the header": Kind(
        behind(sequence(0x0040_0275, item(explicit(0x0040_0008, "SQ", length=UNDEFINED) + item(
            explicit(0x0041_1010, "OB", bytes(4), 10**6), 2 * 10**6)), None) + patient(EVIL)),
        "item_overruns_sequence", "likewise", pydicom=EVIL),
    "an icon's fragment longer than the sequence around it": Kind(
        behind(sequence(0x0088_0200, item(
            explicit(PIXEL_DATA, "OB", length=UNDEFINED) + item(bytes(4), 10**6), UNDEFINED), None) + patient(EVIL)),
        "item_overruns_sequence", "likewise", pydicom=EVIL),
    "cut in a head that goes beyond its sequence": Kind(
        at_end(sequence(0x8001_1002, item(explicit(0x0041_1010, "UN")[:6], UNDEFINED), None) + patient("")[:8] + b"x"),
        "cut_short", "who trusts the sequence goes on within the head"),
    "an implicit sequence with an early delimiter, behind the header": Kind(
        implicit_behind(implicit(0x0040_0275, "SQ", SEQUENCE_END + IMPLICIT_HIDDEN)), "no_item_in_sequence",
        "as in explicit VR"),
    "a private implicit sequence": Kind(
        implicit_behind(PRIVATE_IMPLICIT + implicit(0x0029_1040, "SQ", item(implicit(0x0029_1041, "LO", "x ")))),
        PASSES, "whether it is known for a sequence or not"),
    "a private implicit sequence with an early delimiter": Kind(
        File(IMPLICIT, implicit, changed={0x0008_0060: implicit(0x0009_0010, "LO", "CARDIO-D.R. 1.0") + implicit(
            0x0009_1040, "SQ", SEQUENCE_END + implicit(PATIENT_ID, "LO", EVIL))}), "no_item_in_sequence",
        "dcmtk has a dictionary of private sequences", dcmdump=EVIL),
    "a private implicit value": Kind(
        implicit_behind(PRIVATE_IMPLICIT + implicit(0x0029_1041, "LO", "a value that has no item")), PASSES,
        "no item, so no reader finds a sequence"),
    "a sequence of known length in a UN": Kind(
        behind(explicit(0x0040_0275, "UN", item(implicit(0x0040_0007, "LO", "ab")))), PASSES, "PS3.5 6.2.2: implicit"),
    "a sequence of known length in a UN, an early delimiter": Kind(
        behind(explicit(0x0040_0275, "UN", SEQUENCE_END + HIDDEN)), "no_item_in_sequence",
        "dcmtk can be told to look into it"),
    "a sequence of known length in a UN, before the header": Kind(
        first(explicit(0x0008_0006, "UN", SEQUENCE_END + patient(EVIL))), "no_item_in_sequence", "likewise",
        dcmdump=EVIL),
    "a private sequence of known length in a UN, an early delimiter": Kind(
        behind(CREATOR_29 + explicit(0x0029_1040, "UN", SEQUENCE_END + HIDDEN)), "no_item_in_sequence", "likewise"),
    "sequences too deep": Kind(first(DEEP), "sequences_too_deep", "more than 32: readers give up in their own way"),
    "an item longer than its sequence": Kind(
        first(sequence(0x0008_0006, item(b"", 8)[:8], 8)), "item_overruns_sequence",
        "some trust the one, some the other", dcmdump=""),
    "no item in a sequence": Kind(
        first(sequence(0x0008_0006, explicit(0x0008_0060, "CS", "CT"))), "no_item_in_sequence",
        "readers give up or go on", pydicom="", dcmdump=""),
    "a delimiter in an item": Kind(
        first(sequence(0x0008_0006, item(SEQUENCE_END))), "delimiter_in_item", "some end the sequence there",
        dcmdump=""),
    # How much.
    "3 MiB of private data first": Kind(
        first(explicit(0x0008_0001, "OB", bytes(3 * 2**20))), PASSES, "it is held until the patient is known"),
    "over 4 MiB of private data first": Kind(
        first(explicit(0x0008_0001, "OB", bytes(5 * 2**20))), "too_much_before_patient",
        "what is held for each transfer is bounded"),
    "8 MiB of private data behind the header": Kind(
        behind(explicit(0x0029_1010, "OB", bytes(8 * 2**20))), PASSES, "it is not held"),
    "2,100,000 elements": Kind(
        behind(explicit(0x0029_1010, "LO") * 2_100_000), "too_many_elements", "others wait while one file is walked"),
    # The end.
    "zeros at the end": Kind(at_end(bytes(64)), PASSES, "no element begins so"),
    "DataSetTrailingPadding": Kind(at_end(explicit(0xFFFC_FFFC, "OB", bytes(8))), PASSES, "PS3.10 7.2"),
    "PatientID at the end, cut": Kind(
        at_end(patient("EVIL-1")[:-2]), "cut_short", "pydicom takes what is there", pydicom="EVIL"),
    "PatientID at the end, longer than the file": Kind(
        at_end(patient(EVIL).replace(b"\4", b"\x40")), "cut_short", "likewise", pydicom=EVIL),
    "text at the end": Kind(
        at_end(b"\0\0 written by hand"), "data_behind_end", "some readers would go on there"),
}  # fmt: skip
NAMES = {name: Names(number) for number, name in enumerate(KINDS, start=1)}
