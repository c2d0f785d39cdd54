"""The archive as an upstream: queries, ownership of studies, and opening retrievals at the PACS."""
