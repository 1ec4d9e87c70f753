"""Reads a page as strictly as a validator would where it matters here: nesting, anchors, and what it would load."""

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input"}


class PageReader(HTMLParser):
    """Raises AssertionError at the first element that is not closed where it should be."""

    def __init__(self, page: bytes):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open, f"<{tag}/> outside SVG"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """Everything a reader sees, in one line."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    def loaded(self) -> list[str]:
        """Addresses that a browser would fetch by itself when it shows the page."""
        fetching = ("src", "srcset", "data", "poster", "background", "xlink:href")
        found = [a[key] for _, a in self.tags for key in fetching if a.get(key)]
        found += [a["href"] for name, a in self.tags if name in ("link", "use", "image", "base") and a.get("href")]
        return [address for address in found if address]
