"""LeRobotDataset v3, with cameras as video (its default: AV1) or as image features (PNG in Parquet).

Both are written by LeRobot from the decoded frames; it delivers images as float32 [B, 3, H, W] and has no other form.
It gets the first hundred episodes only: writing a frame takes it tens of milliseconds, and its rate does not depend on
how many there are.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.peers.episodes import CAMERAS, CHUNK, Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, endless
from benchmarks.peers.torchvision_operators import import_torchvision

PACKAGE = "lerobot"
MADE_AHEAD = 4
FPS = 10
EPISODES = 100
_SETTINGS = f"delta_timestamps of {CHUNK} actions, DataLoader(shuffle=True, num_workers={WORKERS}): lerobot_train.py"
VARIANTS = {
    "video": f"AV1 as it writes by default, torchcodec; {_SETTINGS}",
    "image": f"PNG image features; {_SETTINGS}",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    import simplejpeg

    dataset_class = _dataset_class()
    kept = list(islice(episodes, EPISODES))
    height, width, *_ = simplejpeg.decode_jpeg_header(kept[0].images[CAMERAS[0]][0])
    for kind in VARIANTS:
        pixels = {"dtype": kind, "shape": (height, width, 3), "names": ["height", "width", "channels"]}
        features = {
            **{f"observation.images.{camera}": pixels for camera in CAMERAS},
            "observation.state": {"dtype": "float32", "shape": (10,), "names": None},
            "action": {"dtype": "float32", "shape": (7,), "names": None},
        }
        dataset = dataset_class.create(
            repo_id=f"benchmark/{kind}",
            fps=FPS,
            features=features,
            root=folder / kind,
            use_videos=kind == "video",
            image_writer_threads=8,
        )
        for episode in kept:
            for step in range(len(episode)):
                frame = {f"observation.images.{c}": simplejpeg.decode_jpeg(episode.images[c][step]) for c in CAMERAS}
                vectors = {"observation.state": episode.state[step], "action": episode.action[step]}
                dataset.add_frame({**frame, **vectors, "task": episode.instruction})
            dataset.save_episode()
        dataset.finalize()


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    dataset_class = _dataset_class()
    import torch.utils.data

    dataset = dataset_class(
        f"benchmark/{variant}", root=folder / variant, delta_timestamps={"action": [n / FPS for n in range(CHUNK)]}
    )
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH_SIZE, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
    )
    for batch in endless(loader):
        yield {
            **{camera: batch[f"observation.images.{camera}"] for camera in CAMERAS},
            "state": batch["observation.state"],
            "action": batch["action"],
            "instruction": batch["task"],
        }


def _dataset_class():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import_torchvision()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset
