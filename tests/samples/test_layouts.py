"""`python -m samples.<format>_layout --out FOLDER`: whole, always the same, and never over something that exists."""

from pathlib import Path

import pytest

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


def with_options(main, *options: str):
    return lambda argv: main([*argv, *options])


COMMANDS = {
    "calvin": (calvin_layout.main, "training/lang_annotations/auto_lang_ann.npy"),
    "gnm": (gnm_layout.main, "drawn/jackal_1/traj_data.pkl"),
    "roboturk": (roboturk_layout.main, "SawyerTowerCreation_aligned_dataset.hdf5"),
    "droid": (droid_layout.main, "aggregated-annotations-030724.json"),
    "lerobot": (lerobot_layout.main, "meta/episodes/chunk-000/file-000.parquet"),
    "aloha": (aloha_layout.main, "wipe_the_table/episode_1.hdf5"),
    "maniskill": (maniskill_layout.main, "PickCube-v1/motionplanning/trajectory.rgb.pd_ee_delta_pose.json"),
    "robomimic": (robomimic_layout.main, "can/image.hdf5"),
    "robomind": (robomind_layout.main, "RoboMIND_v1_2_instr.csv"),
    "agibot": (agibot_layout.main, "task_info/task_327.json"),
    "adroit": (adroit_layout.main, "door-v0_demos.pickle"),
    "furniture_bench": (furniture_bench_layout.main, "low/square_table/2022-12-03-01:01:00.pkl"),
    "robonet": (robonet_layout.main, "sawyer_traj1.hdf5"),
    "rosbag": (rosbag_layout.main, "take_1/metadata.yaml"),
    "rosbag_ros1": (with_options(rosbag_layout.main, "--kind", "ros1"), "take_1.bag"),
    "rosbag_sqlite3": (with_options(rosbag_layout.main, "--kind", "sqlite3"), "take_1/take_1.db3"),
    "pusht": (zarr_replay_layout.main, "pusht_cchi_v7_replay.zarr/data/img/.zarray"),
    "real": (with_options(zarr_replay_layout.main, "--layout", "real"), "videos/1/0.mp4"),
    "umi": (with_options(zarr_replay_layout.main, "--layout", "umi"), "dataset.zarr.zip"),
    "umi_bimanual": (with_options(zarr_replay_layout.main, "--layout", "umi_bimanual"), "dataset.zarr.zip"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sample_is_the_same_every_time_and_nothing_is_overwritten(tmp_path, capsys, name):
    for package in () if name in ("calvin", "gnm", "adroit") else ("h5py", "av", "rosbags", "zarr", "imagecodecs"):
        pytest.importorskip(package)
    main, file = COMMANDS[name]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert main(["--out", str(folder), "--episodes", "2"]) == 0
    assert (first / file).is_file() and contents(first) == contents(second)
    assert main(["--out", str(first), "--episodes", "2"]) == 2
    assert capsys.readouterr().err == f"error: {first} exists; remove it or choose another --out\n"
    assert main(["--out", str(tmp_path / "none"), "--episodes", "0"]) == 2
    assert not (tmp_path / "none").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
