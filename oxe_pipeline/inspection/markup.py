"""HTML that is safe by the way it is built: whatever is not Markup is text, and text is escaped on its way in.

Labels, paths and reasons come out of other people's files and may hold anything. Elements are made by `tag` alone, so
that there is no place where escaping could be forgotten.
"""

import re
from collections.abc import Iterable, Sequence

_NOT_ALLOWED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Control characters and what is no character: HTML forbids them even escaped, and UTF-8 cannot hold surrogates."""
_VOID = frozenset(("br", "img", "link", "meta", "path", "rect", "line", "polyline"))
"""Elements without content; those of SVG are closed by a slash."""
_VOID_SVG = frozenset(("path", "rect", "line", "polyline"))
LINE_BREAK = " \N{RETURN SYMBOL} "
"""Shown for a line break inside a label."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | Iterable["Child"] | None


def escaped(text: object) -> Markup:
    """`text` as HTML text or attribute value; characters that HTML forbids become U+FFFD."""
    if isinstance(text, Markup):
        return text
    safe = _NOT_ALLOWED.sub("\ufffd", str(text))
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        safe = safe.replace(character, entity)
    return Markup(safe)


def joined(*children: Child) -> Markup:
    """Children one after another: Markup as it is, None as nothing, iterables flattened, all else escaped."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str | int):
            parts.append(escaped(child))
        else:
            parts += [joined(part) for part in child]
    return Markup("".join(parts))


def tag(element: str, /, *children: Child, **attributes: object) -> Markup:
    """The element of that name. Attributes: `class_` is class, `aria_label` aria-label; None leaves one out."""
    written = []
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {attribute}")
        elif value is not None and value is not False:
            written.append(f' {attribute}="{escaped(value)}"')
    head = f"<{element}{''.join(written)}"
    if element in _VOID:
        return Markup(head + ("/>" if element in _VOID_SVG else ">"))
    return Markup(f"{head}>{joined(*children)}</{element}>")


def foreign(text: str, *, most: int = 300) -> Markup:
    """Text out of a data set, cut to `most` letters, in its own direction of writing whatever stands around it."""
    shown = text if len(text) <= most else text[: most - 1].rstrip() + "…"
    return tag("bdi", shown)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[Child]], *, numeric: Sequence[int] = (), class_: str = ""
) -> Markup:
    """A table in a frame that scrolls sideways on narrow screens; `numeric` columns are set right. The first column
    heads its row."""

    def cell(kind: str, column: int, content: Child, scope: str | None = None) -> Markup:
        return tag(kind, content, class_="n" if column in numeric else None, scope=scope)

    body = [
        tag("tr", [cell("th" if i == 0 else "td", i, c, "row" if i == 0 else None) for i, c in enumerate(row)])
        for row in rows
    ]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [cell("th", i, title, "col") for i, title in enumerate(head)])),
        tag("tbody", body),
        class_=class_ or None,
    )
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def definitions(pairs: Iterable[tuple[str, Child]], *, class_: str) -> Markup:
    """A description list of name and value; pairs without a value are left out."""
    kept = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in kept], class_=class_)


def section(name: str, title: str, *children: Child, note: str = "") -> Markup:
    """A section of the page with its anchor, its heading, and one line that says how to read it."""
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *children, id=name)


def number(value: float, digits: int = 3) -> str:
    """A measured number for people: significant digits, a real minus sign; "not finite" for NaN and infinities."""
    if value != value or value in (float("inf"), float("-inf")):
        return "not finite"
    shown = f"{value:.{digits}g}"
    if "e" in shown and 1e-4 <= abs(value) < 1e7:
        shown = f"{value:,.0f}"
    return "0" if float(shown.replace(",", "")) == 0 else shown.replace("-", "\N{MINUS SIGN}")


def share(part: float, whole: float) -> str:
    """ "12 %"; "<1 %" for what is there but rounds to nothing."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "<1 %"
    return ">99 %" if 99 < percent < 100 else f"{percent:.0f} %"


def megabytes(size_bytes: float) -> str:
    """Bytes in the unit that fits: kB, MB, GB or TB, decimal."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.1f} {unit}"
    return f"{size_bytes / 1e3:.1f} kB"
