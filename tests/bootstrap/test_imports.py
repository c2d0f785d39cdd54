"""What a serving process has in memory."""

import subprocess
import sys


def test_a_worker_does_without_the_large_libraries_of_check_and_demo() -> None:
    """pydicom and dicomweb-client bring numpy and more along: 25 MB, and half of the start.

    pydantic and the models of the settings are 11 MB, and a fifth of a worker's start. PyJWT and
    cryptography, 10 MB, are for some settings only.
    """
    large = {"pydicom", "dicomweb_client", "numpy", "PIL", "requests", "pydantic", "yaml"}
    large |= {"jwt", "cryptography"}
    code = f"import sys, sidecar.server.worker; print(sorted({large} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
