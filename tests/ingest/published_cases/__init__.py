"""Every published data set as a test case. Each module here has its own `CASES`; a new module is found by itself."""

import importlib
import pkgutil

from tests.ingest.published_case import Case

ALL_CASES: dict[str, Case] = {}
for _module in pkgutil.iter_modules(__path__):
    _cases = importlib.import_module(f"{__name__}.{_module.name}").CASES
    assert not set(_cases) & set(ALL_CASES), f"{_module.name} repeats {sorted(set(_cases) & set(ALL_CASES))}"
    ALL_CASES |= _cases
