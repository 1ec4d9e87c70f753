"""Reads bags (ROS 1, ROS 2, MCAP) as episodes: the topics that a spec's `bag` names, on one row of steps.

A bag is read once for its times and numbers (bag_columns), without keeping an image, and once more for each camera when
its images are wanted. Memory: the numbers of one bag and one image.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames, SourceEpisode
from oxe_pipeline.ingest.align_columns import FOREVER_NS, NS, Piece, TimedColumn, align, even_ticks, is_even
from oxe_pipeline.ingest.bag_columns import RECORDING, Column, read_columns
from oxe_pipeline.ingest.bag_files import find_bags, opened_bag, said_about
from oxe_pipeline.ingest.bag_messages import image_in
from schemas.bag import BagLayout
from schemas.spec import DatasetSpec

MIN_COVER = 0.9
"""Share of the time from a bag's first message to its last."""
MAX_RATE_ERROR = 0.2
"""Share by which a clock's rate may differ from the spec's control_hz."""

_NUMBERED = re.compile(r"(.+)#(\d+)")


class BagFrames(Frames):
    """Images of one topic: of its messages in order of receipt, the `chosen` ones. The bag is read again for them, from
    the first to the last, one message in memory at a time."""

    def __init__(self, root: Path, path: str, column: Column, chosen: np.ndarray):
        self._root, self._path, self._topic = root, path, column.topic
        self._received = np.asarray(column.received_ns, np.int64)
        self._digests = [column.values[number] for number in chosen]
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[np.ndarray | bytes]:
        if not len(self._chosen):
            return
        start, stop = int(self._received[self._chosen[0]]), int(self._received[self._chosen[-1]]) + 1
        number, made = int(np.searchsorted(self._received, start)) - 1, 0
        with opened_bag(self._root, self._path) as bag:
            for _, _, message in bag.messages([self._topic], start, stop):
                number += 1
                if made == len(self._chosen) or number != self._chosen[made]:
                    continue
                image = self._image(message, made)
                while made < len(self._chosen) and self._chosen[made] == number:
                    made += 1
                    yield image
        if made < len(self._chosen):
            reason = f"{made} images came out where {len(self._chosen)} are wanted"
            raise DataError(reason, episode=self._path, field=self._topic)

    def _image(self, message: object, step: int) -> np.ndarray | bytes:
        try:
            return image_in(message)
        except ValueError as error:
            raise DataError(f"step {step}: {error}", episode=self._path, field=self._topic) from None

    def identity(self) -> bytes:
        """Hash of the chosen messages' image bytes, taken when the bag was first read."""
        return xxhash.xxh64(b"".join(self._digests)).digest()


def find_episodes(root: str | Path, spec: DatasetSpec) -> Iterator[str]:
    """Keys of all episodes below `root`: "folder/x.bag" where a bag is one episode, else "folder/x.bag#0", "#1", ...

    Where bags hold several, each is read once to count them. One that cannot be read, or holds none, gives its own path
    as its one key; reading that raises the DataError that says why.
    """
    root, layout = Path(root), _layout_of(spec)
    for path in find_bags(root):
        if not layout.several_episodes:
            yield path
            continue
        try:
            count = len(_pieces(read_columns(root, path, layout), spec, path))
        except DataError:
            count = 0
        yield from [f"{path}#{number}" for number in range(count)] or [path]


def read_episode(key: str, *, root: str | Path, spec: DatasetSpec) -> SourceEpisode:
    """One episode, by a key of `find_episodes`.

    steps: each column of `spec.bag`, numbers float64 [T, k] and images as Frames, and `time_s` float64 [T], since
    the first step. metadata: bag_name, folder_name, what a ROS 2 folder's metadata.yaml says; each text column, as in
    force at the first step, else as first said during the episode, else ""; "clock/<column>", "stamp" or "receipt".
    quality_flags: "timestamps_uneven" where a clock's steps are not even; "recording_partly_used" where the steps,
    which need every column, cover less than MIN_COVER of a bag that is one episode (a camera that stopped early).
    Raises DataError naming bag and topic: damaged, a topic missing, a gap, messages that do not hold the fields.
    """
    root, layout = Path(root), _layout_of(spec)
    match = _NUMBERED.fullmatch(key) if layout.several_episodes else None
    path, number = (match[1], int(match[2])) if match else (key, 0)
    columns = read_columns(root, path, layout)
    pieces = _pieces(columns, spec, path)
    if number >= len(pieces):
        raise DataError(f"holds {len(pieces)} episodes", episode=key, field="bag")
    piece = pieces[number]
    if isinstance(piece, DataError):
        raise piece
    steps: dict[str, np.ndarray | list | Frames] = {"time_s": (piece.ticks_ns - piece.ticks_ns[0]) / NS}
    metadata: dict[str, object] = {
        "bag_name": PurePosixPath(path).name,
        "folder_name": PurePosixPath(path).parent.name,
        **said_about(root, path),
        **{name: "" for name, said in layout.columns.items() if said.kind == "text"},
    }
    for name, column in columns.items():
        if column.said.kind == "text":
            metadata[name] = _text_during(column, piece)
        elif name != RECORDING:
            metadata[f"clock/{name}"] = column.times()[1]
            chosen = piece.chosen[name]
            if column.said.kind == "image":
                steps[name] = BagFrames(root, path, column, chosen)
            else:
                steps[name] = np.stack([column.values[place] for place in chosen])
    flags = _flags_of(piece, columns, spec)
    return SourceEpisode(key=key, source_path=key, steps=steps, metadata=metadata, split="", quality_flags=flags)


