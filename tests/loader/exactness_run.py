"""A run to be killed: all ranks of a loader in one process, each sample's hash written down, the state after each step.

python -m tests.loader.exactness_run '{"folders": [...], "world_size": 2, "workers": 4, "batch_size": 16, ...}'
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = {"chunk": 4, "history": 2, "camera_dropout": 0.3, "goal_images": True}


def sample_hashes(batch: dict) -> dict[int, str]:
    """{sample number: digest of its row of every entry of the batch, images included}."""
    found = {}
    for row, g in enumerate(batch["g"].tolist()):
        digest = hashlib.sha256()
        for name in sorted(batch):
            value = batch[name][row]
            digest.update(name.encode())
            digest.update(value.encode() if isinstance(value, str) else value.numpy().tobytes())
        found[g] = digest.hexdigest()
    return found


def _ranks(order: dict, state: dict | None) -> tuple[list[Iterator[dict]], Any]:
    """The batches of each rank, and the state after so many of them."""
    from torch.utils.data import DataLoader

    from oxe_pipeline.loader.dataset import StreamDataset
    from oxe_pipeline.loader.loader import make_loader
    from tests.loader.conftest import open_mixture

    mixture = open_mixture([Path(folder) for folder in order["folders"]])
    layout = {"batch_size": order["batch_size"], "world_size": order["world_size"], **OPTIONS}
    if order["workers"] is None:
        loader = make_loader(mixture, **layout)
        if state:
            loader.load_state_dict(state)
        return [loader], lambda steps: loader.state_dict()
    datasets = [StreamDataset(mixture, rank=rank, **layout) for rank in range(order["world_size"])]
    for dataset in datasets:
        if state:
            dataset.load_state_dict(state)
    loaders = [iter(DataLoader(dataset, batch_size=None, num_workers=order["workers"])) for dataset in datasets]
    return loaders, datasets[0].state_dict


def main(order: dict) -> None:
    """Delivers for ever, or until it is killed."""
    state_file, out = Path(order["state"]), Path(order["out"])
    state = json.loads(state_file.read_text()) if state_file.exists() else None
    ranks, state_after = _ranks(order, state)
    steps = 0
    with out.open("a") as file:
        while True:
            for rank in ranks:
                file.write(json.dumps(sample_hashes(next(rank))) + "\n")
                file.flush()
            steps += 1
            temporary = state_file.with_suffix(".part")
            temporary.write_text(json.dumps(state_after(steps)))
            os.replace(temporary, state_file)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
