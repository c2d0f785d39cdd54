"""The embedded default: a small EHR, a DICOMweb archive over a folder, and a page.

``serve`` does not import it.
"""
