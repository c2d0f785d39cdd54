"""The command ``check``: whether configuration, EHR and PACS are as ``serve`` needs them."""
