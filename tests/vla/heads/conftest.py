"""Tiny language models on disk, each written once for all tests of heads."""

from collections.abc import Callable

import pytest

from oxe_pipeline.vla.backbones.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory) -> Callable[[str], str]:
    """Kind to the directory of that tiny model."""
    root, written = tmp_path_factory.mktemp("tiny"), {}

    def source(kind: str) -> str:
        if kind not in written:
            written[kind] = str(write_tiny(kind, root / kind, seed=0))
        return written[kind]

    return source
