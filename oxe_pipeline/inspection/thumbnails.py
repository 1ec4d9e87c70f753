"""Images of a stream made small and put into the page itself as JPEG, within a budget of bytes.

A thumbnail is for a glance at framing, colour and order; the pixels of a batch are another matter, see
`python -m oxe_pipeline.samples --images`.
"""

import base64
import io
from dataclasses import dataclass, field

from PIL import Image

from oxe_pipeline.inspection.markup import Markup, tag
from oxe_pipeline.loader.decode import ImageError
from oxe_pipeline.loader.stored_image import stored_image
from oxe_pipeline.stream.reader import Stream


class BudgetSpent(Exception):
    """The images take more bytes than the page may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fineness:
    """How large and how fine thumbnails are."""

    edge_px: int
    """Of the longer side, at most; smaller images are left in their size."""
    quality: int


FINENESSES = tuple(
    Fineness(edge_px=edge_px, quality=quality)
    for edge_px, quality in ((208, 84), (160, 80), (128, 76), (96, 70), (64, 60))
)
"""From the finest on; a page takes the first with which it keeps its limit."""


@dataclass(kw_only=True)
class Thumbnails:
    """Makes thumbnails and keeps count of their bytes."""

    fineness: Fineness
    budget_bytes: int
    spent_bytes: int = field(default=0, init=False)

    def figure(self, stream: Stream, episode: int, step: int, camera: str, *, caption: str, alt: str) -> Markup:
        """A figure with the image, or a box that says why there is none. Raises BudgetSpent."""
        try:
            shown = self._picture(stored_image(stream, episode, step, camera), alt)
        except ImageError as error:
            shown = tag("div", str(error), class_="no-image", role="img", aria_label=f"{alt}: {error}")
        return tag("figure", shown, tag("figcaption", caption), class_="shot")

    def _picture(self, image: Image.Image, alt: str) -> Markup:
        image.thumbnail((self.fineness.edge_px,) * 2, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self.fineness.quality)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        self.spent_bytes += len(encoded)
        if self.spent_bytes > self.budget_bytes:
            raise BudgetSpent
        return tag(
            "img",
            src=f"data:image/jpeg;base64,{encoded}",
            width=image.width,
            height=image.height,
            alt=alt,
            decoding="async",
        )
