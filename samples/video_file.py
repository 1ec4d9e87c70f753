"""Writes a video as robot recorders do, by one thread: the same images give the same bytes with the same encoder."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

OPTIONS = {
    "libsvtav1": {"preset": "12", "g": "2", "crf": "30"},
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none"},
    "mpeg4": {"qscale": "2", "global_quality": "236", "flags": "+qscale"},
}
"""Codec to options; those of AV1 are LeRobot's own, with a faster preset."""


def write_video(
    path: Path, images: Iterable[np.ndarray], *, rate_hz: int, codec: str, options: dict[str, str] | None = None
) -> int:
    """Number of images written, each uint8 [H, W, 3] RGB with even sides. Folders above `path` are made. `options` of
    the encoder replace OPTIONS."""
    try:
        import av
        from av.video.stream import VideoStream
    except ImportError as error:
        raise ImportError("writing videos needs PyAV: pip install 'oxe-pipeline[raw]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=rate_hz, options=OPTIONS.get(codec, {}) if options is None else options
        )
        if not isinstance(stream, VideoStream):
            raise ValueError(f"{codec} is no video codec")
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for image in images:
            if not written:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = written
            container.mux(stream.encode(frame))
            written += 1
        container.mux(stream.encode(None))
    return written
