"""A training configuration as JSON and back, so that a checkpoint needs no pickle and no source file to be read."""

from dataclasses import asdict, fields

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.vla.model import BACKBONES, HEADS, ModelConfig
from oxe_pipeline.vla.train_config import TrainConfig


def config_to_record(config: TrainConfig) -> dict:
    """Nested dictionary of numbers, texts and lists."""
    return asdict(config)


def config_from_record(record: dict) -> TrainConfig:
    """Inverse of `config_to_record`. ValueError for a part or a field that this version does not know."""
    model = dict(record["model"])
    model["backbone"] = _part(model["backbone"], BACKBONES, "backbone")
    model["head"] = _part(model["head"], HEADS, "head")
    augment = record["augment"] and _checked(AugmentOptions, record["augment"])
    return _checked(TrainConfig, {**record, "model": _checked(ModelConfig, model), "augment": augment})


def _part(record: dict, known: dict, what: str):
    kind = record.get("kind")
    if kind not in known:
        raise ValueError(f"{what} {kind!r} is unknown to this version; there are {', '.join(known)}")
    return _checked(known[kind][0], record)


def _checked(kind: type, values: dict):
    unknown = set(values) - {entry.name for entry in fields(kind)}
    if unknown:
        raise ValueError(
            f"{kind.__name__}: field {sorted(unknown)[0]!r} is unknown to this version; update the package"
        )
    return kind(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value):
    """Lists, which JSON made of tuples, as tuples again, nested ones too."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
