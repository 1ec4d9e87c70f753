"""Writes demonstrations as LeRobot folders of version 2.1 (a file an episode) or 3.0 (many episodes a file).

    python -m samples.lerobot_layout --out FOLDER --version 3.0

makes one from recorded sample episodes. Layout: huggingface/lerobot, lerobot/datasets of the releases 0.3 and 0.4.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samples.layout_command import layout_parser, write_layout
from samples.video_file import write_video

CHUNK_SIZE = 1000
DATA_2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
DATA_3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

_CLOCK = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"} | {
    "task_index": "int64"
}


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode of T rows."""

    state: np.ndarray
    """[T, S]."""
    action: np.ndarray
    """[T, A]."""
    images: dict[str, np.ndarray]
    """Feature name ("observation.images.front") to uint8 [T, H, W, 3]."""
    tasks: Sequence[str]
    """The sentence of each row."""


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """How a lab writes."""

    fps: int
    robot_type: str
    names: Sequence[str]
    """Of the values of state and action."""
    codec: str = "libx264"
    images_in_tables: bool = False
    """PNG in the tables (features of dtype "image") instead of videos; 2.1 only."""


def write_v21(folder: Path, demonstrations: Sequence[Demonstration], recorder: Recorder) -> None:
    """A folder of version 2.1: meta/*.json, and a Parquet file and a video a camera for every episode."""
    tasks = _task_table(demonstrations)
    lines, stats, start = [], [], 0
    for number, demo in enumerate(demonstrations):
        place = {"episode_index": number, "episode_chunk": number // CHUNK_SIZE}
        columns = _columns(demo, number, start, tasks, recorder)
        start += len(demo.action)
        if recorder.images_in_tables:
            columns |= {name: _png_structs(images) for name, images in demo.images.items()}
        else:
            for name, images in demo.images.items():
                path = folder / VIDEO_2.format(video_key=name, **place)
                write_video(path, images, rate_hz=recorder.fps, codec=recorder.codec)
        _write_table(folder / DATA_2.format(**place), columns)
        said = list(dict.fromkeys(demo.tasks))
        lines.append({"episode_index": number, "tasks": said, "length": len(demo.action)})
        stats.append({"episode_index": number, "stats": {"action": _statistics(demo.action)}})
    _write_json(folder / "meta/info.json", _info("v2.1", demonstrations, recorder, DATA_2, VIDEO_2))
    _write_lines(folder / "meta/episodes.jsonl", lines)
    _write_lines(folder / "meta/episodes_stats.jsonl", stats)
    _write_lines(folder / "meta/tasks.jsonl", [{"task_index": i, "task": task} for task, i in tasks.items()])


def write_v30(folder: Path, demonstrations: Sequence[Demonstration], recorder: Recorder, *, per_file: int = 2) -> None:
    """A folder of version 3.0 with `per_file` episodes in every data file and every video."""
    import pyarrow as pa

    tasks = _task_table(demonstrations)
    rows, start = [], 0
    for file, first in enumerate(range(0, len(demonstrations), per_file)):
        together = demonstrations[first : first + per_file]
        place = {"chunk_index": 0, "file_index": file}
        tables, seconds = [], 0.0
        for number, demo in enumerate(together, first):
            tables.append(pa.table(_columns(demo, number, start, tasks, recorder)))
            end = seconds + len(demo.action) / recorder.fps
            rows.append(_episode_row(demo, number, start, place, (seconds, end)))
            start, seconds = start + len(demo.action), end
        for name in together[0].images:
            images = itertools.chain.from_iterable(demo.images[name] for demo in together)
            path = folder / VIDEO_3.format(video_key=name, **place)
            write_video(path, images, rate_hz=recorder.fps, codec=recorder.codec)
        _write_table(folder / DATA_3.format(**place), pa.concat_tables(tables))
    _write_json(folder / "meta/info.json", _info("v3.0", demonstrations, recorder, DATA_3, VIDEO_3))
    _write_table(folder / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    everything = np.concatenate([demo.action for demo in demonstrations])
    _write_json(folder / "meta/stats.json", {"action": _statistics(everything)})
    sentences = {"task_index": list(tasks.values()), "__index_level_0__": list(tasks)}
    _write_table(folder / "meta/tasks.parquet", sentences)


def recorded_demonstrations(bridge: Path, count: int) -> Iterator[Demonstration]:
    """`count` of the sample episodes in BridgeData layout that have both cameras and a sentence: state [T, 7] and
    commanded action [T, 7] as recorded."""
    from oxe_pipeline.ingest.bridge_raw import find_episodes, read_episode
    from oxe_pipeline.ingest.images import decode

    names = {"observation/image_0": "observation.images.front", "observation/image_1": "observation.images.side"}
    found = 0
    for key in find_episodes(bridge):
        source = read_episode(key, root=bridge, cameras=(0, 1))
        sentences: Any = source.metadata["language_instruction"]
        images = {new: np.stack([decode(bytes(jpeg)) for jpeg in source.steps[old]]) for old, new in names.items()}
        if not sentences or images["observation.images.side"].shape[1] == 1:
            continue
        yield Demonstration(
            state=np.asarray(source.steps["observation/state"], np.float32),
            action=np.asarray(source.steps["action"], np.float32),
            images=images,
            tasks=[sentences[0].decode()] * len(source.steps["action"]),
        )
        found += 1
        if found == count:
            return


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=4)
    parser.add_argument("--version", choices=("2.1", "3.0"), default="3.0")

    def write(options: argparse.Namespace) -> None:
        demonstrations = list(recorded_demonstrations(Path(__file__).parent / "metaworld_bridge", options.episodes))
        names = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
        recorder = Recorder(fps=5, robot_type="sawyer_simulated", names=names)
        (write_v21 if options.version == "2.1" else write_v30)(options.out, demonstrations, recorder)

    return write_layout(parser, argv, write)


def _columns(demo: Demonstration, number: int, start: int, tasks: dict[str, int], recorder: Recorder) -> dict:
    import pyarrow as pa

    steps = np.arange(len(demo.action))

    def vectors(values: np.ndarray):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), values.shape[1])

    return {
        "observation.state": vectors(demo.state),
        "action": vectors(demo.action),
        "timestamp": (steps / recorder.fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full_like(steps, number),
        "index": start + steps,
        "task_index": np.array([tasks[task] for task in demo.tasks]),
    }


def _png_structs(images: np.ndarray) -> list[dict]:
    from oxe_pipeline.ingest.images import encode

    return [{"bytes": encode(image, png=True), "path": f"frame_{i:06d}.png"} for i, image in enumerate(images)]


def _episode_row(demo: Demonstration, number: int, start: int, place: dict, seconds: tuple[float, float]) -> dict:
    row: dict[str, object] = {
        "episode_index": number,
        "tasks": list(dict.fromkeys(demo.tasks)),
        "length": len(demo.action),
        "data/chunk_index": place["chunk_index"],
        "data/file_index": place["file_index"],
        "dataset_from_index": start,
        "dataset_to_index": start + len(demo.action),
    }
    for name in demo.images:
        row |= {f"videos/{name}/{key}": value for key, value in place.items()}
        row |= {f"videos/{name}/from_timestamp": seconds[0], f"videos/{name}/to_timestamp": seconds[1]}
    return row | {f"stats/action/{key}": value for key, value in _statistics(demo.action).items()}


def _info(version: str, demos: Sequence[Demonstration], recorder: Recorder, data: str, video: str) -> dict:
    vector = {"dtype": "float32", "names": list(recorder.names)}
    features: dict[str, dict] = {
        "observation.state": {**vector, "shape": [demos[0].state.shape[1]]},
        "action": {**vector, "shape": [demos[0].action.shape[1]]},
    }
    for name, images in demos[0].images.items():
        height, width = images.shape[1:3]
        features[name] = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
        features[name]["dtype"] = "image" if recorder.images_in_tables else "video"
        features[name]["info"] = {"video.fps": recorder.fps, "video.codec": recorder.codec, "video.is_depth_map": False}
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _CLOCK.items()}
    return {
        "codebase_version": version,
        "robot_type": recorder.robot_type,
        "total_episodes": len(demos),
        "total_frames": sum(len(demo.action) for demo in demos),
        "total_tasks": len(_task_table(demos)),
        "chunks_size": CHUNK_SIZE,
        "fps": recorder.fps,
        "splits": {"train": f"0:{len(demos)}"},
        "data_path": data,
        "video_path": None if recorder.images_in_tables else video,
        "features": features,
    }


def _task_table(demonstrations: Sequence[Demonstration]) -> dict[str, int]:
    sentences = dict.fromkeys(task for demo in demonstrations for task in demo.tasks)
    return {sentence: index for index, sentence in enumerate(sentences)}


def _statistics(values: np.ndarray) -> dict[str, list]:
    measures = {name: getattr(values, name)(0).tolist() for name in ("min", "max", "mean", "std")}
    return measures | {"count": [len(values)]}


def _write_table(path: Path, columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n")


def _write_lines(path: Path, lines: list[dict]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
