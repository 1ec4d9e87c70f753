"""`python -m oxe_pipeline.datasets [WORD ...]`: the data sets and published mixtures that this package knows by name.

python -m oxe_pipeline.datasets franka          the specs with that word in their name, title, lab or robot
python -m oxe_pipeline.datasets --mixtures      the published mixtures
python -m oxe_pipeline.datasets taco_play --json    everything that the specs say about themselves
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oxe_pipeline.mixture.config import as_published, mixture_names, named_config
from oxe_pipeline.terminal import console, table
from schemas.dataset_spec import DatasetSpec
from schemas.spec import VARIANT_MARK, load_spec, nearest_spec, spec_names, variant_names


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 0, or 2 after one line on stderr when nothing has the words asked for."""
    options = _parser().parse_args(argv)
    if options.mixtures and options.words:
        print(f"error: --mixtures lists all of them; leave {' '.join(options.words)} out", file=sys.stderr)
        return 2
    rows = mixture_rows() if options.mixtures else dataset_rows(options.words)
    if not rows:
        hint = nearest_spec(options.words[-1], spec_names())
        print(f"error: no data set has {' and '.join(options.words)} in it{hint}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _print(rows, "mixtures" if options.mixtures else "data sets")
    return 0


def dataset_rows(words: Iterable[str] = ()) -> list[dict[str, Any]]:
    """One mapping a shipped spec, by name: what it says about itself, JSON values alone. With `words`, those specs that
    have each of them, in any case, in their names, title, lab or robot."""
    wanted = [word.casefold() for word in words]
    rows = []
    for spec in map(load_spec, spec_names()):
        said = " ".join([*spec.names(), spec.title, spec.lab, spec.robot]).casefold()
        if all(word in said for word in wanted):
            rows.append(_dataset_row(spec))
    return rows


def mixture_rows() -> list[dict[str, Any]]:
    """One mapping a shipped mixture, by name; `streams` are the specs on which a published model was trained."""
    configs = map(named_config, mixture_names())
    return [
        {
            "mixture": config.name,
            "data sets": len(config.datasets),
            "weights": {entry.name: entry.weight for entry in config.datasets},
            "variant": config.variant,
            "streams": [as_published(config, entry.name) for entry in config.datasets],
            "source": config.source,
            "notes": list(config.notes),
        }
        for config in configs
    ]


def _dataset_row(spec: DatasetSpec) -> dict[str, Any]:
    start = f"{spec.name}{VARIANT_MARK}"
    variants = [name for name in variant_names() if name.startswith(start)]
    return {
        "data set": spec.name,
        "published as": spec.published_name or spec.name,
        "also called": list(spec.other_names),
        "versions": list(spec.versions),
        "source": spec.source_kind,
        "title": spec.title,
        "lab": spec.lab,
        "robot": spec.robot,
        "Hz": spec.control_hz,
        "episodes": sum(spec.expected_episodes.values()) or None,
        "cameras": list(spec.cameras),
        "variants": {name.removeprefix(start): load_spec(name).notes[0] for name in variants},
        "notes": list(spec.notes),
        "known faults": list(spec.known_faults),
        "licence": spec.licence,
        "homepage": spec.homepage,
    }


def _print(rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Texts as they are, lists by their members, what is told at length by its number alone."""
    texts = [
        key for key in ("data set", "mixture", "robot", "cameras", "variants", "variant", "source") if key in rows[0]
    ]
    numbers = [key for key in ("Hz", "episodes", "data sets", "notes", "known faults") if key in rows[0]]
    shown = table(f"{len(rows)} {what}", texts=texts, numbers=numbers)
    for row in rows:
        cells = [value if isinstance(value, str) else ", ".join(value) for value in (row[key] for key in texts)]
        shown.add_row(*cells, *(_number(row[key]) for key in numbers))
    console().print(shown)


def _number(value: float | list[str] | None) -> str:
    if isinstance(value, list):
        return str(len(value))
    return "" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.datasets",
        description="Lists the data sets that have a spec, with their variants, or the published mixtures.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only specs with each WORD in name, title, lab or robot"
    )
    parser.add_argument("--mixtures", action="store_true", help="the published mixtures instead")
    parser.add_argument("--json", action="store_true", help="print JSON for machines, notes and reasons included")
    return parser


if __name__ == "__main__":
    sys.exit(main())
