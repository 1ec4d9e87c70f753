"""Small real streams of synthetic episodes, written by the package's own writer: input for tests above the stream."""

from pathlib import Path

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.stats.statistics import VectorStatistics
from oxe_pipeline.stream.finish import write_tables
from oxe_pipeline.stream.format import VECTORS, Counts, Manifest, write_manifest
from oxe_pipeline.stream.shard_table import ShardEntry, ShardTable
from oxe_pipeline.stream.writer import ColumnLayout, ShardWriter
from schemas.slots import ACTION_NAMES, CAMERAS, STATE_NAMES


def make_episode(
    seed: int,
    *,
    dataset="synthetic",
    steps=12,
    cameras=("primary", "wrist"),
    image_px=32,
    split="train",
    control_hz=10.0,
) -> Episode:
    """One arm, end-effector control. `action` slot 0 is the step number, so tests can see which step they hold."""
    import simplejpeg

    rng = np.random.default_rng(seed)
    action, action_mask = np.zeros((steps, 32), np.float32), np.zeros(32, bool)
    action_mask[:7] = True
    action[:, :6] = rng.normal(0, 0.02, (steps, 6))
    action[:, 0] = np.arange(steps)
    action[:, 6] = rng.random(steps) > 0.5
    state, state_mask = np.zeros((steps, 40), np.float32), np.zeros(40, bool)
    state_mask[:10] = True
    state[:, :10] = rng.normal(0, 1, (steps, 10))
    ramp = np.linspace(0, 200, image_px, dtype=np.uint8)
    images: dict[str, list[bytes]] = {}
    for number, camera in enumerate(cameras):
        images[camera] = []
        for step in range(steps):
            pixels = np.stack(
                np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8((seed * 7 + step * 5 + number) % 256)), -1
            )
            images[camera].append(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95))
    return Episode(
        dataset=dataset,
        episode_id=f"{seed:016x}",
        split=split,
        action=action,
        action_mask=action_mask,
        state=state,
        state_mask=state_mask,
        action_raw=action[:, :7].copy(),
        state_raw=state[:, :8].copy(),
        images=images,
        instruction=f"push block {seed}",
        alternatives=(f"shove block {seed}",) if seed % 2 else (),
        label_raw=f"push block {seed}",
        success=1,
        control_hz=control_hz,
        lab="test",
        robot="test",
        source_path=f"episode_{seed}",
    )


def write_stream(folder: Path, episodes: list[Episode], *, episodes_per_shard=4, spec: dict | None = None) -> Path:
    """Writes the episodes as a complete stream into `folder` and returns it."""
    layout = ColumnLayout.of(episodes[0])
    names = {
        "action": [ACTION_NAMES[i] for i in layout.action_slots],
        "state": [STATE_NAMES[i] for i in layout.state_slots],
        "action_raw": [f"action_raw.{i}" for i in range(layout.action_raw_width)],
        "state_raw": [f"state_raw.{i}" for i in range(layout.state_raw_width)],
    }
    statistics = {vector: VectorStatistics(names[vector]) for vector in VECTORS}
    shards: list[ShardEntry] = []
    rows: list[dict] = []
    for start in range(0, len(episodes), episodes_per_shard):
        writer = ShardWriter(folder=folder, name=f"{len(shards):05d}-000", layout=layout)
        for episode in episodes[start : start + episodes_per_shard]:
            writer.add(episode)
            if episode.split == "train":
                statistics["action"].update(episode.action[:, layout.action_slots])
                statistics["state"].update(episode.state[:, layout.state_slots])
                statistics["action_raw"].update(episode.action_raw)
                statistics["state_raw"].update(episode.state_raw)
        rows += [{**row, "shard": len(shards)} for row in writer.episode_rows]
        shards.append(writer.close())
    files = write_tables(folder, rows, statistics)
    first = episodes[0]
    splits = sorted({episode.split for episode in episodes})
    write_manifest(
        folder,
        Manifest(
            dataset=first.dataset,
            code_version="test",
            spec=spec or {},
            source={},
            options={},
            lab=first.lab,
            robot=first.robot,
            control_hz=first.control_hz,
            action_slots=list(layout.action_slots),
            state_slots=list(layout.state_slots),
            action_raw_width=layout.action_raw_width,
            state_raw_width=layout.state_raw_width,
            cameras={c: n for c in CAMERAS if (n := sum(c in e.images for e in episodes))},
            counts=Counts(
                episodes_in=len(episodes),
                episodes_out=len(episodes),
                steps_out=sum(map(len, episodes)),
                split_episodes={s: sum(e.split == s for e in episodes) for s in splits},
                split_steps={s: sum(len(e) for e in episodes if e.split == s) for s in splits},
            ),
            quarantine=[],
            statistics={vector: merged.summary() for vector, merged in statistics.items()},
            language={},
            files=files,
            shards=ShardTable.of(shards),
        ),
    )
    return folder


def make_stream(folder: Path, name: str, *, episodes=8, held_out=1, steps=12, **options) -> Path:
    """A stream of `episodes` train and `held_out` val episodes with lengths steps, steps-1, ... (at least 1)."""
    made = [
        make_episode(
            seed,
            dataset=name,
            steps=max(1, steps - seed % 5),
            split="train" if seed < episodes else "val",
            **options,
        )
        for seed in range(episodes + held_out)
    ]
    return write_stream(folder, made)
