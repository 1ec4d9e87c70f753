"""Episodes on their way into the formats of other loaders: the same JPEG bytes for all, in files that numpy reads.

Each peer lives in an environment of its own, most of which can hold neither this package nor pyarrow, so the episodes
of a stream are handed over as one .npz file each. Nothing here is timed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

CAMERAS = ("primary", "wrist")
CHUNK = 4
"""Actions per sample: the step's own and the three after it; past the end of an episode the last one is repeated."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """T steps. `images[camera]` are T encoded JPEGs, `state` float32 [T, 10], `action` float32 [T, 7]."""

    images: dict[str, list[bytes]]
    state: np.ndarray
    action: np.ndarray
    instruction: str

    def __len__(self) -> int:
        return len(self.action)

    def chunk(self, step: int) -> np.ndarray:
        """float32 [CHUNK, 7]: the actions from `step` on."""
        return self.action[np.minimum(np.arange(step, step + CHUNK), len(self) - 1)]

    def records(self) -> Iterator[dict]:
        """One training sample per step, for formats that know samples but not windows of an episode."""
        for step in range(len(self)):
            yield {
                **{camera: self.images[camera][step] for camera in CAMERAS},
                "state": self.state[step],
                "action": self.chunk(step),
                "instruction": self.instruction,
            }


def save_episode(episode: Episode, path: Path) -> None:
    """Writes one .npz file, uncompressed and without pickled objects."""
    columns: dict[str, np.ndarray] = {}
    for camera, images in episode.images.items():
        columns[f"data_{camera}"] = np.frombuffer(b"".join(images), np.uint8)
        columns[f"offsets_{camera}"] = np.cumsum([0, *map(len, images)])
    text = np.frombuffer(episode.instruction.encode(), np.uint8)
    np.savez(path, allow_pickle=False, state=episode.state, action=episode.action, instruction=text, **columns)


def read_episodes(folder: Path) -> Iterator[Episode]:
    """The episodes of a folder that `save_episode` filled, by file name."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            images = {}
            for camera in CAMERAS:
                data, offsets = file[f"data_{camera}"].tobytes(), file[f"offsets_{camera}"]
                images[camera] = [data[a:b] for a, b in pairwise(offsets.tolist())]
            yield Episode(
                images=images,
                state=file["state"],
                action=file["action"],
                instruction=file["instruction"].tobytes().decode(),
            )
