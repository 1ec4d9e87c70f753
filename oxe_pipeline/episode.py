"""Episode: the one in-memory form between any reader and any writer, and SourceEpisode, what readers of raw data yield.

A reader of a lab's files makes a SourceEpisode (flat keys, the lab's own conventions); `ingest.apply_spec` turns it
into an Episode (unified slots, masks, cleaned label); builders write Episodes as unified RLDS and the shard job writes
them into a stream. Images stay the source's encoded bytes all the way.
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from schemas.slots import ACTION_WIDTH, CAMERAS, RAW_WIDTH, STATE_WIDTH


class DataError(ValueError):
    """A fault in one episode's data: says which data set, which episode, which field and why. Leads to quarantine."""

    def __init__(self, reason: str, *, dataset: str = "?", episode: str = "?", field: str = "?"):
        self.reason, self.dataset, self.episode, self.field = reason, dataset, episode, field
        super().__init__(f"{dataset}: episode {episode}: {field}: {reason}")

    def __reduce__(self):
        # Exceptions with keyword arguments do not pickle by default; workers send these to their parent.
        return _rebuild_data_error, (self.reason, self.dataset, self.episode, self.field)


def _rebuild_data_error(reason: str, dataset: str, episode: str, field: str) -> DataError:
    return DataError(reason, dataset=dataset, episode=episode, field=field)


class Frames(abc.ABC):
    """The images of one camera of one episode, made one at a time: a video, or pixels too many to hold at once."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """T, known without making an image."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[np.ndarray | bytes]:
        """T images in order, each uint8 [H, W, 3] with channels and rows as stored, or an encoded JPEG or PNG.

        Raises ValueError or DataError when an image cannot be made; the episode is then set aside.
        """

    @abc.abstractmethod
    def identity(self) -> bytes:
        """Bytes from which the episode's id is computed instead of the pixels: equal for equal source content,
        wherever it lies and whatever decodes it (e.g. a hash of the compressed packets)."""


@dataclass(kw_only=True, slots=True)
class SourceEpisode:
    """One episode as its lab recorded it, before any convention is changed."""

    key: str
    """Unique and stable within the data set, e.g. a path below the raw folder; error messages name it."""
    source_path: str
    steps: dict[str, np.ndarray | list | Frames]
    """Flat key ("observation/state") to an array [T, ...]; for encoded images and text a list of T bytes/str; for
    images that are not to be held all at once, Frames."""
    metadata: dict[str, object] = field(default_factory=dict)
    """Flat key to value, for what is said once an episode; a spec may name these keys too ("episode_metadata/..."). """
    split: str = "train"
    """The source's own split, or "" when it has none and the pipeline decides by hash."""
    quality_flags: tuple[str, ...] = ()
    """What the reader noticed that does not make the episode unusable, e.g. "timestamps_uneven"."""


@dataclass(kw_only=True, slots=True)
class Episode:
    """One episode in unified form. Observation t, then action t, then observation t+1; every step's action is valid.

    T is the number of steps. Masks hold for the whole data set, not per step. Units and frames: schemas/slots.py.
    """

    dataset: str
    episode_id: str
    """16 hexadecimal digits: a hash of the source's content, so a re-import of the same data has the same ids."""
    split: str
    action: np.ndarray
    """float32 [T, 32], 0 where masked."""
    action_mask: np.ndarray
    """bool [32], true where the data set has the slot."""
    state: np.ndarray
    """float32 [T, 40], 0 where masked."""
    state_mask: np.ndarray
    """bool [40]."""
    action_raw: np.ndarray
    """float32 [T, A], A <= 64: the source's own action vector, untouched."""
    state_raw: np.ndarray
    """float32 [T, S], S <= 64: the source's own state vector, untouched."""
    images: dict[str, list[bytes]]
    """Camera (one of CAMERAS) to T encoded JPEG or PNG images. A camera that the episode lacks is not a key."""
    instruction: str = ""
    """The cleaned instruction, or "" for none."""
    alternatives: tuple[str, ...] = ()
    """Further cleaned instructions for the same episode."""
    label_raw: str = ""
    """What the source says, untouched; several labels joined by newlines."""
    label_flags: tuple[str, ...] = ()
    quality_flags: tuple[str, ...] = ()
    success: int = -1
    """1 success, 0 failure, -1 unknown."""
    control_hz: float
    lab: str = ""
    robot: str = ""
    source_path: str = ""
    reward: np.ndarray | None = None
    """float32 [T]; None means 1 on the last step and 0 before (the habit of published RLDS)."""
    discount: np.ndarray | None = None
    is_terminal: bool = True
    """Whether the last step really ends the task (true) or the recording was cut (false)."""

    def __len__(self) -> int:
        return len(self.action)

    def check_shapes(self) -> None:
        """Raises DataError naming the first field whose shape or dtype does not fit the layout above."""
        steps = len(self.action)
        if steps == 0:
            raise self.fault("action", "the episode has no step")
        widths = {"action": ACTION_WIDTH, "state": STATE_WIDTH}
        for name in ("action", "state", "action_raw", "state_raw"):
            array = getattr(self, name)
            if array.dtype != np.float32 or array.ndim != 2 or len(array) != steps:
                raise self.fault(name, f"must be float32 [{steps}, ...], is {array.dtype} {list(array.shape)}")
            if array.shape[1] > RAW_WIDTH or array.shape[1] != widths.get(name, array.shape[1]):
                raise self.fault(name, f"is {array.shape[1]} wide; must be {widths.get(name, f'at most {RAW_WIDTH}')}")
        for name, width in (("action_mask", ACTION_WIDTH), ("state_mask", STATE_WIDTH)):
            mask = getattr(self, name)
            if mask.dtype != bool or mask.shape != (width,):
                raise self.fault(name, f"must be bool [{width}], is {mask.dtype} {list(mask.shape)}")
        for camera, images in self.images.items():
            if camera not in CAMERAS:
                raise self.fault(f"images[{camera}]", f"no such camera; there are {', '.join(CAMERAS)}")
            if len(images) != steps:
                raise self.fault(f"images[{camera}]", f"{len(images)} images for {steps} steps")

    def fault(self, field: str, reason: str) -> DataError:
        """A DataError that names this episode."""
        return DataError(reason, dataset=self.dataset, episode=self.source_path or self.episode_id, field=field)
