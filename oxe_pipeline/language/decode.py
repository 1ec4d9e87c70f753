"""Raw labels as readers find them, to text: bytes, str, numpy scalars, arrays of UTF-8 codes, lists, dicts, nothing.

Only the form changes here, never the wording; that is the work of rules.py.
"""

import codecs
from collections.abc import Mapping

import numpy as np

Decoded = tuple[tuple[str, ...], tuple[str, ...]]

MAX_TEXTS = 100
"""Texts taken from one raw label; a longer list is no label (whole tables end up in a label's place)."""
MAX_DEPTH = 3
"""Lists within lists; deeper ones, or one that contains itself, hold no text."""


def decode_label(raw: object) -> Decoded:
    """The texts that one raw label holds, and flags for what was not plain text. Never raises.

    Lists and dicts are taken apart in their own order; None and a float NaN (an empty cell of a table) hold no text.
    An array or list of integers is UTF-8, one byte each, padded with zeros (language_table).
    Flags: "utf8_codes"; "utf16" (bytes that begin with its byte-order mark); "invalid_utf8" (read as Windows-1252 or
    Latin-1 instead, which keeps every byte and is mostly what it was); "undecodable" (a number, an object: no text);
    "too_many_labels" (texts beyond MAX_TEXTS are left out).
    """
    texts, flags = _decode(raw, 0)
    return (texts[:MAX_TEXTS], (*flags, "too_many_labels")) if len(texts) > MAX_TEXTS else (texts, flags)


def _decode(raw: object, depth: int) -> Decoded:
    if isinstance(raw, np.ndarray | np.generic):
        raw = raw.tolist()
    if raw is None or (isinstance(raw, float) and raw != raw):
        return (), ()
    if isinstance(raw, str):
        text = raw.encode("utf-8", "backslashreplace").decode()  # lone surrogates, which no file can hold
        return (text,), () if text == raw else ("invalid_utf8",)
    if isinstance(raw, bytes | bytearray):
        return _decode_bytes(bytes(raw))
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    if not isinstance(raw, list | tuple) or depth > MAX_DEPTH:
        return (), ("undecodable",)
    if raw and all(isinstance(item, int) and not isinstance(item, bool) for item in raw):
        if not all(0 <= code <= 255 for code in raw):
            return (), ("undecodable",)
        found, told = _decode_bytes(bytes(code for code in raw if code))
        return found, ("utf8_codes", *told)
    texts: list[str] = []
    flags: dict[str, None] = {}
    for item in raw:
        found, told = _decode(item, depth + 1)
        texts += found
        flags |= dict.fromkeys(told)
        if len(texts) > MAX_TEXTS:
            break
    return tuple(texts), tuple(flags)


def _decode_bytes(content: bytes) -> Decoded:
    encodings: list[tuple[str, tuple[str, ...]]] = [
        ("utf-8", ()),
        ("cp1252", ("invalid_utf8",)),
    ]  # five bytes mean nothing in the second
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings.insert(0, ("utf-16", ("utf16",)))
    for encoding, flags in encodings:
        try:
            return (content.decode(encoding),), flags
        except UnicodeDecodeError:
            continue
    return (content.decode("latin-1"),), ("invalid_utf8",)
