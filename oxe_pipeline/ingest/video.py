"""VideoFrames: some images of a video file, decoded one at a time, whatever the codec (AV1, H.264, HEVC, MPEG-4 ...).

The file is scanned once without decoding, so that the number of images is known and a damaged or too short file is
found before work is spent on it; then images are decoded from the nearest keyframe on, by one thread, because builders
already run one process per core. The price of one image at a time: the file is opened a second time to decode.

What comes out is RGB. (OpenCV hands out BGR: a file that was *written* with channels swapped looks swapped here, and
its spec says `colour: bgr`.) The rotation that a phone notes in its file is not applied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames
from oxe_pipeline.quality.checks import MAX_SIDE_PX, MIN_SIDE_PX

MAX_PIXELS = 7680 * 4320
"""8K; the decoder itself refuses more, so that a small file cannot ask for gigabytes."""
MAX_IMAGES = 60 * 60 * 60
"""An hour at 60 Hz in one episode; more is a bomb or an episode that was never cut."""

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_OPEN_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
"""Playlists and scripts, which FFmpeg also takes for videos, name other files and addresses to be opened."""


class VideoFrames(Frames):
    """The images of `path`: frames [start, stop) by number, or for each of `times_s` the frame nearest to it.

    Numbers count from 0 in order of presentation; `stop` None is the end. Times are seconds since the file's first
    frame, must not decrease, and may repeat or skip frames: that is how a video is brought to another rate. A time with
    no frame within `tolerance_s` (None: one frame period) is a fault. `frames[a:b]` gives a part without a new scan.

    By number the whole file is scanned; by time only the part around the times, so that an episode out of a file of
    many costs no more than its own. Each image is uint8 [H, W, 3], RGB; all have one size.

    Raises DataError with `episode` and `field`: no such file, not a whole video, too short, absurd sizes, no frame near
    a time. While iterating: an image that does not decode. ImportError with the remedy without PyAV.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: int = 0,
        stop: int | None = None,
        times_s: Sequence[float] | np.ndarray | None = None,
        tolerance_s: float | None = None,
        episode: str = "?",
        field: str = "video",
    ):
        self._path, self._episode, self._field = Path(path), episode, field
        if times_s is None:
            self._scan(None, None, None)
            count = len(self._shown)
            stop = count if stop is None else stop
            if not 0 <= start <= stop <= count:
                raise self._fault(f"frames {start} to {stop} are wanted of {count}")
            self._chosen = np.arange(start, stop)
        else:
            self._chosen = self._nearest(np.asarray(times_s, np.float64), tolerance_s)
        if len(self._chosen) > MAX_IMAGES:
            raise self._fault(f"{len(self._chosen)} images in one episode; at most {MAX_IMAGES}")

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, part: slice) -> "VideoFrames":
        """Images part.start to part.stop of these."""
        other = object.__new__(VideoFrames)
        other.__dict__.update(self.__dict__)
        other._chosen = self._chosen[part]
        return other

    def __iter__(self) -> Iterator[np.ndarray]:
        if not len(self._chosen):
            return
        made, wanted = 0, self._shown[self._chosen]
        size: tuple[int, int] | None = None
        with self._opened() as (container, stream):
            self._seek_before(container, stream, self._keyframe_before())
            for frame in container.decode(stream):
                if frame.pts is None or frame.pts < wanted[made]:
                    continue
                if frame.pts != wanted[made] or frame.is_corrupt:
                    raise self._fault(f"image {made} does not decode: the file is damaged there")
                size = size or (frame.height, frame.width)
                if size != (frame.height, frame.width):
                    raise self._fault(f"image {made} is {frame.height}x{frame.width} after images of {size}")
                pixels = frame.to_ndarray(format="rgb24")
                while made < len(wanted) and wanted[made] == frame.pts:
                    made += 1
                    yield pixels
                if made == len(wanted):
                    return
        raise self._fault(f"{made} of {len(wanted)} images decode; the file is cut short or damaged")

    def identity(self) -> bytes:
        """Hash (xxh64, 8 bytes) of the compressed bytes from the keyframe before the first image to the last image, and
        of which of their frames are chosen: the same for the same packets in another file, or at another place in
        it."""
        if not len(self._chosen):
            return xxhash.xxh64().digest()
        wanted = self._shown[self._chosen]
        needed = (self._pts >= self._keyframe_before()) & (self._pts <= wanted[-1])
        digest = xxhash.xxh64(self._packet_hashes[needed].astype("<u8").tobytes())
        digest.update(np.searchsorted(np.sort(self._pts[needed]), wanted).astype("<i8").tobytes())
        return digest.digest()

    def _keyframe_before(self) -> int:
        """When the keyframe is shown from which the first image can be decoded, in ticks."""
        before = self._pts[self._is_key & (self._pts <= self._shown[self._chosen[0]])]
        if not len(before):
            raise self._fault("there is no keyframe before the first image")
        return int(before.max())

    def _nearest(self, times_s: np.ndarray, tolerance_s: float | None) -> np.ndarray:
        """Index in `_shown` of the frame nearest to each time."""
        if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
            raise self._fault("the times of its images are not finite or go backwards")
        if not len(times_s):
            self._scan(0.0, 0.0, tolerance_s)
            return np.zeros(0, np.int64)
        self._scan(float(times_s[0]), float(times_s[-1]), tolerance_s)
        shown_s = (self._shown - self._begin) * self._tick_s
        right = np.searchsorted(shown_s, times_s).clip(1, max(len(shown_s) - 1, 1))
        left = right - 1
        right = right.clip(0, len(shown_s) - 1)
        nearest = np.where(times_s - shown_s[left] <= shown_s[right] - times_s, left, right)
        off = np.abs(shown_s[nearest] - times_s)
        if (off > self._tolerance_s).any():
            worst = int(off.argmax())
            reason = f"no frame within {self._tolerance_s * 1e3:.1f} ms of {times_s[worst]:.3f} s (image {worst})"
            raise self._fault(f"{reason}; the nearest is {off[worst] * 1e3:.1f} ms off")
        return nearest

    def _scan(self, from_s: float | None, until_s: float | None, tolerance_s: float | None) -> None:
        """Reads packets without decoding them: all, or those that images from `from_s` to `until_s` may need."""
        pts, keys, hidden, hashes = [], [], [], []
        with self._opened() as (container, stream):
            self._tick_s = float(stream.time_base)
            self._begin = stream.start_time or 0
            self._tolerance_s = _period_s(stream) if tolerance_s is None else tolerance_s
            until = None
            if from_s is not None and until_s is not None:
                until = self._begin + (until_s + self._tolerance_s) / self._tick_s
                # AVI has nothing before its begin, and refuses to look there.
                first = max(0, int((from_s - self._tolerance_s) / self._tick_s))
                self._seek_before(container, stream, self._begin + first)
            for packet in container.demux(stream):
                shown = _shown_at(packet)
                if shown is None:
                    continue
                if until is not None and packet.dts is not None and packet.dts > until:
                    break  # no packet is shown before it is decoded
                pts.append(shown)
                keys.append(packet.is_keyframe)
                hidden.append(packet.is_discard)  # cut off by an edit list, but later frames are decoded from it
                hashes.append(xxhash.xxh64_intdigest(packet))
            declared = stream.frames
        self._pts, self._is_key = np.array(pts, np.int64), np.array(keys, bool)
        self._packet_hashes = np.array(hashes, np.uint64)
        self._shown = np.unique(self._pts[~np.array(hidden, bool)])
        if not len(self._shown):
            raise self._fault("no frame is there; the file is cut short or shorter than the episode")
        if until is None and len(pts) < declared:
            raise self._fault(f"{len(pts)} of {declared} declared frames are there; the file is cut short")
        if len(self._shown) + sum(hidden) < len(pts):
            raise self._fault("two of its frames have the same time")

    def _seek_before(self, container, stream, ticks: int) -> None:
        """To a keyframe that is shown at or before `ticks`. Files are sought by time of decoding, which may lead to a
        keyframe that is shown later; then further back."""
        back = 0
        while ticks - back > self._begin:
            container.seek(ticks - back, stream=stream, backward=True)
            shown = next((_shown_at(packet) for packet in container.demux(stream)), None)
            if shown is not None and shown <= ticks:
                container.seek(ticks - back, stream=stream, backward=True)
                return
            back = 2 * back or max(1, int(1 / self._tick_s))
        container.seek(min(self._begin, ticks), stream=stream, backward=True)

    @contextmanager
    def _opened(self):
        """(container, its first video stream), limits set. What FFmpeg cannot read becomes a DataError."""
        try:
            import av
        except ImportError as error:
            raise ImportError("reading videos needs PyAV: pip install 'oxe-pipeline[raw]'") from error
        if not self._path.is_file():
            raise self._fault(f"no such file: {self._path.name}")
        try:
            with av.open(str(self._path), options=_OPEN_OPTIONS, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise self._fault("holds no video stream; copy it again if it should")
                stream = container.streams.video[0]
                self._check_size(stream)
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
                yield container, stream
        except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
            if isinstance(error, DataError):
                raise
            raise self._fault(f"not a whole video, copy it again: {_one_line(error)}") from None

    def _check_size(self, stream) -> None:
        if stream.codec_context is None:
            raise self._fault("its codec is not known; re-encode it, e.g. as H.264")
        height, width = stream.codec_context.height, stream.codec_context.width
        sides_fit = min(height, width) >= MIN_SIDE_PX and max(height, width) <= MAX_SIDE_PX
        if not sides_fit or height * width > MAX_PIXELS:
            raise self._fault(f"images of {height}x{width} pixels; sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} are sane")

    def _fault(self, reason: str) -> DataError:
        return DataError(f"{self._path.name}: {reason}", episode=self._episode, field=self._field)


def _shown_at(packet) -> int | None:
    """When the packet's frame is shown, in ticks. AVI notes only when it is decoded; the empty packet at the end says
    nothing."""
    return packet.dts if packet.pts is None else packet.pts


def _period_s(stream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.0


def _one_line(error: BaseException) -> str:
    """What is wrong, without the path, which differs from machine to machine."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
