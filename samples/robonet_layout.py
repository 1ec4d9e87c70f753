"""Writes small RoboNet files in both of their image encodings, with the habit that readers have to meet: each encoder
took the lab's images for another channel order than the file says."""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from samples.drawn import drawn_frames
from samples.layout_command import layout_parser, write_layout
from samples.video_file import write_video

Encoding = Literal["mp4", "jpg"]
ImageFormat = Literal["RGB", "BGR"]

HEIGHT, WIDTH = 48, 64
LOW, HIGH = [0.4, -0.2, 0.1, 0.0, 0.0], [0.8, 0.2, 0.4, 3.1, 1.0]


def pictures(states: int, camera: int) -> np.ndarray:
    """uint8 [T, H, W, 3] RGB: what camera `camera` really saw."""
    return drawn_frames(states, height=HEIGHT, width=WIDTH, view=camera)


def write_episode(
    path: Path,
    *,
    encoding: Encoding = "mp4",
    image_format: ImageFormat = "RGB",
    states: int = 6,
    action_width: int = 4,
    cameras: int = 2,
) -> np.ndarray:
    """One file. Gives back its states [T, 5], the gripper closing halfway."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    step = np.arange(states)
    state = np.stack([0.5 + 0.01 * step, 0.02 * step, 0.2 + 0 * step, 0.1 * step, (step > states // 2) * 1.0], axis=1)
    with h5py.File(path, "w") as file:
        file["file_version"] = "0.1.1"
        env = file.create_group("env")
        env.attrs["n_cams"], env.attrs["cam_encoding"] = cameras, encoding
        env["state"] = state.astype(np.float32)
        env["low_bound"], env["high_bound"] = np.tile(LOW, (states, 1)), np.tile(HIGH, (states, 1))
        change = np.diff(state, axis=0)
        file["policy/actions"] = change[:, :action_width].astype(np.float32)
        file.create_group("misc")
        said = file.create_group("metadata").attrs
        said["robot"], said["primitives"], said["adim"], said["sdim"] = "sawyer", "autograsp", action_width, 5
        for camera in range(cameras):
            group = env.create_group(f"cam{camera}_video")
            images = pictures(states, camera)
            if encoding == "mp4":
                _write_mp4(group, images if image_format == "RGB" else images[..., ::-1], image_format)
            else:
                _write_jpegs(group, images[..., ::-1] if image_format == "RGB" else images, image_format)
    return state


def _write_mp4(group, as_encoded: np.ndarray, image_format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mp4"
        write_video(path, as_encoded, rate_hz=5, codec="libx264", options={"crf": "10", "preset": "veryfast"})
        array = group.create_dataset("frames", data=np.frombuffer(path.read_bytes(), np.uint8))
    array.attrs["shape"], array.attrs["T"] = as_encoded.shape[1:], len(as_encoded)
    array.attrs["image_format"] = image_format


def _write_jpegs(group, as_encoded: np.ndarray, image_format: str) -> None:
    import simplejpeg

    for number, image in enumerate(as_encoded):
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=95, colorsubsampling="444")
        array = group.create_dataset(f"frame{number}", data=np.frombuffer(data, np.uint8))
        array.attrs["shape"], array.attrs["image_format"] = image.shape, image_format


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)

    def write(options: argparse.Namespace) -> None:
        kinds = itertools.cycle(itertools.product(get_args(Encoding), get_args(ImageFormat)))
        for number, (encoding, image_format) in zip(range(options.episodes), kinds, strict=False):
            file = options.out / f"sawyer_traj{number}.hdf5"
            write_episode(file, encoding=encoding, image_format=image_format, states=20 + number)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