def _flags_of(piece: Piece, columns: dict[str, Column], spec: DatasetSpec) -> tuple[str, ...]:
    layout, flags = _layout_of(spec), []
    if layout.clock and not is_even(piece.ticks_ns, spec.control_hz):
        flags.append("timestamps_uneven")
    times = [column.times()[0] for column in columns.values() if column.said.kind != "text"]
    recorded_ns = max(int(each[-1]) for each in times) - min(int(each[0]) for each in times)
    # A step at either end may rightly be lost: columns do not begin together, and a last command has no next step.
    used_ns = int(piece.ticks_ns[-1] - piece.ticks_ns[0]) + 2 * NS / spec.control_hz
    if not layout.several_episodes and used_ns < MIN_COVER * recorded_ns:
        flags.append("recording_partly_used")
    return tuple(flags)


def _layout_of(spec: DatasetSpec) -> BagLayout:
    if spec.bag is None:
        raise ValueError(f"spec {spec.name!r} has no `bag`, so nothing says which topics of a bag to read")
    return spec.bag


def _pieces(columns: dict[str, Column], spec: DatasetSpec, path: str) -> list[Piece | DataError]:
    """The episodes of a bag in order of time; a fault stands in the place of one that has a gap."""
    layout = _layout_of(spec)
    timed, times = {}, {}
    for name, column in columns.items():
        if column.said.kind != "text" and name != RECORDING:
            times[name] = column.times()[0]
            age = column.said.max_age_s
            timed[name] = TimedColumn(
                times_ns=times[name],
                max_age_ns=FOREVER_NS if age is None else round(age * NS),
                before_next=column.said.take == "before_next",
            )
    first, last = max(int(each[0]) for each in times.values()), max(int(each[-1]) for each in times.values())
    pieces: list[Piece | DataError] = []
    for begin, end in _recorded(columns, first, last):
        try:
            pieces += _cut(timed, _ticks(times, spec, max(begin, first), min(end, last)), layout)
        except ValueError as error:
            fault = DataError(str(error), episode=path, field="bag")
            if layout.recording is None:
                raise fault from None
            pieces.append(fault)
    return pieces


def _recorded(columns: dict[str, Column], first: int, last: int) -> list[tuple[int, int]]:
    """[begin, end] ns of every stretch that is an episode by the topic that says so; the whole bag without one."""
    column = columns.get(RECORDING)
    if column is None:
        return [(first, last)]
    stretches, begin = [], None
    for time_ns, value in zip(column.times()[0].tolist(), column.values, strict=True):
        if value[0] and begin is None:
            begin = time_ns
        elif not value[0] and begin is not None:
            stretches.append((begin, time_ns))
            begin = None
    return stretches if begin is None else [*stretches, (begin, last)]


def _ticks(times: dict[str, np.ndarray], spec: DatasetSpec, begin: int, end: int) -> np.ndarray:
    """Times of the steps, int64 [T]: of the clock's messages, or even. ValueError when the clock has another rate."""
    clock = _layout_of(spec).clock
    if clock not in times:
        return even_ticks(begin, end, spec.control_hz)
    ticks = np.unique(times[clock])
    ticks = ticks[(ticks >= begin) & (ticks <= end)]
    if len(ticks) > 1:
        rate = NS / float(np.median(np.diff(ticks)))
        if abs(rate / spec.control_hz - 1) > MAX_RATE_ERROR:
            reason = f"clock {clock} runs at {rate:.4g} Hz, the spec says {spec.control_hz:g}"
            raise ValueError(f"{reason}; leave `clock` out for evenly spaced steps")
    return ticks


def _cut(timed: dict[str, TimedColumn], ticks: np.ndarray, layout: BagLayout) -> list[Piece]:
    """The pieces of one stretch. ValueError when there is none, or a gap that the spec does not let cut."""
    if not len(ticks):
        raise ValueError("its columns have no time in common")
    max_step = timed[layout.clock].max_age_ns if layout.clock in timed else FOREVER_NS
    pieces, missing = align(timed, ticks, max_step_ns=max_step)
    if layout.on_gap == "cut":
        return [piece for piece in pieces if len(piece.ticks_ns) >= layout.min_steps]
    if not pieces:
        worst = max(missing, key=lambda name: int(missing[name].sum()))
        raise ValueError(f"no step at which all columns have a value; {worst} lacks one at {missing[worst].mean():.0%}")
    if len(pieces) > 1:
        gap = slice(*np.searchsorted(ticks, [pieces[0].ticks_ns[-1] + 1, pieces[1].ticks_ns[0]]))
        at_fault = [name for name, absent in missing.items() if absent[gap].any()] or [layout.clock]
        lasts = (pieces[1].ticks_ns[0] - pieces[0].ticks_ns[-1]) / NS
        begins = (pieces[0].ticks_ns[-1] - ticks[0]) / NS
        raise ValueError(f"a gap of {lasts:.2f} s in {', '.join(at_fault)}, {begins:.2f} s after the first step")
    return pieces


def _text_during(column: Column, piece: Piece) -> str:
    times = column.times()[0]
    before = int(np.searchsorted(times, piece.ticks_ns[0], side="right")) - 1
    if before < 0 and (not len(times) or times[0] > piece.ticks_ns[-1]):
        return ""
    return column.values[max(before, 0)]
