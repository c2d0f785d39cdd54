"""What a real Orthanc answers to each Accept header."""

STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'
OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# resource, Accept -> what Orthanc is asked for, Content-Type that comes back (its beginning).
JPEG = 'multipart/related; type="image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"'
TABLE: dict[str, tuple[str, str, str, str]] = {
    "a frame, anything": ("/frames/1", "*/*", STORED, JPEG),
    "a frame, dicomweb-client's default": ("/frames/1", 'multipart/related; type="*/*"', STORED,
                                           JPEG),
    "a frame as OHIF asks": (
        "/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*", STORED,
        JPEG),
    "a frame, a list that Orthanc reads as one range": (
        "/frames/1", f'{STORED}, multipart/related; type="image/jpeg", */*;q=0.1', STORED, JPEG),
    "a frame, an odd range among good ones": ("/frames/1", f"a/b;q=high, {STORED};q=0.9", STORED,
                                              JPEG),
    "a frame, decompressed": ("/frames/1", OCTETS, OCTETS,
                              'multipart/related; type="application/octet-stream; '),
    "a frame alone, as stored": (
        "/frames/1", "application/octet-stream; transfer-syntax=*", STORED,
        "application/octet-stream"),
    "the instance, a list": ("", f'{OBJECTS}, multipart/related; type="application/dicom"', OBJECTS,
                             'multipart/related; type="application/dicom"'),
    "the instance alone": ("", "application/dicom; transfer-syntax=*", OBJECTS,
                           "application/dicom"),
    "drawn by a browser": (
        "/rendered", "image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "image/jpeg",
        "image/jpeg"),
    "drawn, a list": ("/rendered", "image/gif, image/png;q=0.5", "image/png", "image/png"),
    "a value alone": ("/bulkdata/00100020", "application/octet-stream", OCTETS,
                      "application/octet-stream"),
    "a value, anything": (
        "/bulkdata/00100020", "*/*", STORED, 'multipart/related; type="application/octet-stream"'),
}  # fmt: skip
