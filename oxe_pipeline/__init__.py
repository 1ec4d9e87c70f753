"""Robot demonstrations of any lab, as a correct, fast, restartable stream of training batches.

`load_mixture` opens a weighted mixture of streams; `make_loader` turns it into batches. Importing this package loads
neither torch nor TensorFlow: each name below is imported when it is first used.
"""

from importlib import import_module

_HOME = {
    "DataError": "oxe_pipeline.episode",
    "Episode": "oxe_pipeline.episode",
    "open_stream": "oxe_pipeline.stream.reader",
    "load_mixture": "oxe_pipeline.mixture.mixture",
    "StreamDataset": "oxe_pipeline.loader.dataset",
    "make_loader": "oxe_pipeline.loader.loader",
    "make_eval_loader": "oxe_pipeline.loader.loader",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
