"""Raw folders of any number of episodes for timing builders: images with the entropy of real ones, in real layouts.

One file or folder is written and hard-linked as often as asked for, where the layout allows it, so that a hundred
episodes take the disk of one; LeRobot's table and a TFRecord file hold them all.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.build_memory import write_raw_episode, write_raw_folder
from benchmarks.scenes import encoded_scenes, scene

STEPS = 50
VIDEO_PX = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFolder:
    builder: str
    """Folder below builders/."""
    spec: str
    passes_jpeg: bool
    """Whether images go through as they are."""
    write: Callable[[Path, int], list[bytes]]
    """Writes so many episodes of STEPS steps into a folder that is not there yet; gives the images of one episode, if
    they are JPEG."""


def write_bridge(folder: Path, episodes: int) -> list[bytes]:
    """Two 480 px cameras."""
    one = folder.with_name(folder.name + "_one")
    write_raw_episode(one)
    write_raw_folder(folder, one, episodes)
    return [path.read_bytes() for path in sorted(one.rglob("*.jpg"))]


def write_aloha(folder: Path, episodes: int) -> list[bytes]:
    """Mobile ALOHA: three cameras of 640x480 at JPEG quality 50, rows padded to the longest."""
    import h5py
    import simplejpeg

    from samples.aloha_layout import MOBILE_CAMERAS, write_episode

    first = folder / "task" / "episode_0.hdf5"
    write_episode(first, steps=STEPS, compressed=True, mobile=True)
    rng, images = np.random.default_rng(0), []
    with h5py.File(first, "r+") as file:
        for number, camera in enumerate(MOBILE_CAMERAS):
            encoded = [simplejpeg.encode_jpeg(scene(rng, 640)[:480], quality=50) for _ in range(STEPS)]
            rows = np.zeros((STEPS, max(map(len, encoded))), np.uint8)
            for row, image in zip(rows, encoded, strict=True):
                row[: len(image)] = np.frombuffer(image, np.uint8)
            del file[f"observations/images/{camera}"]
            file.create_dataset(f"observations/images/{camera}", data=rows, chunks=(1, rows.shape[1]))
            file["compress_len"][number] = list(map(len, encoded))
            images += encoded
    for number in range(1, episodes):
        os.link(first, first.with_name(f"episode_{number}.hdf5"))
    return images


def write_rlds(folder: Path, episodes: int) -> list[bytes]:
    """jaco_play as published: two 224 px cameras. TFDS encodes one episode; its record is repeated."""
    from oxe_pipeline.ingest.crc32c import masked_crc32c
    from tests.ingest.published_structure import make_episode, write_directory

    images = encoded_scenes(2 * STEPS, image_px=224)
    filled = {"observation/image": images[:STEPS], "observation/image_wrist": images[STEPS:]}
    path = write_directory(folder, "jaco_play", make_episode("jaco_play", filled, steps=STEPS))
    [file] = path.glob("*.tfrecord*")
    record = file.read_bytes()
    assert masked_crc32c(record[:8]) == struct.unpack("<I", record[8:12])[0]
    with file.open("wb") as out:
        for _ in range(episodes):
            out.write(record)
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('"shardLengths": ["1"]', f'"shardLengths": ["{episodes}"]'))
    return images


def write_lerobot(folder: Path, episodes: int) -> list[bytes]:
    """LeRobot 3.0: two 224 px cameras as H.264, two episodes a file; a scene that moves slightly."""
    from samples.lerobot_layout import Demonstration, Recorder, write_v30

    rng = np.random.default_rng(0)
    view = scene(rng, VIDEO_PX + STEPS)
    frames = np.stack([view[step : step + VIDEO_PX, step : step + VIDEO_PX] for step in range(STEPS)])
    demonstration = Demonstration(
        state=rng.normal(0, 0.2, (STEPS, 7)),
        action=rng.normal(0, 0.02, (STEPS, 7)),
        images={"observation.images.front": frames, "observation.images.side": frames[::-1]},
        tasks=["put it into the drawer"] * STEPS,
    )
    write_v30(folder, [demonstration] * episodes, Recorder(fps=5, robot_type="arm", names=list("xyzrpyg")))
    return []


def write_libero(folder: Path, episodes: int) -> list[bytes]:
    """LIBERO: two demos of two 128 px cameras a file."""
    from samples.libero_layout import VIEWS, write_task
    from samples.scene import Recording

    rng = np.random.default_rng(0)
    numbers = {"hand_position": 3, "target_position": 3, "finger_opening": 2, "joint_position": 7, "joint_velocity": 7}
    recordings = [
        Recording(
            seed=seed,
            hand_matrix=[np.eye(3)] * (STEPS + 1),
            simulator_state=list(rng.normal(size=(STEPS + 1, 40))),
            images={name: [scene(rng, 128) for _ in range(STEPS + 1)] for name in VIEWS},
            displacement=list(rng.normal(0, 0.01, (STEPS, 3))),
            gripper_open=[1.0] * STEPS,
            **{name: list(rng.normal(0, 0.1, (STEPS + 1, width))) for name, width in numbers.items()},
        )
        for seed in range(2)
    ]
    folder.mkdir(parents=True)
    first = folder / "KITCHEN_SCENE1_open_the_drawer_demo.hdf5"
    write_task(first, recordings, environment="Libero", problem="libero", sentence="open the drawer")
    for number in range(1, (episodes + 1) // 2):
        os.link(first, folder / f"KITCHEN_SCENE{number + 1}_open_the_drawer_demo.hdf5")
    return []


RAW_FOLDERS: dict[str, RawFolder] = {
    "bridge": RawFolder(builder="bridge", spec="bridge_dataset", passes_jpeg=True, write=write_bridge),
    "aloha": RawFolder(builder="aloha", spec="mobile_aloha_as_rgb", passes_jpeg=True, write=write_aloha),
    "rlds": RawFolder(builder="oxe", spec="jaco_play", passes_jpeg=True, write=write_rlds),
    "lerobot": RawFolder(builder="lerobot", spec="metaworld_lerobot", passes_jpeg=False, write=write_lerobot),
    "libero": RawFolder(builder="libero", spec="libero", passes_jpeg=False, write=write_libero),
}


def source_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_all(folder: Path) -> int:
    """Reads every file once, as it comes; returns the bytes."""
    total = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            total += sum(len(block) for block in iter(lambda: file.read(1 << 20), b""))
    return total
