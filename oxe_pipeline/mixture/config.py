"""The file a mixture is written in (mix.yaml): which streams, at which weights, in which order of which seed.

Everything the order of samples depends on is in this file and in the streams it names, so it is what training takes and
what a checkpoint refers to. The published mixtures of Open X-Embodiment lie in `schemas/mixtures/` in the same form,
without paths.
"""

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

import schemas
from oxe_pipeline.overlays.overlay import is_path
from oxe_pipeline.stream.format import MANIFEST, write_whole
from oxe_pipeline.stream.remote import holds_stream, is_url
from schemas.operations import Model
from schemas.spec import VARIANT_MARK, variant_names
from schemas.spec_parts import nearest

MIXTURES_FOLDER = Path(schemas.__file__).parent / "mixtures"
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where PyYAML was built with it: a file of 3,000 data sets would else take seconds."""


class MixtureConfigError(ValueError):
    """A mixture file that does not hold, or names what is not there: where, what, and the remedy, in one line."""


class DatasetEntry(Model):
    """One data set of a mixture."""

    name: str = Field(min_length=1)
    """What the mixture calls it. The order of its windows depends on this name and the seed."""
    path: str = ""
    """Its stream: absolute, or relative to the mixture file; "" in named mixtures: the folder `name` below a root."""
    weight: float = 1.0
    overlay: str = ""
    """What of it is drawn: the name of an overlay beside its data, or the path of an overlay's file (it ends in
    .arrow), absolute or relative to the mixture file; "" for every step."""


class WeightChange(Model):
    """Other weights from sample number `start` on. Data sets that are not named have weight 0 from there."""

    start: int = Field(ge=1)
    weights: dict[str, float] = Field(min_length=1)


class MixtureConfig(Model):
    """The content of a mixture file."""

    format: Literal[1] = 1
    name: str = ""
    source: str = ""
    """Where a published mixture was read: repository@commit:file."""
    variant: str = ""
    """Variant of its members' specs on which a published model was trained ("octo", "openvla", "oft"). Below a root
    the stream `<name>_as_<variant>` is taken where it is there, else `<name>`: all of one kind or none."""
    notes: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0, lt=2**64)
    balance: bool = False
    """Multiplies each weight by the data set's train steps: the rule of Octo and OpenVLA with `balance_weights`."""
    temperature: float | None = Field(default=None, gt=0)
    """Multiplies each weight by (share of all train steps)^(1/temperature): 1 equals `balance`, larger is flatter."""
    pool_shards: int | None = Field(default=None, ge=1)
    """Shuffle within this many shards of each data set at a time, for streams behind a URL; None: uniformly."""
    split: str = "train"
    datasets: list[DatasetEntry] = Field(min_length=1)
    schedule: list[WeightChange] = Field(default_factory=list)

    @field_validator("datasets")
    @classmethod
    def _names_differ(cls, entries: list[DatasetEntry]) -> list[DatasetEntry]:
        for name, times in Counter(entry.name for entry in entries).items():
            if times > 1:
                raise ValueError(f"data set {name} is listed twice; keep one entry")
        return entries

    @model_validator(mode="after")
    def _changes_differ_and_name_known_data_sets(self) -> "MixtureConfig":
        known = dict.fromkeys(entry.name for entry in self.datasets)
        for start, times in Counter(change.start for change in self.schedule).items():
            if times > 1:
                raise ValueError(f"the schedule says the weights from {start} on twice; keep one of them")
        for change in self.schedule:
            for name in change.weights:
                if name not in known:
                    raise ValueError(
                        f"schedule at {change.start}: no data set {name!r} is listed{nearest(name, known)}"
                    )
        return self

    def weights_from(self) -> dict[int, dict[str, float]]:
        """{sample number: {data set: weight as written}}, 0 first."""
        first = {entry.name: entry.weight for entry in self.datasets}
        return {0: first, **{change.start: dict(change.weights) for change in self.schedule}}


def read_config(path: str | Path) -> MixtureConfig:
    """The mixture in a YAML file, paths made absolute. MixtureConfigError names the file, key and value at fault."""
    path = Path(path)
    try:
        content = yaml.load(path.read_text(), Loader=_YAML_LOADER)
    except OSError as error:
        raise MixtureConfigError(
            f"{path}: cannot be read ({error.strerror}); make one with oxe_pipeline.mix --out"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MixtureConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise MixtureConfigError(f"{path}: must hold a mapping of keys, holds {type(content).__name__}")
    config = validated(content, str(path))
    return _with_paths(config, partial(_absolute, path.resolve().parent))


def write_config(path: str | Path, config: MixtureConfig) -> None:
    """Writes a mixture file whole or not at all, with paths relative to it, so that the folder may be moved as one."""
    path = Path(path)
    folder = path.resolve().parent
    content = _with_paths(config, partial(_relative, folder)).model_dump(exclude_none=True)
    content["datasets"] = [
        {key: value for key, value in entry.items() if key != "overlay" or value} for entry in content["datasets"]
    ]
    kept = {key: value for key, value in content.items() if value not in ("", [])}
    write_whole(path, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120).encode())


def _with_paths(config: MixtureConfig, change: Callable[[str], str]) -> MixtureConfig:
    """`config` with every path on this machine changed; addresses (s3://, https://) and names stay."""

    def changed(path: str) -> str:
        return change(path) if path and "://" not in path else path

    entries = []
    for entry in config.datasets:
        overlay = changed(entry.overlay) if is_path(entry.overlay) else entry.overlay
        entries.append(entry.model_copy(update={"path": changed(entry.path), "overlay": overlay}))
    return config.model_copy(update={"datasets": entries})


