"""The cleaning rules: what each one changes in a label, in the one order in which they run.

A rule is a pure function from one label to the labels it becomes: itself, changed, none, or several. Its name is the
flag that it leaves when it did something, so no word ever goes without a trace. The policy: an instruction is one line
of words, its first letter in lower case, without a final stop. Other capitals, numbers and commas stay as they are: a
name, a count or a list of steps is meaning, and prompts that want lower case make it so themselves.
"""

import ast
import re
import unicodedata
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

Labels = tuple[str, ...]

_DATA = Path(__file__).with_name("placeholders.yaml")
MAX_LETTERS = 10_000
"""A longer label is no instruction (a log or a table in its place); it bounds the time of every other rule."""
_LINE_BREAKS = "\n\r\t\v\f\x85"
_CONFIDENCE = re.compile(r"confidence\s*:\s*[\w.%/]*", re.IGNORECASE)
_BDDL = re.compile(r"\(:language\s+(.*)\)", re.DOTALL)
_JOINED_COMMA = re.compile(r"\s*([,;])(?=[^\W\d_])|\s+([,;])")
_BYTES_REPR = re.compile(r"""b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)
"""One literal and nothing behind it: longer expressions can overflow Python's parser."""
_SCENE = re.compile(r"^(?:[A-Z]+_)*SCENE\d+_")
_SUFFIX = re.compile(r"(?:_demos?)?(?:\.(?:hdf5|h5|bddl|npz|npy|pkl|json|bag|mcap|mp4))?$")


class Rule(NamedTuple):
    """A named step of cleaning."""

    name: str
    """Also the flag it leaves."""
    apply: Callable[[str], Labels]


def drop_empty(text: str) -> Labels:
    """Nothing but white space is no label."""
    return (text,) if text.strip() else ()


def drop_too_long(text: str) -> Labels:
    """More than MAX_LETTERS are no label."""
    return (text,) if len(text) <= MAX_LETTERS else ()


def undo_bytes_repr(text: str) -> Labels:
    """ "b'open the drawer'", left by str() of bytes, to the text itself."""
    if _BYTES_REPR.fullmatch(text.strip()):
        try:
            with warnings.catch_warnings(action="ignore"):  # the text is data, its odd escapes concern no programmer
                return (ast.literal_eval(text.strip()).decode("utf-8"),)
        except (SyntaxError, ValueError):
            return (text,)
    return (text,)


def unwrap_bddl(text: str) -> Labels:
    """ "(:language open the drawer)", a line of a LIBERO task file, to the sentence in it."""
    found = _BDDL.fullmatch(text.strip())
    return (found[1],) if found else (text,)


def fix_mojibake(text: str) -> Labels:
    """UTF-8 that was read as another encoding ("cafÃ©") is read again, by ftfy. Plain ASCII is not looked at."""
    return (text,) if text.isascii() else (_ftfy().fix_encoding(text),)


def remove_invisible(text: str) -> Labels:
    """Zero-width, direction and byte-order characters go. Control characters, which may stand between words, become
    blanks; line breaks and tabs stay for the rules below."""
    if text.isprintable():
        return (text,)
    return ("".join(_visible(c) for c in text),)


def _visible(character: str) -> str:
    if character in _LINE_BREAKS:
        return character
    return {"Cc": " ", "Cf": "", "Cs": ""}.get(unicodedata.category(character), character)


def plain_typography(text: str) -> Labels:
    """Full-width forms and curly quotes become the plain ones, composed letters one code point (NFC).

    A full-width bracket brings its own blank; where it stands between plain letters, one takes its place.
    """
    if text.isascii():
        return (text,)
    fixes = _ftfy().fixes
    text = re.sub(r"(?<=[!-~])\uff08", " (", re.sub(r"\uff09(?=[0-9A-Za-z])", ") ", text))
    return (unicodedata.normalize("NFC", fixes.uncurl_quotes(fixes.fix_character_width(text))),)


def drop_confidence_lines(text: str) -> Labels:
    """Lines that are an annotator's "confidence: x" (Bridge lang.txt). A sentence that has the word stays."""
    lines = text.splitlines()
    kept = [line for line in lines if not _CONFIDENCE.fullmatch(line.strip())]
    return (text,) if len(kept) == len(lines) else ("\n".join(kept),)


def split_labels(text: str) -> Labels:
    """One label a line, one line an annotator. Never at commas: those join the steps of one task."""
    lines = [line for line in text.splitlines() if line.strip()]
    return tuple(lines) if len(lines) > 1 else (text,)


def collapse_whitespace(text: str) -> Labels:
    """Single blanks between words, none at the ends."""
    return (" ".join(text.split()),)


def space_after_comma(text: str) -> Labels:
    """ "pick up the cup,put it down" gets its blank, "cup , then" loses one. Numbers ("1,000") stay as they are."""
    return (_JOINED_COMMA.sub(lambda found: f"{found[1]} " if found[1] else found[2], text),)


def strip_quotes(text: str) -> Labels:
    """Quotes around the whole label, or one stray quote at an end. Quotes around a word and apostrophes stay."""
    for quote in "\"`'":
        if len(text) > 1 and text[0] == text[-1] == quote and quote not in text[1:-1]:
            return (text[1:-1].strip(),)
        if text.count(quote) == 1 and (text[0] == quote or (text[-1] == quote and quote != "'")):
            return (text.strip(quote).strip(),)
    return (text,)


def drop_task_id(text: str) -> Labels:
    """An id ("241021_close_trash_bin_1", "PickCube-v1", a number) is no instruction; patterns in placeholders.yaml."""
    return () if " " not in text and task_id_pattern().fullmatch(text) else (text,)


def words_of_file_name(text: str) -> Labels:
    """Names joined by underscores become words; of a file name, LIBERO's scene prefix, "_demo" and the ending go.

    "KITCHEN_SCENE3_turn_on_the_stove_demo" becomes "turn on the stove". Numbers stay: "pick_7up" is a product.
    """
    if "_" not in text:
        return (text,)
    if " " not in text:
        text = _SUFFIX.sub("", _SCENE.sub("", text.rsplit("/", 1)[-1]), count=1)
    return (" ".join(text.replace("_", " ").split()),)


def drop_final_stop(text: str) -> Labels:
    """Stops, commas and semicolons at the end go; "!" and "?" stay."""
    return (text.rstrip(" .,;\u2026\u3002\u3001"),)


def lower_first_letter(text: str) -> Labels:
    """ "Open the drawer" becomes "open the drawer", "PUT IT DOWN" "put it down"; "CD", "T-shaped" and "LEGO" stay.

    A name that begins a sentence loses its capital: it cannot be told from a common word.
    """
    if " " in text and text.isupper():
        return (text.lower(),)
    if text[:1].isupper() and (len(text) == 1 or text[1].islower() or text[1] == " "):
        return (text[0].lower() + text[1:],)
    return (text,)


def drop_placeholder(text: str) -> Labels:
    """A sentence of the published ways to say nothing ("do something"); the list is in placeholders.yaml."""
    return () if comparable(text) in placeholders() else (text,)


RULES = (
    Rule("empty", drop_empty),
    Rule("too_long", drop_too_long),
    Rule("bytes_repr", undo_bytes_repr),
    Rule("bddl", unwrap_bddl),
    Rule("mojibake", fix_mojibake),
    Rule("invisible", remove_invisible),
    Rule("typography", plain_typography),
    Rule("confidence", drop_confidence_lines),
    Rule("several_labels", split_labels),
    Rule("whitespace", collapse_whitespace),
    Rule("comma", space_after_comma),
    Rule("quotes", strip_quotes),
    Rule("task_id", drop_task_id),
    Rule("file_name", words_of_file_name),
    Rule("final_stop", drop_final_stop),
    Rule("casing", lower_first_letter),
    Rule("placeholder", drop_placeholder),
)
"""Labels are split before the rules that look at one label, and ids are found before underscores become blanks."""


def comparable(text: str) -> str:
    """The form in which two labels count as the same sentence: case-folded, single blanks, no final stop."""
    return " ".join(text.casefold().split()).rstrip(" .!")


@cache
def placeholders() -> frozenset[str]:
    """Sentences that say nothing, in comparable form."""
    return frozenset(comparable(text) for text in _data()["placeholders"])


@cache
def task_id_pattern() -> re.Pattern[str]:
    """Matches a whole label that is an id."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in _data()["task_ids"]), re.IGNORECASE)


@cache
def datasets_blanked_by_octo() -> frozenset[str]:
    """Data sets whose labels a published loader discards; the report says so, the spec (language.blank) decides."""
    return frozenset(_data()["blanked_by_octo"])


@cache
def _data() -> dict[str, list[str]]:
    return yaml.safe_load(_DATA.read_text(encoding="utf-8"))


@cache
def _ftfy():
    try:
        import ftfy
    except ImportError:
        raise ImportError("cleaning labels needs ftfy: pip install 'oxe-pipeline[build]'") from None
    return ftfy
