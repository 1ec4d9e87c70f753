"""The raw formats that are fuzzed: how a small sample of each is written, and how its episodes are listed and read, the
way the builder does it but without TFDS."""

import functools
import pickle
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builders.oxe.records import Records, read_record
from oxe_pipeline.episode import SourceEpisode
from oxe_pipeline.ingest import (
    adroit,
    agibot,
    aloha,
    bag,
    bridge_raw,
    calvin,
    calvin_index,
    droid_raw,
    furniture_bench,
    gnm,
    hdf5_demo,
    lerobot,
    lerobot_meta,
    maniskill,
    recon,
    robomind,
    robomind_labels,
    robonet,
    roboturk,
    zarr_replay,
)
from oxe_pipeline.ingest.raw_folder import inside
from oxe_pipeline.ingest.restricted_pickle import load_pickle
from oxe_pipeline.ingest.rlds import RldsDirectory
from samples import (
    adroit_layout,
    agibot_layout,
    aloha_layout,
    calvin_layout,
    droid_layout,
    furniture_bench_layout,
    gnm_layout,
    lerobot_layout,
    maniskill_layout,
    robomimic_layout,
    robomind_layout,
    robonet_layout,
    roboturk_layout,
    rosbag_layout,
    zarr_replay_layout,
)
from samples.drawn import drawn_frames
from schemas.spec import DatasetSpec

