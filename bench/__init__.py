"""Measurements against real peers, interleaved in one run, printed as ratios."""
