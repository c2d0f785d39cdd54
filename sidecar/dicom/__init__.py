"""DICOM's format, without input or output."""
