"""Which stretches of CALVIN's frames are episodes: the language windows of auto_lang_ann.npy, or the recorded play
itself, out of ep_start_end_ids.npy. No frame is opened here.

A split folder holds one file a frame, numbered through with gaps. ep_start_end_ids says which runs of numbers were
recorded in one go (both ends included). A window is (start, end) with `end` excluded: the annotator writes start plus
length, and its oracle saw the task done in the last frame, end - 1.

Layout: mees/calvin dataset/README.md, calvin_models/calvin_agent/utils/automatic_lang_annotator_mp.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.npz_file import read_npy
from oxe_pipeline.ingest.raw_folder import inside, number_order
from oxe_pipeline.ingest.restricted_pickle import load_object_npy

RANGES_FILE = "ep_start_end_ids.npy"
WINDOWS_FILE = "auto_lang_ann.npy"
SPLITS = ("training", "validation")
PLAY_STEPS = 4096
"""Play goes on for tens of thousands of frames; pieces of this length keep a worker's memory bounded."""
MAX_WINDOW_STEPS = 4096
MAX_FRAME_NUMBER = 10**7 - 1
"""Frame files have seven digits."""
MAX_LABEL_LETTERS = 10_000
MAX_WINDOWS_BYTES = 1 << 30
"""Of auto_lang_ann.npy, which also holds an embedding of each label; CALVIN's largest has some 35 MB."""
MAX_DEPTH = 4
"""Folders below the raw folder in which splits are looked for."""

OVERLAPPING = "overlapping_window"


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One episode to be: consecutive frames of one split folder. Small, and pickles."""

    folder: str
    """Path of the split folder below the raw folder, "" for the raw folder itself."""
    first: int
    stop: int
    """Frame numbers, `stop` excluded."""
    labels: tuple[str | bytes, ...] = ()
    """What the annotators said about it; a window may be annotated several times."""
    tasks: tuple[str | bytes, ...] = ()
    """Names of the tasks that the oracle saw done."""
    is_window: bool = True
    flags: tuple[str, ...] = ()
    fault: str = ""
    """Why it cannot be an episode, to be raised when it is read; "" for nothing known against it."""

    def __str__(self) -> str:
        name = f"{self.first:07d}-{self.stop - 1:07d}"
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def split(self) -> str:
        """ "training", "validation", or "" where the folder has another name."""
        name = self.folder.rpartition("/")[2]
        return name if name in SPLITS else ""


def find_split_folders(root: str | Path) -> list[str]:
    """Paths below `root` of the folders that hold ep_start_end_ids.npy, in order; "" for `root` itself."""
    return list(_split_folders(Path(root), "", MAX_DEPTH))


def _split_folders(root: Path, below: str, depth: int) -> Iterator[str]:
    folder = root / below
    if (folder / RANGES_FILE).is_file():
        yield below  # not looked into further: a million frame files
    elif depth:
        names = (path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        for name in sorted(names, key=number_order):
            yield from _split_folders(root, f"{below}/{name}" if below else name, depth - 1)


def language_windows(root: str | Path, folder: str) -> list[Segment]:
    """The annotated windows of a split folder, by frame; annotations of one and the same window become its several
    labels. Windows that share frames are flagged "overlapping_window".

    A window that is not inside one recording, is empty, or has no text carries its fault. Raises DataError when an
    index file is absent or damaged.
    """
    root = Path(root)
    runs = _runs(root, folder)
    labels: dict[tuple[int, int], dict[str | bytes, None]] = {}
    tasks: dict[tuple[int, int], dict[str | bytes, None]] = {}
    for first, stop, label, task in _annotations(root, folder):
        labels.setdefault((first, stop), {}).setdefault(label)
        tasks.setdefault((first, stop), {}).setdefault(task)
    segments = [
        Segment(
            folder=folder,
            first=first,
            stop=stop,
            labels=tuple(said),
            tasks=tuple(tasks[first, stop]),
            fault=_window_fault(first, stop, runs),
        )
        for (first, stop), said in sorted(labels.items())
    ]
    return _with_overlaps(segments)


def play(root: str | Path, folder: str) -> list[Segment]:
    """The recordings of a split folder as they went, whatever was annotated, in pieces of at most PLAY_STEPS frames.

    Raises DataError when ep_start_end_ids.npy is absent or damaged.
    """
    return [
        Segment(folder=folder, first=first, stop=min(first + PLAY_STEPS, end + 1), is_window=False)
        for start, end in _runs(Path(root), folder).tolist()
        for first in range(start, end + 1, PLAY_STEPS)
    ]


def _runs(root: Path, folder: str) -> np.ndarray:
    """int64 [N, 2]: first and last frame of each recording, in order."""
    runs = read_npy(root, f"{folder}/{RANGES_FILE}".strip("/"), folder or ".")
    where = {"episode": folder or ".", "field": RANGES_FILE}
    if runs.ndim != 2 or runs.shape[1] != 2 or runs.dtype.kind not in "iu" or not len(runs):
        raise DataError(f"must be whole numbers [N, 2], is {runs.dtype} {list(runs.shape)}", **where)
    if runs.min() < 0 or runs.max() > MAX_FRAME_NUMBER or (runs[:, 0] > runs[:, 1]).any():
        raise DataError(f"holds ranges that end before they start, or lie outside 0 to {MAX_FRAME_NUMBER}", **where)
    runs = runs.astype(np.int64)
    return runs[np.argsort(runs[:, 0], kind="stable")]


def _annotations(root: Path, folder: str) -> Iterator[tuple[int, int, str | bytes, str | bytes]]:
    """(first, stop, label, task) as listed in the file. Raises DataError where it is not of CALVIN's form."""
    path = _windows_file(root, folder)
    where = {"episode": folder or ".", "field": path.relative_to(root / folder).as_posix()}
    if (size := path.stat().st_size) > MAX_WINDOWS_BYTES:
        raise DataError(f"{size} bytes; at most {MAX_WINDOWS_BYTES} are read", **where)
    try:
        content = load_object_npy(path)
    except DataError as error:
        raise DataError(error.reason, **where) from None
    try:
        labels, tasks = content["language"]["ann"], content["language"]["task"]  # type: ignore[index]
        windows = content["info"]["indx"]  # type: ignore[index]
        if not len(labels) == len(tasks) == len(windows):
            raise ValueError(f"{len(windows)} windows, {len(labels)} labels and {len(tasks)} tasks")
        for (start, end), label, task in zip(windows, labels, tasks, strict=True):
            yield _frame(start), _frame(end), _text(label), _text(task)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"must be a dict with language/ann, language/task and info/indx of one length ({error})"
        raise DataError(" ".join(reason.split())[:300], **where) from None


