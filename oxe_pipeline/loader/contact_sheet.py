"""A contact sheet: the images of some samples as one picture, a caption to each, so that a batch can be looked at.

Images are shrunk or enlarged to one height by Pillow. `contact_sheet` decodes those of any samples from the streams, as
the loader does; `batch_sheet` shows those of a batch as they are, augmented or not.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from oxe_pipeline.loader.audit import DrawnSample
from oxe_pipeline.loader.decode import ImageError
from oxe_pipeline.loader.images import cameras_of
from oxe_pipeline.loader.stored_image import stored_image
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.stream.format import write_whole
from schemas.slots import CAMERAS

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_VIEW_PX, _GAP_PX, _MARGIN_PX, _PADDING_PX = 176, 6, 20, 10
_SHEET_PX = 1800
"""Cells are put side by side up to about this width."""
_MOST_LINES = 3
"""Of an instruction or the title."""
_PAGE, _CELL, _EMPTY, _LINE = (236, 238, 241), (255, 255, 255), (244, 245, 247), (176, 182, 190)
_TEXT, _FAINT = (24, 28, 34), (96, 104, 114)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    mixture: Mixture,
    samples: Samples,
    rows: Sequence[DrawnSample],
    *,
    title: str = "",
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """RGB picture with a cell per sample: every camera of the mixture at the sample's step, and what the sample is.

    `rows` are drawn_samples of the same `samples`. `size` (height, width) stretches images as the loader's `image_size`
    does; None leaves them in the shape in which they are stored. A camera that the episode lacks is an empty box with
    its name, an unreadable image a box that says so.
    """
    cameras = cameras_of([dataset.stream for dataset in mixture.datasets])
    views = [[_view(mixture, samples, i, camera, size) for camera in cameras] for i in range(len(rows))]
    return _sheet(rows, views, title)


def batch_sheet(batch: dict, rows: Sequence[DrawnSample], *, title: str = "") -> Image.Image:
    """The same of a loader's batch on the CPU: each camera's newest image, and the goal where there is one.

    `rows` are drawn_samples of its first samples, as many as are to be shown.
    """
    cameras = [camera for camera in CAMERAS if f"image_{camera}" in batch]
    views = [[_batch_view(batch, i, camera) for camera in cameras] for i in range(len(rows))]
    if "image_goal" in batch:
        for i, of_sample in enumerate(views):
            of_sample.append(_tensor_view("goal", batch["image_goal"][i], bool(batch["image_goal_mask"][i])))
    return _sheet(rows, views, title)


def _sheet(rows: Sequence[DrawnSample], views: Sequence[Sequence["_View"]], title: str) -> Image.Image:
    fonts = _Fonts()
    width_px = max(2, len(views[0])) * (_VIEW_PX + _GAP_PX) - _GAP_PX
    instructions = [_instruction_lines(row, fonts.plain, width_px) for row in rows]
    lines = max(map(len, instructions))
    cells = []
    for row, instruction, of_sample in zip(rows, instructions, views, strict=True):
        # Every caption takes the same height, so that the images of neighbouring cells stand in line.
        caption = _caption(row, instruction + [""] * (lines - len(instruction)), fonts, width_px)
        cells.append(_cell(caption, of_sample, fonts, width_px))
    return _arranged(cells, title, fonts)


def write_picture(path: str | Path, picture: Image.Image) -> None:
    """Writes PNG or JPEG, by the name's ending, whole or not at all; ValueError for another ending."""
    path = Path(path)
    buffer = io.BytesIO()
    picture.save(buffer, picture_format(path), quality=90)
    write_whole(path, buffer.getvalue())


def picture_format(path: Path) -> str:
    """Pillow's name of the format that a file name's ending asks for; ValueError naming the endings there are."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: a picture's name must end in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


class _Fonts:
    def __init__(self):
        self.title = _font("DejaVuSans-Bold.ttf", 17)
        self.bold = _font("DejaVuSans-Bold.ttf", 13)
        self.plain = _font("DejaVuSans.ttf", 13)
        self.small = _font("DejaVuSans.ttf", 11)


def _font(name: str, size_px: int) -> _Font:
    """DejaVu where the system has it, since it knows many alphabets; Pillow's own font otherwise."""
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return ImageFont.load_default(size_px)


class _View(NamedTuple):
    """One camera of one sample."""

    camera: str
    image: Image.Image | None
    note: str
    """The image's size in pixels, or why there is none."""


def _view(mixture: Mixture, samples: Samples, i: int, camera: str, size: tuple[int, int] | None) -> _View:
    stream = mixture.datasets[int(samples.dataset[i])].stream
    episode, step = int(samples.episode[i]), int(samples.step[i])
    try:
        image = stored_image(stream, episode, step, camera)
    except ImageError as error:
        return _View(camera, None, str(error))
    if size:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return _View(camera, image, f"{image.width}x{image.height}")


