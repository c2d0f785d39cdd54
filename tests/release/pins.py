"""`.ci/pins` as a module: it has no suffix, as a command has none."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent


def _loaded() -> ModuleType:
    loader = SourceFileLoader("pins", str(ROOT / ".ci/pins"))
    spec = spec_from_loader("pins", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


PINS = _loaded()