Opened = tuple[Iterable[Any], Callable[[Any], SourceEpisode]]
"""Keys of the episodes, and what reads one."""
STEPS = 4
EMBODIMENT = "h5_franka_3rgb"
RECORDED = "metaworld/tabletop/push_puck/00/2026-11-23_10-00-00/raw/traj_group0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """Pickles, because a worker process is told what to read."""

    spec: str
    """Name of the data set; "" for a reader that makes no episodes."""
    write: Callable[[Path], object]
    """Writes a sample into a folder that is there and empty."""
    open: Callable[[Path, DatasetSpec], Opened]


def open_folder(root: Path, spec: DatasetSpec, *, find: Callable, read: Callable) -> Opened:
    """For readers that need no more than the folder."""
    return find(root), functools.partial(read, root=root)


def of(reader) -> Callable[[Path, DatasetSpec], Opened]:
    return functools.partial(open_folder, find=reader.find_episodes, read=reader.read_episode)


def write_bridge(root: Path) -> None:
    recorded = Path(adroit_layout.__file__).parent / "metaworld_bridge" / RECORDED
    for name in ("traj0", "traj4"):
        shutil.copytree(recorded / name, root / RECORDED / name)


def open_bridge(root: Path, spec: DatasetSpec) -> Opened:
    cameras = tuple(int(camera.source[-1]) for camera in spec.cameras.values())
    return bridge_raw.find_episodes(root), functools.partial(bridge_raw.read_episode, root=root, cameras=cameras)


def write_robomimic(root: Path) -> None:
    robomimic_layout.write_file(root / "image.hdf5", steps=STEPS)


def write_maniskill(root: Path) -> None:
    maniskill_layout.write_file(root / "a.h5", ids=(0, 1), steps=STEPS)


def write_furniture_bench(root: Path) -> None:
    furniture_bench_layout.write_episode(root / "a.pkl", steps=STEPS, image_px=16)


def write_adroit(root: Path) -> None:
    adroit_layout.write_file(root, [adroit_layout.make_demo(STEPS, seed=number) for number in range(2)])


def open_adroit(root: Path, spec: DatasetSpec) -> Opened:
    return adroit.find_episodes(root, spec.published_name), functools.partial(adroit.read_episode, root=root)


def write_aloha(root: Path, **options) -> None:
    for number in range(2):
        aloha_layout.write_episode(
            root / "fold" / f"episode_{number}.hdf5", steps=STEPS, height=16, width=16, **options
        )


def open_aloha(root: Path, spec: DatasetSpec) -> Opened:
    return aloha.find_episodes(root)[0], functools.partial(aloha.read_episode, root=root)


def write_robomind(root: Path) -> None:
    paths = [robomind_layout.write_episode(root, EMBODIMENT, task, steps=STEPS) for task in ("a", "b")]
    summaries = {path.removesuffix("/data/trajectory.hdf5"): "puts it down" for path in paths}
    robomind_layout.write_labels(root, EMBODIMENT, {"a": ["put it down"], "b": ["take it up"]}, summaries)


def open_robomind(root: Path, spec: DatasetSpec) -> Opened:
    embodiments = frozenset({EMBODIMENT})
    labels = robomind_labels.find_label_files(root, embodiments)
    read = functools.partial(robomind.read_episode, root=root, embodiments=embodiments, labels=labels)
    return robomind.find_episodes(root, embodiments), read


def open_agibot(root: Path, spec: DatasetSpec) -> Opened:
    videos = [camera.source for camera in spec.cameras.values() if camera.source.startswith("videos/")]
    cameras = tuple(source.removeprefix("videos/") for source in videos)
    read = functools.partial(agibot.read_episode, root=root, cameras=cameras, spans=True)
    return agibot.find_episodes(root, spans=True)[0], read


def demonstrations() -> list[lerobot_layout.Demonstration]:
    """Two, of the metaworld_lerobot data set."""
    rng = np.random.default_rng(0)
    return [
        lerobot_layout.Demonstration(
            state=rng.normal(size=(STEPS, 7)),
            action=rng.normal(size=(STEPS, 7)),
            images={
                f"observation.images.{name}": drawn_frames(STEPS, height=48, width=64) for name in ("front", "side")
            },
            tasks=[f"move {number}"] * STEPS,
        )
        for number in range(2)
    ]


def write_lerobot(root: Path, write: Callable) -> None:
    recorder = lerobot_layout.Recorder(fps=5, robot_type="arm", names=list("xyzrpyg"), codec="libx264")
    write(root / "raw", demonstrations(), recorder)
    for entry in (root / "raw").iterdir():
        entry.rename(root / entry.name)
    (root / "raw").rmdir()


def open_lerobot(root: Path, spec: DatasetSpec) -> Opened:
    optional = frozenset(camera.source for camera in spec.cameras.values() if camera.missing == "absent")
    lerobot_meta.read_info(root)
    found = lerobot.find_episodes(root, cameras=spec.source_keys(), optional=optional)
    features = sorted(spec.source_keys())
    return found.keys, functools.partial(lerobot.read_episode, root=root, features=features, optional=optional)


def write_droid(root: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [
        droid_layout.DroidEpisode(
            position=rng.uniform(-0.5, 0.5, (STEPS, 6)),
            gripper=rng.uniform(0, 1, STEPS),
            velocity=rng.uniform(0.1, 1, (STEPS, 6)),
            images={serial: drawn_frames(STEPS, height=48, width=64) for serial in ("30000000", "20000000", "900000")},
            sentences=["put the cup down"],
        )
        for _ in range(2)
    ]
    droid_layout.write_tree(root, episodes)


def open_droid(root: Path, spec: DatasetSpec) -> Opened:
    cameras = spec.cameras.values()
    read = functools.partial(
        droid_raw.read_episode,
        root=root,
        cameras=frozenset(camera.source for camera in cameras),
        optional=frozenset(camera.source for camera in cameras if camera.missing == "absent"),
    )
    return droid_raw.find_episodes(root, droid_raw.read_annotations(root)), read


def write_calvin(root: Path) -> None:
    windows = [calvin_layout.Window(start=60, end=63, sentence="lift the block", task="lift")]
    calvin_layout.write_split(root / "task_D_D" / "training", [(60, 64), (70, 71)], windows)


def open_calvin(root: Path, spec: DatasetSpec) -> Opened:
    folders = calvin_index.find_split_folders(root)
    segments = [segment for folder in folders for segment in calvin_index.language_windows(root, folder)]
    return segments, functools.partial(calvin.read_episode, root=root)


def write_gnm(root: Path) -> None:
    for number in range(2):
        gnm_layout.write_folder(root / "drives" / f"run_{number}", gnm_layout.make_drive(STEPS, seed=number))


def write_recon(root: Path) -> None:
    gnm_layout.write_recon(root / "jackal_2019.hdf5", gnm_layout.make_drive(STEPS))


def write_roboturk(root: Path) -> None:
    for number in range(2):
        roboturk_layout.write_demo(
            root / "SawyerTowerCreation_aligned_dataset.hdf5", "user_1", f"demo_{number}", steps=STEPS, seed=number
        )


def write_robonet(root: Path) -> None:
    robonet_layout.write_episode(root / "a.hdf5", encoding="mp4", states=STEPS)
    robonet_layout.write_episode(root / "b.hdf5", encoding="jpg", image_format="BGR", states=STEPS)


def write_zarr_session(root: Path) -> None:
    zarr_replay_layout.write_real_session(root / "session", lengths=(STEPS, STEPS))


def write_pusht(root: Path) -> None:
    zarr_replay_layout.write_pusht(root / "pusht.zarr", lengths=(STEPS, STEPS))


def write_umi(root: Path) -> None:
    zarr_replay_layout.write_umi(root / "dataset.zarr.zip", lengths=(STEPS, STEPS))


def open_zarr(root: Path, spec: DatasetSpec) -> Opened:
    videos = [camera.source for camera in spec.cameras.values() if camera.source.startswith("videos/")]
    names = tuple(source.removeprefix("videos/") for source in videos)
    return zarr_replay.find_episodes(root), functools.partial(zarr_replay.read_episode, root=root, videos=names)


def write_bag(root: Path, kind: rosbag_layout.Kind) -> None:
    rosbag_layout.write_bag(root / "day" / ("a.bag" if kind == "ros1" else "a"), kind, seconds=1.2)


def open_bag(root: Path, spec: DatasetSpec) -> Opened:
    return bag.find_episodes(root, spec), functools.partial(bag.read_episode, root=root, spec=spec)


def write_rlds(root: Path) -> None:
    """By TFDS itself, so this one imports TensorFlow."""
    from tests.ingest.published_structure import make_episode, write_directory

    write_directory(root, "toto", make_episode("toto", steps=STEPS))


def open_rlds(root: Path, spec: DatasetSpec) -> Opened:
    directory = RldsDirectory(root)
    return Records(directory, [name for name, split in directory.splits.items() if split.files], keep_split=True), (
        read_record
    )


def write_pickle(root: Path) -> None:
    content = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1), "x", b"y", None], "c": ({1}, 2j, True)}
    for protocol in (2, 4, 5):
        (root / f"protocol_{protocol}.pkl").write_bytes(pickle.dumps(content, protocol=protocol))


def open_pickle(root: Path, spec: DatasetSpec) -> Opened:
    def read(path: Path):
        return load_pickle(inside(root, path, path.name))

    return sorted(root.glob("*.pkl")), read


FORMATS: dict[str, Format] = {
    "bridge": Format(spec="metaworld_bridge", write=write_bridge, open=open_bridge),
    "robomimic": Format(
        spec="robomimic",
        write=write_robomimic,
        open=of(hdf5_demo),
    ),
    "aloha": Format(spec="aloha", write=write_aloha, open=open_aloha),
    "mobile_aloha": Format(
        spec="mobile_aloha", write=functools.partial(write_aloha, compressed=True, mobile=True), open=open_aloha
    ),
    "maniskill": Format(
        spec="maniskill3_ee_delta",
        write=write_maniskill,
        open=of(maniskill),
    ),
    "robomind": Format(spec="robomind_franka", write=write_robomind, open=open_robomind),
    "agibot": Format(
        spec="agibot_world_skills",
        write=functools.partial(agibot_layout.write_episode, steps=6),
        open=open_agibot,
    ),
    "lerobot_2.1": Format(
        spec="metaworld_lerobot",
        write=functools.partial(write_lerobot, write=lerobot_layout.write_v21),
        open=open_lerobot,
    ),
    "lerobot_3.0": Format(
        spec="metaworld_lerobot",
        write=functools.partial(write_lerobot, write=lerobot_layout.write_v30),
        open=open_lerobot,
    ),
    "droid": Format(spec="droid_raw", write=write_droid, open=open_droid),
    "calvin": Format(spec="calvin", write=write_calvin, open=open_calvin),
    "gnm": Format(spec="gnm", write=write_gnm, open=of(gnm)),
    "recon": Format(spec="recon", write=write_recon, open=of(recon)),
    "roboturk": Format(spec="roboturk_real", write=write_roboturk, open=of(roboturk)),
    "robonet": Format(spec="robonet_raw", write=write_robonet, open=of(robonet)),
    "furniture_bench": Format(
        spec="furniture_bench",
        write=write_furniture_bench,
        open=of(furniture_bench),
    ),
    "adroit": Format(
        spec="adroit_door",
        write=write_adroit,
        open=open_adroit,
    ),
    "zarr_folder": Format(
        spec="diffusion_policy_real",
        write=write_zarr_session,
        open=open_zarr,
    ),
    "pusht_zarr": Format(
        spec="pusht_zarr",
        write=write_pusht,
        open=open_zarr,
    ),
    "umi_zip": Format(
        spec="umi",
        write=write_umi,
        open=open_zarr,
    ),
    "ros1_bag": Format(spec="rosbag_arm", write=functools.partial(write_bag, kind="ros1"), open=open_bag),
    "ros2_db3": Format(spec="rosbag_arm", write=functools.partial(write_bag, kind="sqlite3"), open=open_bag),
    "mcap": Format(spec="rosbag_arm", write=functools.partial(write_bag, kind="mcap"), open=open_bag),
    "rlds": Format(spec="toto", write=write_rlds, open=open_rlds),
    "pickle": Format(spec="", write=write_pickle, open=open_pickle),
}
