"""Raw labels as readers find them, to text: bytes, str, numpy scalars, arrays of UTF-8 codes, lists, dicts, nothing.

Only the form changes here, never the wording; that is the work of rules.py.
"""

from collections.abc import Mapping

import numpy as np


def decode_label(raw: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts that one raw label holds, and flags for what was not plain text. Never raises.

    Lists and dicts are taken apart in their own order; None and a float NaN (an empty cell of a table) hold no text.
    An array or list of integers is UTF-8, one byte each, padded with zeros (language_table).
    Flags: "utf8_codes"; "invalid_utf8" (read as Latin-1 instead, which keeps every byte and is mostly what it was);
    "undecodable" (a number, an object: no text).
    """
    if isinstance(raw, np.ndarray | np.generic):
        raw = raw.tolist()
    if raw is None or (isinstance(raw, float) and raw != raw):
        return (), ()
    if isinstance(raw, str):
        text = raw.encode("utf-8", "backslashreplace").decode()  # lone surrogates, which no file can hold
        return (text,), () if text == raw else ("invalid_utf8",)
    if isinstance(raw, bytes | bytearray):
        return _decode_utf8(bytes(raw))
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    if not isinstance(raw, list | tuple):
        return (), ("undecodable",)
    if raw and all(isinstance(item, int) and not isinstance(item, bool) for item in raw):
        if not all(0 <= code <= 255 for code in raw):
            return (), ("undecodable",)
        texts, flags = _decode_utf8(bytes(code for code in raw if code))
        return texts, ("utf8_codes", *flags)
    parts = [decode_label(item) for item in raw]
    flags = tuple(dict.fromkeys(flag for _, found in parts for flag in found))
    return tuple(text for texts, _ in parts for text in texts), flags


def _decode_utf8(content: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return (content.decode("utf-8"),), ()
    except UnicodeDecodeError:
        return (content.decode("latin-1"),), ("invalid_utf8",)
