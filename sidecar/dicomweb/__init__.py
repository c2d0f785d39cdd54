"""DICOMweb's protocol, without input or output."""
