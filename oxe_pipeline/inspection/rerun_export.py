"""One episode of a stream as a recording for the Rerun viewer (rerun.io): images, actions and states on one time line.

Images go in encoded, byte for byte as they are stored. Written with rerun-sdk 0.41, an optional package; the recording
opens with `rerun FILE`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oxe_pipeline.stream.format import Manifest, unfinished_name
from oxe_pipeline.stream.reader import Stream
from schemas.slots import ACTION_NAMES, STATE_NAMES

if TYPE_CHECKING:
    import rerun

HINT = "rerun-sdk is not installed; pip install 'rerun-sdk>=0.23'"


def find_episode(stream: Stream, asked: str) -> int:
    """The episode with that number (from 0) or that id; ValueError where there is none.

    A text of digits is taken for a number if it is one of the stream's, else for an id.
    """
    count = len(stream.episodes)
    if asked.isdecimal() and int(asked) < count:
        return int(asked)
    ids = stream.episodes.column("episode_id").to_pylist()
    if asked in ids:
        return ids.index(asked)
    raise ValueError(f"--rerun {asked}: {stream.name} has episodes 0 to {count - 1}, and none with this id")


def export_episode(stream: Stream, episode: int, path: Path) -> None:
    """Writes the recording, whole or not at all. ImportError with the install command where rerun-sdk is absent."""
    try:
        import rerun
    except ImportError as error:
        raise ImportError(HINT) from error
    recording = rerun.RecordingStream(stream.name, recording_id=f"{stream.identity}-{episode}", send_properties=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished_name(path)
    try:
        recording.save(temporary)
        _log_episode(rerun, recording, stream, episode)
        recording.flush()
        recording.disconnect()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _log_episode(rerun: Any, recording: "rerun.RecordingStream", stream: Stream, episode: int) -> None:
    index = stream.episodes
    length, rate_hz = int(index.length[episode]), float(index.control_hz[episode])
    time_lines = [
        rerun.TimeColumn("time", duration=np.arange(length) / rate_hz),
        rerun.TimeColumn("step", sequence=np.arange(length)),
    ]
    texts = [stream.instructions[i] for i in index.instruction_ids(episode)]
    recording.log("instruction", rerun.TextDocument("\n".join(texts) or "(no instruction)"), static=True)
    about = f"{stream.name} {index.episode_id(episode)}\n{index.source_path(episode)}"
    recording.log("source", rerun.TextDocument(about), static=True)
    for vector, names in vector_names(stream.manifest).items():
        values_TC = stream.vector(vector, episode).astype(np.float64)
        for column, name in enumerate(names):
            entity = f"{vector}/{name.replace('.', '/')}"
            recording.send_columns(entity, time_lines, rerun.Scalars.columns(scalars=values_TC[:, column]))
    for camera in stream.manifest.cameras:
        if index.has_camera(camera)[episode]:
            images = [bytes(stream.image(episode, step, camera)) for step in range(length)]
            media = [media_type(image) for image in images]
            columns = rerun.EncodedImage.columns(blob=images, media_type=media)
            recording.send_columns(f"camera/{camera}", time_lines, columns)


def vector_names(manifest: Manifest) -> dict[str, list[str]]:
    """Vector -> names of its columns; the raw vectors only where the data set has no unified slots."""
    names = {
        "action": [ACTION_NAMES[slot] for slot in manifest.action_slots],
        "state": [STATE_NAMES[slot] for slot in manifest.state_slots],
    }
    for vector, width in (("action", manifest.action_raw_width), ("state", manifest.state_raw_width)):
        if not names[vector]:
            del names[vector]
            names[f"{vector}_raw"] = [str(column) for column in range(width)]
    return names


def media_type(data: bytes) -> str:
    """MIME type of an encoded image, by how it begins."""
    return "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"
