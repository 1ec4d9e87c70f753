"""What a stream's index says about its data beyond the manifest: lengths, images, instructions. For pages and cards.

Only the episode index and the heads of a few images are read. A pure function of the stream.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from oxe_pipeline.inspection.selection import spread
from oxe_pipeline.loader.decode import ImageError, image_size
from oxe_pipeline.stream.reader import Stream

MOST_IMAGES_READ = 24
"""Heads of images read per camera to tell sizes and encoding."""
MOST_SHARDS = 8
"""Opened for that where nobody says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthFacts:
    """Lengths of episodes in steps; `duration_s` of all episodes together, each at its own rate."""

    minimum: int
    q05: float
    median: float
    mean: float
    q95: float
    maximum: int
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraFacts:
    """One camera of a stream."""

    camera: str
    episodes: int
    """That have it."""
    sizes: tuple[str, ...]
    """ "256x256 JPEG" (width x height), the most frequent first, of `images_read` images."""
    images_read: int
    bytes_per_image: float
    """Mean over every image of the stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionFacts:
    """One instruction of a stream."""

    text: str
    episodes: int
    """Whose main instruction it is."""
    alternatives: tuple[str, ...]
    """Of the first of these episodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFacts:
    lengths: LengthFacts | None
    """None for a stream without episodes."""
    outcomes: dict[str, int]
    """Episodes by "success", "failure", "unknown"."""
    cameras: tuple[CameraFacts, ...]
    instructions: tuple[InstructionFacts, ...]
    """The most frequent first."""
    num_instructions: int
    """Different main instructions."""


def stream_facts(stream: Stream, *, most_instructions: int = 20, shards: np.ndarray | None = None) -> StreamFacts:
    """Facts of an open stream; images are looked at in the given shards alone (default: a few, spread evenly)."""
    shards = spread(len(stream.manifest.shards), MOST_SHARDS) if shards is None else shards
    cameras = tuple(camera_facts(stream, camera, shards) for camera in stream.manifest.cameras)
    instructions, different = instruction_facts(stream, most_instructions)
    success = stream.episodes.success
    return StreamFacts(
        lengths=length_facts(stream.episodes.length, stream.episodes.control_hz),
        outcomes={
            name: int((success == value).sum()) for name, value in (("success", 1), ("failure", 0), ("unknown", -1))
        },
        cameras=cameras,
        instructions=instructions,
        num_instructions=different,
    )


def length_facts(length: np.ndarray, control_hz: np.ndarray) -> LengthFacts | None:
    """Of episodes with `length` int [E] steps at `control_hz` float [E]."""
    if not len(length):
        return None
    q05, median, q95 = np.quantile(length, (0.05, 0.5, 0.95)).tolist()
    return LengthFacts(
        minimum=int(length.min()),
        q05=q05,
        median=median,
        mean=float(length.mean()),
        q95=q95,
        maximum=int(length.max()),
        duration_s=float((length / np.maximum(control_hz.astype(np.float64), 1e-9)).sum()),
    )


def camera_facts(stream: Stream, camera: str, shards: np.ndarray) -> CameraFacts:
    """One camera: sizes from a few images of `shards`, mean bytes from the manifest."""
    index = stream.episodes
    has = index.has_camera(camera)
    shown = np.flatnonzero(has & np.isin(index.shard, shards))
    seen = [_kind(stream, int(episode), camera) for episode in shown[spread(len(shown), MOST_IMAGES_READ)]]
    sizes = [kind for kind, _ in sorted(Counter(seen).items(), key=lambda item: (-item[1], item[0]))]
    places = (shard.cameras.get(camera) for shard in stream.manifest.shards)
    stored = sum(place.bytes for place in places if place)
    return CameraFacts(
        camera=camera,
        episodes=int(has.sum()),
        sizes=tuple(sizes),
        images_read=len(seen),
        bytes_per_image=stored / max(1, int(index.length[has].sum())),
    )


def instruction_facts(stream: Stream, most: int) -> tuple[tuple[InstructionFacts, ...], int]:
    """The `most` frequent main instructions, ties in the order of first appearance, and how many different ones there
    are."""
    lists = stream.episodes.column("instruction_ids")
    offsets, ids = np.from_dlpack(lists.offsets), np.from_dlpack(lists.values)
    labelled = np.flatnonzero(np.diff(offsets) > 0)
    main, first, counts = np.unique(ids[offsets[labelled]], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))[:most]
    found = []
    for text_id, position, count in zip(main[order], first[order], counts[order], strict=True):
        others = stream.episodes.instruction_ids(int(labelled[position]))[1:]
        found.append(
            InstructionFacts(
                text=stream.instructions[text_id],
                episodes=int(count),
                alternatives=tuple(stream.instructions[other] for other in others),
            )
        )
    return tuple(found), len(main)


def _kind(stream: Stream, episode: int, camera: str) -> str:
    """Size and encoding of an episode's first image."""
    data = stream.image(episode, 0, camera)
    try:
        height, width = image_size(data)
    except ImageError:
        return "unreadable"
    return f"{width}x{height} {'JPEG' if bytes(data[:2]) == bytes.fromhex('ffd8') else 'PNG'}"
