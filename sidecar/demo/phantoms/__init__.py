"""Phantoms: invented studies that the demo computes at its start. No person was ever in a scanner.

The same arguments make the same pixels, and the same UIDs.
"""
