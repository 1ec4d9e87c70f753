"""Sources of image-text examples for tests: JSONL beside images, and WebDataset tars."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, *, height: int = 6, width: int = 9) -> np.ndarray:
    """uint8 [H, W, 3], another for each number."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = number % 256, np.arange(width) * 20
    return pixels


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_jsonl(folder: Path, lines: list[dict | str]) -> Path:
    """texts.jsonl; texts are written as they are, objects as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "texts.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def captions(folder: Path, count: int) -> Path:
    """texts.jsonl of `count` captions "picture 0" and so on, with one image each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(picture(number)))
    return write_jsonl(
        folder,
        [
            {"prompt": "<image>caption:", "images": [f"{number}.png"], "target": f"picture {number}"}
            for number in range(count)
        ],
    )


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
