"""The command ``check``: are the configuration, the EHR and the PACS as ``serve`` needs them."""
