"""The first batch of a run as text and as a picture: the quickest look at what the model is really given."""

from pathlib import Path

import torch

from oxe_pipeline.loader.audit import drawn_samples, located
from oxe_pipeline.loader.contact_sheet import batch_sheet, write_picture
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.stream.format import write_whole
from oxe_pipeline.vla.model import VLA
from schemas.slots import ACTION_NAMES

FIRST_BATCH, FIRST_IMAGES = "first_batch.txt", "first_batch.png"
_SAMPLES_SHOWN = 24
_EDGES = (-1.0, -0.5, 0.0, 0.5, 1.0)


def write_first_batch(run: Path, batch: dict, mixture: Mixture, model: VLA) -> Path:
    """Writes two files into the run's folder and returns the first.

    first_batch.txt: tensors, samples with their prompts, distribution of each action slot. first_batch.png: the images
    of the first samples, of every camera and of the goal, as they are in the batch.
    """
    path = run / FIRST_BATCH
    write_whole(
        path, "\n".join([*_tensors(batch), "", *_samples(batch, mixture, model), "", *_actions(batch), ""]).encode()
    )
    rows = drawn_samples(mixture, located(mixture, batch["g"][:_SAMPLES_SHOWN]))
    title = f"first batch: {len(rows)} of {len(batch['g'])} samples of this rank"
    write_picture(run / FIRST_IMAGES, batch_sheet(batch, rows, title=title))
    return path


def _tensors(batch: dict) -> list[str]:
    lines = ["tensors"]
    for name, value in sorted(batch.items()):
        if isinstance(value, torch.Tensor):
            numbers = value.float()
            lines.append(
                f"  {name:26}{str(value.dtype).removeprefix('torch.'):9}{list(value.shape)!s:24}"
                f"min {numbers.min():10.4g}  mean {numbers.mean():10.4g}  max {numbers.max():10.4g}"
            )
    return lines


def _samples(batch: dict, mixture: Mixture, model: VLA) -> list[str]:
    lines = ["samples: data set, episode, step, prompt as the model reads it"]
    rows = zip(*(batch[name].tolist() for name in ("dataset", "episode", "step")), strict=True)
    for row, (dataset, episode, step) in enumerate(rows):
        entry = mixture.datasets[dataset]
        prompt = model.backbone.prompt(batch, row)
        lines.append(f"  {entry.name}  {entry.stream.episodes.episode_id(episode)}  {step}  {prompt!r}")
    return lines


def _actions(batch: dict) -> list[str]:
    """Where the normalised values of each slot lie; one far outside -1 .. 1 has statistics that do not fit its data."""
    lines = [f"normalised actions: share of values in each interval between {', '.join(map(str, _EDGES))}, and beyond"]
    real_BN = batch["action_pad_mask"]
    for slot in torch.nonzero(batch["action_mask"].any(0)).flatten().tolist():
        values = batch["action"][:, :, slot][real_BN & batch["action_mask"][:, None, slot]]
        places = torch.bucketize(values, torch.tensor(_EDGES), right=False)
        shares = torch.bincount(places, minlength=len(_EDGES) + 1) / max(1, len(values))
        lines.append(f"  {ACTION_NAMES[slot]:30}" + "".join(f"{share:7.1%}" for share in shares.tolist()))
    return lines
