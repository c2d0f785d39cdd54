"""Measurements against real peers, interleaved in one run; ratios, never a timed assertion in the
tests.
"""
