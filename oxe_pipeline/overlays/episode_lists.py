"""Files in which a user names episodes: one id a line, or an id and a weight."""

import json
from fractions import Fraction
from pathlib import Path

from oxe_pipeline.overlays.overlay import OverlayError


def read_episode_ids(path: str | Path) -> tuple[str, ...]:
    """Episode ids, one a line; empty lines and lines that start with # are left out. OverlayError for an unreadable or
    an empty file."""
    lines = (line.strip() for line in _text(path).splitlines())
    ids = tuple(line for line in lines if line and not line.startswith("#"))
    if not ids:
        raise OverlayError(f"{path}: names no episode; write one episode id a line")
    return ids


def read_episode_weights(path: str | Path) -> dict[str, Fraction]:
    """{episode id: weight}, exactly as written, from JSON ({"id": 2, ...}) or lines of id,weight, of which the first
    may be a heading.

    OverlayError for a file that does not parse, and for a weight that is negative or no number.
    """
    text = _text(path)
    if Path(path).suffix == ".json":
        pairs = _json_pairs(path, text)
    else:
        rows = [line.rsplit(",", 1) for line in text.splitlines() if line.strip()]
        if rows and rows[0][-1].strip() == "weight":
            rows = rows[1:]
        if bad := [row for row in rows if len(row) != 2]:
            raise OverlayError(f"{path}: line {bad[0][0]!r} has no weight; write id,weight")
        pairs = [(name.strip(), value.strip()) for name, value in rows]
    weights: dict[str, Fraction] = {}
    for name, value in pairs:
        if name in weights:
            raise OverlayError(f"{path}: episode {name} is listed twice; keep one line")
        weights[name] = _weight(path, name, value)
    if not weights:
        raise OverlayError(f"{path}: names no episode; write lines of id,weight")
    return weights


def _json_pairs(path: str | Path, text: str) -> list[tuple[str, str]]:
    try:
        content = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=list)
    except ValueError as error:
        raise OverlayError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
        raise OverlayError(f'{path}: must hold {{"episode id": weight, ...}}')
    return [(name, str(value)) for name, value in content]


def _weight(path: str | Path, name: str, value: str) -> Fraction:
    try:
        weight = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise OverlayError(f"{path}: weight {value!r} of episode {name} is not a number; write one such as 2") from None
    if weight < 0:
        raise OverlayError(f"{path}: weight {value} of episode {name} is negative; weights are 0 or more")
    return weight


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OverlayError(f"{path}: cannot be read as text ({error})") from None
