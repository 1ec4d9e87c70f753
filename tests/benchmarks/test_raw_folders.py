"""The raw folders that builders are timed on are read by the readers, and JPEGs pass through where that is claimed."""

import functools

import pytest

from benchmarks import raw_folders
from oxe_pipeline.episode import SourceEpisode
from oxe_pipeline.ingest import aloha, hdf5_demo, lerobot
from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import load_spec

for package in ("av", "h5py", "pyarrow"):
    pytest.importorskip(package)

STEPS, EPISODES = 3, 4


def episodes_of(name, root) -> list[SourceEpisode]:
    spec = load_spec(raw_folders.RAW_FOLDERS[name].spec)
    match name:
        case "aloha":
            keys, read = aloha.find_episodes(root)[0], aloha.read_episode
        case "libero":
            keys, read = list(hdf5_demo.find_episodes(root)), hdf5_demo.read_episode
        case _:
            keys = lerobot.find_episodes(root, cameras=spec.source_keys()).keys
            read = functools.partial(lerobot.read_episode, features=spec.source_keys())
    return [apply_spec(read(key, root=root), spec) for key in keys]


@pytest.mark.parametrize("name", ["aloha", "libero", "lerobot"])
def test_as_many_episodes_are_read_as_were_asked_for(tmp_path, monkeypatch, name):
    monkeypatch.setattr(raw_folders, "STEPS", STEPS)
    jpegs = raw_folders.RAW_FOLDERS[name].write(tmp_path / "raw", EPISODES)
    episodes = episodes_of(name, tmp_path / "raw")
    assert len(episodes) == EPISODES and all(len(episode) >= STEPS - 1 for episode in episodes)
    if raw_folders.RAW_FOLDERS[name].passes_jpeg:
        assert {image for images in episodes[0].images.values() for image in images} <= set(jpegs)
    assert raw_folders.source_bytes(tmp_path / "raw") == raw_folders.read_all(tmp_path / "raw") > 0
