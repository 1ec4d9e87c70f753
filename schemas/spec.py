"""Specs by file and by name: `load_spec("taco_play")`, `load_spec("taco_play_as_octo")`, `load_spec_file("mine.yaml")`.

A file is read whole and strictly: an unknown key, slot or name is refused in one line with the nearest right one. What
a spec says is in `schemas/dataset_spec.py`.
"""

import difflib
from collections.abc import Collection
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from schemas.bag import BagColumn, BagLayout
from schemas.dataset_spec import DatasetSpec
from schemas.operations import OPERATIONS, Model
from schemas.spec_parts import Camera, Channel, Language, Split, Success, nearest

DATASETS_FOLDER = Path(__file__).parent / "datasets"
VARIANT_MARK = "_as_"
"""Between the name of a data set and of a variant: "taco_play_as_octo"."""
LISTING = "python -m oxe_pipeline.datasets"
"""The command that lists the shipped specs."""
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where PyYAML was built with it: a hundred specs are read when builders/oxe is imported."""


class SpecError(ValueError):
    """A spec that does not hold: which file, which key, which value, and the remedy, in one line."""


def load_spec_file(path: str | Path, variant: str = "") -> DatasetSpec:
    """The spec in a YAML file, or one of its variants. Raises SpecError with file, key, value and nearest known key.

    `like: other` takes every top-level key that the file does not state from other.yaml beside it. A variant does the
    same with its own file's keys; its required key `why`, and then its `notes`, become the notes.
    """
    path = Path(path)
    content = _whole_content(path)
    variants = _variants(path, content)
    where = str(path)
    if variant:
        if variant not in variants:
            raise SpecError(f"{path}: no variant {variant!r}{nearest(variant, variants)}")
        where = f"{path}: variants.{variant}"
        content = _as_variant(content, variant, variants[variant])
    try:
        return DatasetSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{where}: {_first_fault(error)}") from None


def _whole_content(path: Path) -> dict:
    """The mapping in a file, with what it takes from the file that it is `like`."""
    content = _read_mapping(path)
    if "like" not in content:
        return content
    like = content.pop("like")
    other = path.parent / f"{like}.yaml"
    if not isinstance(like, str) or not other.is_file():
        known = [beside.stem for beside in path.parent.glob("*.yaml")]
        raise SpecError(f"{path}: like: there is no spec {like!r} beside it{nearest(str(like), known)}")
    base = _read_mapping(other)
    if "like" in base:
        raise SpecError(f"{path}: like: {other.name} is itself like another; name {base['like']!r} instead")
    return base | content


def _read_mapping(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as text ({error}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: must hold a mapping of keys, holds {type(content).__name__}")
    return content


def _variants(path: Path, content: dict) -> dict[str, dict]:
    """Takes the key `variants` out of `content`: name to what the variant states."""
    variants = content.pop("variants", {})
    if not isinstance(variants, dict):
        raise SpecError(f"{path}: variants: must hold a mapping of names, holds {type(variants).__name__}")
    for name, said in variants.items():
        if not isinstance(said, dict) or not isinstance(said.get("why"), str) or not said["why"].strip():
            raise SpecError(f"{path}: variants.{name}: must be a mapping with a sentence under `why`")
        if own := {"name", "variants", "like", "variant_of"} & set(said):
            raise SpecError(f"{path}: variants.{name}: {min(own)} cannot differ in a variant; leave it out")
    return variants


def _as_variant(content: dict, variant: str, said: dict) -> dict:
    overrides = {key: value for key, value in said.items() if key not in ("why", "notes")}
    name = content.get("name", "")
    named = {"name": f"{name}{VARIANT_MARK}{variant}", "variant_of": name}
    return content | overrides | named | {"notes": [said["why"], *said.get("notes", [])]}


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "spec"
    if fault["type"] == "extra_forbidden":
        known = _operation_keys() if {"ops", "episode_ops"} & set(fault["loc"]) else _spec_keys()
        return f"{where}: unknown key{nearest(str(fault['loc'][-1]), known)}"
    value = fault["input"]
    shown = f" (value: {value!r})" if not isinstance(value, dict | list) else ""
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}{shown}"


@cache
def _spec_keys() -> tuple[str, ...]:
    return (*_keys_of(DatasetSpec, Channel, Camera, Language, Success, Split, BagColumn, BagLayout), "like", "variants")


@cache
def _operation_keys() -> tuple[str, ...]:
    return _keys_of(*OPERATIONS)


def _keys_of(*models: type[Model]) -> tuple[str, ...]:
    """As a YAML file spells them."""
    return tuple(sorted({field.alias or key for model in models for key, field in model.model_fields.items()}))


def spec_names() -> list[str]:
    """Names of all data sets that ship with a spec, sorted; their variants are in `variant_names`."""
    return sorted(path.stem for path in DATASETS_FOLDER.glob("*.yaml"))


@cache
def variant_names(dataset: str = "*") -> list[str]:
    """Names under which `load_spec` gives the variants that ship, of one data set or of all, e.g. "taco_play_as_octo",
    sorted."""
    return sorted(
        f"{path.stem}{VARIANT_MARK}{variant}"
        for path in DATASETS_FOLDER.glob(f"{dataset}.yaml")
        for variant in _variants(path, _whole_content(path))
    )


@cache
def load_spec(name: str) -> DatasetSpec:
    """The shipped spec of a data set, or of a variant of it ("<data set>_as_<variant>").

    SpecError with the nearest names for an unknown one.
    """
    path, variant = DATASETS_FOLDER / f"{name}.yaml", ""
    if not path.is_file():
        base, mark, variant = name.rpartition(VARIANT_MARK)
        path = DATASETS_FOLDER / f"{base}.yaml"
        if not mark or not path.is_file():
            known = (*spec_names(), *variant_names())
            raise SpecError(f"no spec for data set {name!r} in {DATASETS_FOLDER}{nearest_spec(name, known)}")
    spec = load_spec_file(path, variant)
    if spec.name != name:
        raise SpecError(f"{path}: name is {spec.name!r}; must equal the file's name")
    return spec


def published_spec(*names: str) -> DatasetSpec:
    """The shipped spec of published RLDS that one of `names` means: its own name or a variant's, else a name that
    copies of it go by ("fmb" is fmb_dataset). Earlier names count first; SpecError for the first where none is known.
    """
    own, others = {*spec_names(), *variant_names()}, _other_names()
    meant = [name for name in names if name in own] or [others[name][0] for name in names if name in others]
    return load_spec(meant[0] if meant else names[0])


def nearest_spec(name: str, known: Collection[str]) -> str:
    """'; did you mean a, b?' for an unknown name of a spec or variant: what is published under it, else what has it in
    its name, else what is spelt nearly so; the command that lists all where there is none."""
    base, mark, variant = name.partition(VARIANT_MARK)
    published = [f"{own}{mark}{variant}" for own in _other_names().get(base, [])]
    near = [spec for spec in published if spec in known]
    near = near or [spec for spec in known if len(name) > 2 and name in spec]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near[:5])}?" if near else f"; {LISTING} lists all {len(known)}"


@cache
def _other_names() -> dict[str, list[str]]:
    """A name that copies of published RLDS go by, to the names of the specs."""
    others: dict[str, list[str]] = {}
    for spec in map(load_spec, spec_names()):
        for other in spec.names()[1:] if spec.source_kind == "rlds" else ():
            others.setdefault(other, []).append(spec.name)
    return others