def _absolute(folder: Path, path: str) -> str:
    return os.path.realpath(folder / path)


def _relative(folder: Path, path: str) -> str:
    return os.path.relpath(path, folder)


def validated(content: dict, where: str) -> MixtureConfig:
    """The config of a mapping; MixtureConfigError naming `where`, the key, its value and the nearest known key."""
    try:
        return MixtureConfig.model_validate(content)
    except ValidationError as error:
        raise MixtureConfigError(f"{where}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "mixture"
    if fault["type"] == "extra_forbidden":
        known = {*MixtureConfig.model_fields, *DatasetEntry.model_fields, *WeightChange.model_fields}
        return f"{where}: unknown key{nearest(str(fault['loc'][-1]), known)}"
    value = fault["input"]
    shown = f" (value: {value!r})" if not isinstance(value, dict | list | MixtureConfig) else ""
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}{shown}"


def mixture_names() -> list[str]:
    """Names of the mixtures that ship with the package, sorted."""
    return sorted(path.stem for path in MIXTURES_FOLDER.glob("*.yaml"))


def named_config(name: str) -> MixtureConfig:
    """A shipped mixture by name; MixtureConfigError with the nearest names for an unknown one."""
    if name not in mixture_names():
        of_that_name = [known for known in mixture_names() if known.endswith(f"_{name}")]
        hint = f"; did you mean {', '.join(of_that_name)}?" if of_that_name else nearest(name, mixture_names())
        raise MixtureConfigError(f"there is no mixture {name!r}{hint}")
    return read_config(MIXTURES_FOLDER / f"{name}.yaml")


def stream_names(root: str | Path) -> list[str]:
    """Names of the folders directly below `root` that hold a finished stream, sorted."""
    return sorted(manifest.parent.name for manifest in Path(root).glob(f"*/{MANIFEST}"))


def with_streams_below(
    config: MixtureConfig, root: str | Path, *, on_missing: Callable[[str], None] | None = None
) -> MixtureConfig:
    """`config` with each data set that has no path found as the folder of its name below `root`, a folder or a URL.

    One that is not there raises MixtureConfigError with the nearest names; with `on_missing` it is left out instead, in
    later weights too, and its name handed over. Of a mixture with a `variant`, streams made by that variant of a spec
    come first; some of them beside plain ones raise it too, since that is what neither a published nor a corrected
    mixture holds.
    """
    if not is_url(root):
        root = _checked_root(Path(root))
    entries, streams = [], {}
    for entry in config.datasets:
        path = entry.path
        if not path:
            path, streams[entry.name] = _find(config, entry.name, root)
        if path:
            entries.append(entry.model_copy(update={"path": path}))
        elif on_missing:
            on_missing(entry.name)
        else:
            known = [] if is_url(root) else stream_names(root)
            raise MixtureConfigError(f"{root}: there is no data set {entry.name!r}{nearest(entry.name, known)}")
    _require_one_kind(config, streams, root)
    if not entries:
        raise MixtureConfigError(f"{root}: holds none of the {len(config.datasets)} data sets of the mixture")
    kept = {entry.name for entry in entries}
    changes = [
        change.model_copy(update={"weights": {n: w for n, w in change.weights.items() if n in kept}})
        for change in config.schedule
    ]
    return config.model_copy(update={"datasets": entries, "schedule": changes})


def as_published(config: MixtureConfig, name: str) -> str:
    """Name of a data set's stream, and spec, as the mixture's variant makes it; `name` where no such variant ships."""
    varied = f"{name}{VARIANT_MARK}{config.variant}"
    return varied if config.variant and varied in variant_names() else name


def _find(config: MixtureConfig, name: str, root: str | Path) -> tuple[str, str]:
    """Path or URL and folder name of a data set's stream below `root`, the published variant first; two "" for none."""
    for stream in dict.fromkeys((as_published(config, name), name)):
        if path := _stream_below(root, stream):
            return path, stream
    return "", ""


def _require_one_kind(config: MixtureConfig, streams: dict[str, str], root: str | Path) -> None:
    """Raises MixtureConfigError where some of the streams found are the mixture's variant and others could be."""
    varying = {name: stream for name, stream in streams.items() if stream and as_published(config, name) != name}
    plain = [name for name, stream in varying.items() if stream == name]
    if plain and len(plain) < len(varying):
        published = next(stream for name, stream in varying.items() if stream != name)
        raise MixtureConfigError(
            f"{root}: {published} is as published, {plain[0]} is not; make {as_published(config, plain[0])} too, "
            f"or give a folder with streams of one kind"
        )


def _checked_root(root: Path) -> Path:
    if not root.is_dir():
        raise MixtureConfigError(f"{root}: no such folder; --root takes the folder that holds the streams")
    if (root / MANIFEST).is_file():
        raise MixtureConfigError(
            f"{root}: is itself a stream; --root takes the folder above it, {root.resolve().parent}"
        )
    return root


def _stream_below(root: str | Path, name: str) -> str:
    """Path or URL of the data set's stream; "" where there is none."""
    if isinstance(root, Path):
        return str((root / name).resolve()) if (root / name).is_dir() else ""
    url = f"{root.rstrip('/')}/{name}"
    return url if holds_stream(url) else ""
