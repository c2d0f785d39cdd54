"""Requirements of the specification."""

REQUIREMENTS = {
    *range(1, 4),
    *range(10, 18),
    *range(20, 26),
    *range(30, 34),
    *range(40, 46),
    *range(50, 55),
    60,
}
