"""The embedded default: a small EHR, a DICOMweb archive over a folder, and a page.

Never imported by ``serve``.
"""
