"""Writes one shard of a stream: two Arrow files, each a single record batch, under a temporary name and renamed.

A shard is held in memory until it is closed (256 MB by default, and as much again while Arrow lays it out).
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from oxe_pipeline.episode import Episode
from oxe_pipeline.stream.format import (
    SHARDS_FOLDER,
    UNCOMPRESSED,
    VECTORS,
    camera_bits,
    fixed_size_list,
    hash_file,
    unfinished_name,
)
from oxe_pipeline.stream.shard_table import CameraBytes, ShardEntry
from schemas.slots import CAMERAS


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnLayout:
    """What the columns of every shard of one stream hold. A shard that does not fit is refused, not padded."""

    action_slots: tuple[int, ...]
    state_slots: tuple[int, ...]
    action_raw_width: int
    state_raw_width: int

    @classmethod
    def of(cls, episode: Episode) -> "ColumnLayout":
        return cls(
            action_slots=tuple(np.flatnonzero(episode.action_mask).tolist()),
            state_slots=tuple(np.flatnonzero(episode.state_mask).tolist()),
            action_raw_width=episode.action_raw.shape[1],
            state_raw_width=episode.state_raw.shape[1],
        )


@dataclass(kw_only=True)
class ShardWriter:
    """Collects episodes and writes them as shard `name` of the stream in `folder`.

    `close` returns the shard's entry; `episode_rows` then holds one dict per episode for episodes.parquet, lacking only
    `shard` (its position in the manifest) and with texts in `instructions` instead of ids.
    """

    folder: Path
    name: str
    layout: ColumnLayout
    image_bytes: int = 0
    steps: int = 0
    episode_rows: list[dict] = field(default_factory=list)
    _vectors: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in (*VECTORS, "reward")})
    _images: dict[str, list[bytes]] = field(default_factory=lambda: {camera: [] for camera in CAMERAS})

    def add(self, episode: Episode) -> None:
        """Appends one episode. Raises DataError when its masks or widths differ from the stream's layout."""
        episode.check_shapes()
        if (found := ColumnLayout.of(episode)) != self.layout:
            raise episode.fault("action_mask", f"slots {found} differ from the stream's {self.layout}")
        steps = len(episode)
        self._vectors["action"].append(episode.action[:, self.layout.action_slots])
        self._vectors["state"].append(episode.state[:, self.layout.state_slots])
        self._vectors["action_raw"].append(episode.action_raw)
        self._vectors["state_raw"].append(episode.state_raw)
        self._vectors["reward"].append(_reward(episode))
        for camera, column in self._images.items():
            images = episode.images.get(camera) or [b""] * steps
            column.extend(images)
            self.image_bytes += sum(map(len, images))
        self.episode_rows.append(
            {
                "episode_id": episode.episode_id,
                "first_row": self.steps,
                "length": steps,
                "split": episode.split,
                "cameras": camera_bits(episode.images),
                "instructions": [episode.instruction, *episode.alternatives] if episode.instruction else [],
                "success": episode.success,
                "control_hz": episode.control_hz,
                "label_raw": episode.label_raw,
                "label_flags": list(episode.label_flags),
                "quality_flags": list(episode.quality_flags),
                "source_path": episode.source_path,
            }
        )
        self.steps += steps

    def close(self) -> ShardEntry:
        """Writes both files and returns their sizes, hashes and the place of each camera's bytes."""
        if not self.steps:
            raise ValueError(f"shard {self.name} has no episode; do not open one that is not needed")
        columns = {
            name: fixed_size_list(np.concatenate(parts)) for name, parts in self._vectors.items() if name != "reward"
        }
        columns["reward"] = pa.array(np.concatenate(self._vectors["reward"]))
        cameras = [camera for camera, column in self._images.items() if any(column)]
        for camera in cameras:
            lengths = np.fromiter(map(len, self._images[camera]), np.int32, self.steps)
            columns[f"{camera}_bytes"] = pa.array(lengths)
        images = {camera: pa.array(self._images[camera], pa.large_binary()) for camera in cameras}
        self._images.clear()
        steps_path = self.folder / SHARDS_FOLDER / f"{self.name}.steps.arrow"
        images_path = self.folder / SHARDS_FOLDER / f"{self.name}.images.arrow"
        _write_batch(steps_path, columns, self.steps)
        _write_batch(images_path, images, self.steps)
        return ShardEntry(
            name=self.name,
            episodes=len(self.episode_rows),
            steps=self.steps,
            steps_file=hash_file(steps_path),
            images_file=hash_file(images_path),
            cameras=_camera_bytes(images_path, cameras),
        )


def _reward(episode: Episode) -> np.ndarray:
    if episode.reward is not None:
        return np.asarray(episode.reward, np.float32)
    reward = np.zeros(len(episode), np.float32)
    reward[-1] = 1.0
    return reward


def _write_batch(path: Path, columns: dict[str, pa.Array], rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(path)
    # A data set without cameras still has an images file, with a column of nulls: Arrow needs one to know the rows.
    columns = columns or {"none": pa.nulls(rows)}
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=UNCOMPRESSED) as out:
            out.write_batch(batch)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _camera_bytes(path: Path, cameras: list[str]) -> dict[str, CameraBytes]:
    """Offsets of the image bytes in the file, found by where Arrow's buffers lie in the memory map."""
    if not cameras:
        return {}
    with pa.memory_map(str(path)) as source:
        base = source.read_buffer(source.size()).address
        source.seek(0)
        batch = pa.ipc.open_file(source).get_batch(0)
        found = {}
        for camera in cameras:
            data = batch.column(camera).buffers()[2]
            found[camera] = CameraBytes(offset=data.address - base, bytes=data.size)
        return found