def _batch_view(batch: dict, i: int, camera: str) -> _View:
    return _tensor_view(camera, batch[f"image_{camera}"][i, -1], bool(batch[f"image_{camera}_mask"][i, -1]))


def _tensor_view(camera: str, pixels_HWC: Any, shown: bool) -> _View:
    if not shown:
        return _View(camera, None, "masked")
    image = Image.fromarray(pixels_HWC.numpy())
    return _View(camera, image, f"{image.width}x{image.height}")


def _instruction_lines(row: DrawnSample, font: _Font, width_px: int) -> list[str]:
    return _wrapped(f"“{row.instruction}”" if row.instruction else "no instruction", font, width_px)


def _caption(
    row: DrawnSample, instruction: list[str], fonts: _Fonts, width_px: int
) -> list[tuple[str, _Font, tuple[int, int, int]]]:
    place = f"episode {row.episode_id}  step {row.step} of {row.num_steps}  epoch {row.epoch}"
    return [
        (_shortened(f"{row.g:,}  {row.dataset}", fonts.bold, width_px), fonts.bold, _TEXT),
        (_shortened(place, fonts.small, width_px), fonts.small, _FAINT),
        *((line, fonts.plain, _TEXT if row.instruction else _FAINT) for line in instruction),
    ]


def _cell(
    caption: list[tuple[str, _Font, tuple[int, int, int]]], views: Sequence[_View], fonts: _Fonts, width_px: int
) -> Image.Image:
    views_top = _PADDING_PX + sum(_line_height(font) for _, font, _ in caption) + _GAP_PX
    height_px = views_top + _line_height(fonts.small) + _VIEW_PX + _PADDING_PX
    cell = Image.new("RGB", (width_px + 2 * _PADDING_PX, height_px), _CELL)
    draw = ImageDraw.Draw(cell)
    y = _PADDING_PX
    for text, font, colour in caption:
        draw.text((_PADDING_PX, y), text, colour, font)
        y += _line_height(font)
    for column, view in enumerate(views):
        _draw_view(cell, (_PADDING_PX + column * (_VIEW_PX + _GAP_PX), views_top), view, fonts.small)
    return cell


def _draw_view(cell: Image.Image, corner: tuple[int, int], view: _View, font: _Font) -> None:
    """The camera's name, and below it a square that holds the image or says why there is none."""
    draw, (x, y) = ImageDraw.Draw(cell), corner
    draw.text((x, y), f"{view.camera}  {view.note}" if view.image else view.camera, _FAINT, font)
    y += _line_height(font)
    box = (x, y, x + _VIEW_PX - 1, y + _VIEW_PX - 1)
    if view.image is None:
        draw.rectangle(box, _EMPTY, _LINE)
        draw.text((x + _VIEW_PX // 2, y + _VIEW_PX // 2), view.note, _FAINT, font, anchor="mm")
        return
    draw.rectangle(box, _EMPTY)
    scale = _VIEW_PX / max(view.image.size)
    width_px, height_px = (max(1, round(px * scale)) for px in view.image.size)
    shown = view.image.resize((width_px, height_px), Image.Resampling.BICUBIC)
    cell.paste(shown, (x + (_VIEW_PX - width_px) // 2, y + (_VIEW_PX - height_px) // 2))


def _arranged(cells: list[Image.Image], title: str, fonts: _Fonts) -> Image.Image:
    """The cells in rows from left to right, under the title."""
    width_px, height_px = (px + _GAP_PX for px in cells[0].size)
    columns = min(len(cells), max(1, _SHEET_PX // width_px))
    rows = -(-len(cells) // columns)
    sheet_px = 2 * _MARGIN_PX + columns * width_px - _GAP_PX
    titles = _wrapped(title, fonts.title, sheet_px - 2 * _MARGIN_PX)
    top = _MARGIN_PX + len(titles) * _line_height(fonts.title) + (_GAP_PX if titles else 0)
    sheet = Image.new("RGB", (sheet_px, top + rows * height_px - _GAP_PX + _MARGIN_PX), _PAGE)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(titles):
        draw.text((_MARGIN_PX, _MARGIN_PX + number * _line_height(fonts.title)), line, _TEXT, fonts.title)
    for number, cell in enumerate(cells):
        y, x = divmod(number, columns)
        sheet.paste(cell, (_MARGIN_PX + x * width_px, top + y * height_px))
    return sheet


def _line_height(font: _Font) -> int:
    return int(font.getbbox("Äg")[3]) + 4


def _wrapped(text: str, font: _Font, width_px: int) -> list[str]:
    """Whole words per line; what is too much for the last line is cut with an ellipsis."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < _MOST_LINES - 1:
        fitting = next((n for n in range(len(words), 0, -1) if font.getlength(" ".join(words[:n])) <= width_px), 1)
        lines.append(_shortened(" ".join(words[:fitting]), font, width_px))
        words = words[fitting:]
    return [*lines, _shortened(" ".join(words), font, width_px)] if words else lines


def _shortened(text: str, font: _Font, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…"
