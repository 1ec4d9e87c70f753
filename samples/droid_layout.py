"""Writes demonstrations as DROID's labs record them: HDF5, one MP4 a camera, metadata, common file of sentences.

    python -m samples.droid_layout --out FOLDER

makes a small tree from recorded sample episodes, with the collection's usual dirt: an MP4 that is one frame short,
stereo files, an episode without sentences in `failure`, idle steps. Layout: droid-dataset/droid, the-droid-dataset.md.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samples.layout_command import layout_parser, write_layout
from samples.lerobot_layout import recorded_demonstrations
from samples.video_file import write_video

LAB, USER, DAY = "SAMP", "12ab34cd", "2026-11-23"
CONTROL_HZ = 15
METRES_PER_UNIT, RADIANS_PER_UNIT, JOINT_RADIANS_PER_UNIT = 0.075, 0.15, 0.2
WRIST_TYPE, EXTERIOR_TYPE = 0, 1
ANNOTATIONS = "aggregated-annotations-030724.json"
MP4_CODEC = "mpeg4"


@dataclass(frozen=True, kw_only=True)
class DroidEpisode:
    """T rows and up to T images a camera."""

    position: np.ndarray
    """[T, 6]: metres, roll-pitch-yaw."""
    gripper: np.ndarray
    """[T]: 0 open, 1 closed."""
    velocity: np.ndarray
    """[T, 6]: commanded, 1 is 0.075 m or 0.15 rad a step."""
    images: dict[str, np.ndarray]
    """Camera serial to uint8 [T or fewer, H, W, 3]. The first serial is the hand's."""
    sentences: Sequence[str] = ()
    success: bool = True
    stereo: bool = False
    """Whether <serial>-stereo.mp4 lies beside each video."""
    movement_enabled: np.ndarray | None = None
    attributes: dict[str, str] = field(default_factory=dict)


def write_tree(root: Path, episodes: Sequence[DroidEpisode]) -> list[str]:
    """Paths below `root` of the episodes written, in order of their time."""
    paths, annotations = [], {}
    for number, episode in enumerate(episodes):
        outcome = "success" if episode.success else "failure"
        path = f"{LAB}/{outcome}/{DAY}/Mon_Nov_23_10:{number:02d}:00_2026"
        uuid = f"{LAB}+{USER}+{DAY}-10h-{number:02d}m-00s"
        write_episode(root / path, episode, uuid)
        paths.append(path)
        if episode.sentences:
            said = {f"language_instruction{i}": text for i, text in enumerate(episode.sentences, 1)}
            annotations[uuid] = said
    (root / ANNOTATIONS).write_text(json.dumps(annotations, indent=1))
    return paths


def write_episode(folder: Path, episode: DroidEpisode, uuid: str) -> None:
    """trajectory.h5, metadata_<uuid>.json and recordings/MP4/ in `folder`."""
    folder.mkdir(parents=True)
    _write_rows(folder / "trajectory.h5", episode)
    for serial, images in episode.images.items():
        write_video(folder / f"recordings/MP4/{serial}.mp4", images, rate_hz=CONTROL_HZ, codec=MP4_CODEC)
        if episode.stereo:
            both = np.concatenate([images, images], axis=2)
            write_video(folder / f"recordings/MP4/{serial}-stereo.mp4", both, rate_hz=CONTROL_HZ, codec=MP4_CODEC)
    wrist, *outside = episode.images
    metadata = {
        "uuid": uuid,
        "lab": LAB,
        "user_id": USER,
        "date": DAY,
        "building": "sample building",
        "scene_id": 7,
        "success": episode.success,
        "current_task": "Do any task",
        "trajectory_length": len(episode.velocity),
        "wrist_cam_serial": wrist,
        **{f"ext{number}_cam_serial": serial for number, serial in enumerate(sorted(outside), 1)},
    }
    (folder / f"metadata_{uuid}.json").write_text(json.dumps(metadata))


def _write_rows(path: Path, episode: DroidEpisode) -> None:
    import h5py

    steps = len(episode.velocity)
    enabled = episode.movement_enabled
    scale = np.array([METRES_PER_UNIT] * 3 + [RADIANS_PER_UNIT] * 3)
    joints = np.linspace(0, 1, steps)[:, None] * np.ones(7)
    columns = {
        "observation/robot_state/cartesian_position": episode.position,
        "observation/robot_state/joint_positions": joints,
        "observation/robot_state/gripper_position": episode.gripper,
        "observation/controller_info/movement_enabled": np.ones(steps, bool) if enabled is None else enabled,
        "observation/timestamp/control/step_start": 1000 * np.arange(steps) // CONTROL_HZ,
        "action/cartesian_velocity": episode.velocity,
        "action/cartesian_position": episode.position + episode.velocity * scale,
        "action/joint_velocity": np.gradient(joints, axis=0) / JOINT_RADIANS_PER_UNIT,
        "action/joint_position": joints,
        "action/gripper_position": episode.gripper,
        "action/gripper_velocity": np.gradient(episode.gripper) * 4,
    }
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values)
        for number, serial in enumerate(episode.images):
            kind = WRIST_TYPE if number == 0 else EXTERIOR_TYPE
            file.create_dataset(f"observation/camera_type/{serial}", data=np.full(steps, kind))
        # The release keeps extrinsics of cameras that were unplugged long ago.
        file.create_dataset("observation/camera_extrinsics/10000001_left", data=np.zeros((steps, 6)))
        file.attrs.update(episode.attributes)


def recorded_episodes(bridge: Path, count: int) -> list[DroidEpisode]:
    """Sample episodes, dressed up: their second camera plays the hand's, the mirror image of their first is the second
    from outside, their gripper is turned to 0 open."""
    episodes = []
    for number, demo in enumerate(recorded_demonstrations(bridge, count)):
        front, side = demo.images["observation.images.front"], demo.images["observation.images.side"]
        velocity = np.concatenate(
            [demo.action[:, :3] / METRES_PER_UNIT, demo.action[:, 3:6] / RADIANS_PER_UNIT], axis=1
        )
        short = number == 1
        episodes.append(
            DroidEpisode(
                position=demo.state[:, :6].astype(np.float64),
                gripper=1 - np.clip(demo.state[:, 6], 0, 1).astype(np.float64),
                velocity=velocity.astype(np.float64),
                images={"13062452": side, "22008760": front[: len(front) - short], "24400334": front[:, :, ::-1]},
                sentences=[] if number == 2 else [f"{demo.tasks[0].capitalize()}. ", "do it once more"][: 2 - short],
                success=number != 2,
                stereo=number == 0,
                movement_enabled=np.asarray(velocity.any(axis=1)),
            )
        )
    return episodes


def main(argv: Sequence[str] | None = None) -> int:
    recordings = Path(__file__).parent / "metaworld_bridge"
    return write_layout(
        layout_parser(__doc__, episodes=3),
        argv,
        lambda options: write_tree(options.out, recorded_episodes(recordings, options.episodes)),
    )


if __name__ == "__main__":
    sys.exit(main())
