"""Writes small replay buffers in the real layouts of Diffusion Policy and UMI, with the zarr package itself.

Scenes are drawn: a bright square that moves over a gradient. Habits of the real files are kept, because a reader has to
meet them: PushT's images are float32 in chunks that episodes share, the real robot's videos run at three times the rate
of its steps, UMI's images are JPEG XL in a zip and its actions are not there. The same call writes the same values.
"""

import argparse
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from samples.layout_command import layout_parser, write_layout
from samples.video_file import write_video

VIDEO_FRAMES_A_STEP = 3
REAL_HZ = 10


def draw(step: int, *, side_px: int, view: int = 0) -> np.ndarray:
    """uint8 [side, side, 3]: a square that moves one pixel a step over a gradient, which is bluer in later views."""
    ramp = np.linspace(0, 200, side_px).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(60 + 60 * view)), axis=2)
    start = step % (side_px - 6)
    image[start : start + 6, start : start + 6] = (250, 40, 40)
    return image


def write_pusht(path: Path, lengths: Sequence[int] = (7, 5)) -> None:
    """`pusht_cchi_v7_replay.zarr`, a folder: pixels of 0..512, targets absolute and reached with the next step."""
    total = sum(lengths)
    step = np.arange(total, dtype=np.float32)
    angle = 0.3 * np.arange(total + 1)
    told = np.stack([256 + 90 * np.cos(angle), 256 + 70 * np.sin(angle)], axis=1)
    agent = told[:-1]
    block = np.stack([250 + step, 260 + step, np.mod(0.2 * step, 2 * np.pi)], axis=1)
    columns = {
        "img": np.stack([draw(int(t), side_px=96) for t in step]).astype(np.float32),
        "state": np.concatenate([agent, block], axis=1).astype(np.float32),
        "action": told[1:].astype(np.float32),
        "keypoint": np.zeros((total, 9, 2), np.float32),
        "n_contacts": np.zeros((total, 1), np.float32),
    }
    write_replay(path, columns, lengths, image_rows_a_chunk=4)


def write_real_session(folder: Path, lengths: Sequence[int] = (6, 8), cameras: Sequence[int] = (0, 1)) -> None:
    """`<folder>/replay_buffer.zarr` and `<folder>/videos/<episode>/<camera>.mp4`."""
    poses = [_turning_poses(length) for length in lengths]
    columns = {
        "timestamp": np.concatenate([1.7e9 + 100 * k + np.arange(n) / REAL_HZ for k, n in enumerate(lengths)]),
        "action": np.concatenate([np.vstack([pose[1:], pose[-1:]]) for pose in poses]),
        "stage": np.zeros(sum(lengths), np.int64),
        "robot_eef_pose": np.concatenate(poses),
        "robot_joint": np.concatenate([np.tile(np.linspace(0, 1, n)[:, None], (1, 6)) for n in lengths]),
    }
    write_replay(folder / "replay_buffer.zarr", columns, lengths)
    for episode, length in enumerate(lengths):
        for camera in cameras:
            path = folder / "videos" / str(episode) / f"{camera}.mp4"
            frames = [draw(k, side_px=96, view=camera) for k in range(VIDEO_FRAMES_A_STEP * length)]
            write_video(path, frames, rate_hz=VIDEO_FRAMES_A_STEP * REAL_HZ, codec="libx264")


def write_umi(path: Path, lengths: Sequence[int] = (6, 5), robots: int = 1, side_px: int = 224) -> None:
    """`dataset.zarr.zip` (or a folder, by the name's ending) of one or two grippers."""
    import imagecodecs.numcodecs

    total = sum(lengths)
    columns: dict[str, np.ndarray] = {}
    for robot in range(robots):
        pose = np.concatenate([_turning_poses(length) for length in lengths]) + 0.1 * robot
        columns[f"robot{robot}_eef_pos"] = pose[:, :3].astype(np.float32)
        columns[f"robot{robot}_eef_rot_axis_angle"] = pose[:, 3:].astype(np.float32)
        columns[f"robot{robot}_gripper_width"] = np.linspace(0.085, 0.0, total)[:, None].astype(np.float32)
        columns[f"robot{robot}_demo_start_pose"] = np.repeat(pose[:1], total, axis=0)
        columns[f"robot{robot}_demo_end_pose"] = np.repeat(pose[-1:], total, axis=0)
        columns[f"camera{robot}_rgb"] = np.stack([draw(t + 3 * robot, side_px=side_px) for t in range(total)])
    image_codec = imagecodecs.numcodecs.Jpegxl(level=99, numthreads=1)
    write_replay(path, columns, lengths, image_codec=image_codec, number_codec=None)


def write_replay(
    path: Path,
    columns: Mapping[str, np.ndarray],
    lengths: Sequence[int],
    *,
    image_rows_a_chunk: int = 1,
    image_codec=None,
    number_codec="blosc",
) -> None:
    """One Zarr v2 store, a zip where the name ends so: `columns` [N, ...] under data/, and the ends of episodes."""
    import numcodecs
    import zarr

    blosc = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_suffix(".unpacked") if path.suffix == ".zip" else path
    root = zarr.open_group(folder, mode="w", zarr_format=2)
    for name, values in columns.items():
        is_image = values.ndim == 4
        rows = image_rows_a_chunk if is_image else len(values)
        codec = (image_codec or blosc) if is_image else blosc if number_codec else None
        array = root.create_array(
            f"data/{name}",
            shape=values.shape,
            dtype=values.dtype,
            chunks=(rows, *values.shape[1:]),
            compressors=codec,
        )
        array[:] = values
    root.create_array("meta/episode_ends", data=np.cumsum(lengths, dtype=np.int64), compressors=None)
    if folder != path:
        _pack(folder, path)
        shutil.rmtree(folder)


def _pack(folder: Path, path: Path) -> None:
    """A zip file that bears no date: the zarr package would write the time of day into it."""
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            packed.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())


def _turning_poses(length: int) -> np.ndarray:
    """[T, 6] metres and rotation vectors: a tool that points down and turns through the angle pi, where a rotation
    vector jumps."""
    from scipy.spatial.transform import Rotation

    step = np.arange(length)
    about_z, about_x = 0.15 * step, np.pi - 0.2 + 0.1 * step
    turned = Rotation.from_euler("xz", np.stack([about_x, about_z], axis=1))
    position = np.stack([0.3 + 0.01 * step, 0.02 * step, 0.2 - 0.005 * step], axis=1)
    return np.concatenate([position, turned.as_rotvec()], axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = layout_parser(__doc__, episodes=6)
    layouts = ("pusht", "real", "umi", "umi_bimanual")
    parser.add_argument("--layout", choices=layouts, default="pusht", help="(default: %(default)s)")

    def write(options: argparse.Namespace) -> None:
        lengths = [20 + number for number in range(options.episodes)]
        if options.layout == "pusht":
            write_pusht(options.out / "pusht_cchi_v7_replay.zarr", lengths)
        elif options.layout == "real":
            write_real_session(options.out, lengths)
        else:
            robots = 2 if options.layout == "umi_bimanual" else 1
            write_umi(options.out / "dataset.zarr.zip", lengths, robots=robots, side_px=64)

    return write_layout(parser, argv, write)


if __name__ == "__main__":
    sys.exit(main())