def _windows_file(root: Path, folder: str) -> Path:
    split = root / folder
    found = sorted(split.glob(f"lang_*/{WINDOWS_FILE}"))
    for path in (split / "lang_annotations" / WINDOWS_FILE, *found, split / WINDOWS_FILE):
        if path.is_file():
            return inside(root, path, folder or ".")
    reason = "no such file, so there are no language windows; the config calvin_play takes the recordings whole"
    raise DataError(reason, episode=folder or ".", field=f"lang_annotations/{WINDOWS_FILE}")


def _frame(number: object) -> int:
    """Messages name types, not values: to print one list inside another a million million times takes for ever."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise ValueError(f"{type(number).__name__} is no frame number")
    if abs(int(number)) > MAX_FRAME_NUMBER:
        raise ValueError(f"a frame number above {MAX_FRAME_NUMBER}")
    return int(number)


def _text(label: object) -> str | bytes:
    if not isinstance(label, str | bytes):
        raise ValueError(f"{type(label).__name__} is no label")
    if len(label) > MAX_LABEL_LETTERS:
        raise ValueError(f"a label of {len(label)} letters")
    return bytes(label) if isinstance(label, bytes) else str(label)


def _window_fault(first: int, stop: int, runs: np.ndarray) -> str:
    if not 0 <= first < stop:
        return f"the window {first} to {stop} holds no step"
    if stop - first > MAX_WINDOW_STEPS:
        return f"the window {first} to {stop} is longer than {MAX_WINDOW_STEPS} steps"
    candidate = int(np.searchsorted(runs[:, 0], first, side="right")) - 1
    if candidate < 0 or stop - 1 > runs[candidate, 1]:
        return f"the window {first} to {stop} does not lie inside one recording of {RANGES_FILE}"
    return ""


def _with_overlaps(segments: Sequence[Segment]) -> list[Segment]:
    """`segments`, sorted by first frame, with those flagged that share a frame with another; faulty ones do not
    count."""
    sound = [number for number, segment in enumerate(segments) if not segment.fault]
    firsts = np.array([segments[number].first for number in sound], np.int64)
    stops = np.array([segments[number].stop for number in sound], np.int64)
    overlaps = np.zeros(len(sound), bool)
    overlaps[1:] = firsts[1:] < np.maximum.accumulate(stops)[:-1]
    overlaps[:-1] |= firsts[1:] < stops[:-1]
    flagged = {number for number, overlapping in zip(sound, overlaps.tolist(), strict=True) if overlapping}
    return [replace(s, flags=(OVERLAPPING,)) if number in flagged else s for number, s in enumerate(segments)]
