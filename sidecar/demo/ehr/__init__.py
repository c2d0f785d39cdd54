"""The embedded EHR of the demo."""
