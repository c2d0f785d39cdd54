"""How packages write the licences that they are under."""

# As in metadata that has no SPDX expression: in License, or at the end of a classifier.
SPELLINGS = {
    "Apache": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD",
    "BSD license": "BSD",
    "MIT License": "MIT",
}

# The licences of packages whose metadata names none: as their repositories have them.
SILENT = {"fhirpathpy": "MIT"}

# What may stand in an expression of a package that serves or that the demo needs.
SERVES = {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "LGPL-3.0-only", "MIT",
          "MIT-CMU", "MPL-2.0", "Zlib"}  # fmt: skip
