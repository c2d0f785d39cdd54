"""The upstream: DICOMweb paths, queries, ownership of studies, and opening retrievals at the PACS."""
