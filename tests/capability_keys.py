"""A key of capability URLs, and the section of a configuration that names it."""

from pathlib import Path

from sidecar.authorization.capability_urls import KEY_BYTES, SealingKey

CAPABILITY_KEY = SealingKey("attacked", b"k" * KEY_BYTES)


def token_bound(folder: Path) -> dict[str, str]:
    """Write the key into a file that its owner alone may read; return ``capabilities``."""
    file = folder / "keys"
    file.touch(mode=0o600)
    file.write_text(f"{CAPABILITY_KEY.key_id} {CAPABILITY_KEY.secret.hex()}\n")
    return {"mode": "token_bound", "keys_file": str(file)}
