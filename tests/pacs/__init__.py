"""The PACS room: what may be asked of the archive, and what of its answers may leave."""
