"""PatientIDs that a query could read as wildcards."""

PATIENT_IDS = (
    "A^1 b+c", "A^1-b+c", "50%", "Ä/1#2", "a&b=c", "it's (1)", "P-1", "a,b", "a", "b", ",", "x,",
    "*", "**", "a*b",
    "axb", "?", "a?", "a?b", "a|b", "[1]", "~", "a, *?b", "\"", "<a>", "{a}", "`", "@", "$a", ";a",
    "a:b", "%2C",
    "山,田",
)  # fmt: skip
