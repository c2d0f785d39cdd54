"""Requirements of the specification: number -> level, in its own words.

``seed``: of a forerunner alone. ``-``: its text has no such word, or is a note.
"""

GUIDE = ("3d82157", "September 2026")
"""The commit and the date of the text whose words these are."""

LEVELS = {
    1: "SHALL",
    2: "SHALL",
    3: "-",
    10: "SHALL",
    11: "SHALL",
    12: "SHALL",
    13: "SHALL",
    14: "SHALL NOT",
    15: "SHALL NOT",
    16: "SHALL NOT",
    17: "MAY",
    20: "SHALL",
    21: "seed",
    22: "SHALL",
    23: "MAY",
    24: "SHALL",
    25: "-",
    30: "SHALL",
    31: "SHALL",
    32: "seed",
    33: "SHOULD",
    39: "SHALL",
    40: "SHALL",
    41: "SHOULD",
    42: "SHALL",
    43: "SHALL NOT",
    44: "MAY",
    45: "SHALL",
    50: "SHALL",
    51: "SHALL",
    52: "SHALL",
    53: "SHALL",
    54: "-",
    55: "-",
    60: "-",
}
