"""Teacher: a trained model that takes the recorded actions' place in the training of a smaller one.

The student goes through the ordinary training loop on the ordinary samples; only what it is to predict comes from the
teacher: the teacher's chunk for the sample and, where both models speak the same bins, the teacher's distribution over
them at every token (Hinton et al. 2015). A teacher's actions are smoother than people's, so a small model that cannot
fit those may fit these; what the teacher does wrong is learnt with the rest, which `label_share` tempers.

Each sample is assembled a second time for the teacher, as it was trained to see it (its image size, history,
normalisation), from the sample's place alone: nothing is stored, a resumed run is taught the same. The price is
decoding twice and a prediction of the teacher per sample.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from oxe_pipeline.loader.augment import centre_crop
from oxe_pipeline.loader.batch import BatchAssembler
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.loader.window import Samples
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.vla.action_errors import check_normalizers
from oxe_pipeline.vla.heads.bin_tokens import BinTokensHead
from oxe_pipeline.vla.model import to_device
from oxe_pipeline.vla.noise import NoiseStream, counter_uniform
from oxe_pipeline.vla.train_config import TrainConfig
from oxe_pipeline.vla.trained import TrainedModel


class Teacher:
    """Gives a student's batches the teacher's actions; see the module's text.

    ValueError for a mixture with data sets that the teacher was not trained on, for a student whose chunk is longer
    than the teacher's or whose actions last another time, and for a share that is none.
    """

    def __init__(self, trained: TrainedModel, student: TrainConfig, mixture: Mixture, *, label_share: float = 0.0):
        check_normalizers(mixture, trained.normalizers)
        _check_chunks(trained.config, student)
        if not 0 <= label_share <= 1:
            raise ValueError(f"the share of recorded labels must be from 0 to 1, is {label_share}")
        self.label_share = label_share
        self._model, self._config = trained.model.requires_grad_(False).eval(), trained.config
        self._folder, self._step = trained.folder, trained.step
        self._chunk = student.model.chunk
        self._assembler = _assembler(trained, student, mixture)
        # With goal images in its own batches a student learns from both; else the teacher is to read what it reads.
        self._task_mode = "both" if student.goal_images else "text"
        self._offset, self._scale, equal = _between(trained, student, mixture)
        self._gives_logits = equal and _same_bins(trained.config, student)

    @property
    def record(self) -> dict[str, Any]:
        """JSON for the student's checkpoints."""
        return {"folder": str(self._folder.resolve()), "step": self._step, "label_share": self.label_share}

    @torch.no_grad()
    def __call__(self, batch: dict) -> dict:
        """The batch with `action` f32 [B, chunk, 32] by the teacher, in the student's normalisation, but for the share
        of samples that keep the recorded one; and with `teacher_logits` f32 [B, S, bins] where both speak equal bins.

        On the CPU; a function of the samples alone. DataError for an unreadable image.
        """
        device = next(self._model.parameters()).device
        own = to_device({**self._assembler.assemble(_samples(batch)), "task_mode": self._task_mode}, device)
        own = centre_crop(own, options=self._config.augment)
        labelled_B11 = counter_uniform(own["g"], (1, 1), stream=NoiseStream.TAUGHT) < self.label_share
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            predicted = self._model.predict(own).float()
            chosen = torch.where(labelled_B11, own["action"], predicted)
            logits = self._logits({**own, "action": chosen}) if self._gives_logits else None
        taught = self._to_student(predicted[:, : self._chunk].cpu(), batch["dataset"])
        taught = torch.where(batch["action_mask"][:, None], taught, 0.0)
        result = {**batch, "action": torch.where(labelled_B11.cpu(), batch["action"], taught)}
        return result if logits is None else {**result, "teacher_logits": logits.cpu()}

    def _logits(self, own: dict) -> Tensor:
        """Of the tokens that the student speaks: the first ones, since tokens run by step."""
        head = self._model.head
        assert isinstance(head, BinTokensHead)
        logits_BSb, _, _ = head.action_logits(self._model.backbone, own)
        return logits_BSb[:, : self._chunk * int(own["action_mask"].sum(1).max())].float()

    def _to_student(self, action: Tensor, dataset_B: Tensor) -> Tensor:
        """Actions [B, chunk, 32] from the teacher's normalisation to the student's."""
        return action * self._scale[dataset_B][:, None] + self._offset[dataset_B][:, None]


def _samples(batch: dict) -> Samples:
    return Samples(*(batch[name].cpu().numpy() for name in ("g", "dataset", "episode", "step")))


def _assembler(trained: TrainedModel, student: TrainConfig, mixture: Mixture) -> BatchAssembler:
    """Of the teacher's batches: as in its training, but for faults in images, which are the student run's matter."""
    options = trained.config.batch_options(image_size=trained.model.backbone.image_size)
    options |= {"on_corrupt": student.on_corrupt, "goal_images": trained.config.goal_images and student.goal_images}
    return BatchAssembler(mixture.datasets, BatchOptions(**options), seed=mixture.seed, buffers=BufferPool(keep=1))


def _between(trained: TrainedModel, student: TrainConfig, mixture: Mixture) -> tuple[Tensor, Tensor, bool]:
    """Offset and scale f32 [D, 32] from the teacher's normalised actions to the student's; whether they are equal."""
    offsets, scales = [], []
    for dataset in mixture.datasets:
        teacher = trained.normalizers[dataset.name]["action"]
        own = stream_normalizer(dataset.stream, "action", student.normalizer_config)
        offsets.append((teacher.offset - own.offset) / own.scale)
        scales.append(teacher.scale / own.scale)
    offset, scale = torch.from_numpy(np.stack(offsets)), torch.from_numpy(np.stack(scales))
    return offset, scale, bool((offset == 0).all() and (scale == 1).all())


def _same_bins(teacher: TrainConfig, student: TrainConfig) -> bool:
    one, other = teacher.model.head, student.model.head
    return one.kind == other.kind == "bin_tokens" and one.bins == other.bins  # type: ignore[attr-defined]


def _check_chunks(teacher: TrainConfig, student: TrainConfig) -> None:
    longest, chunk = teacher.model.chunk, student.model.chunk
    if chunk > longest:
        raise ValueError(f"chunk {chunk} is longer than the teacher's {longest}; give --chunk {longest} or less")
    one, other = (c.chunk_s and c.chunk_s / c.model.chunk for c in (teacher, student))
    if one != other:
        lasting = [f"{seconds} s" if seconds else "one recorded step" for seconds in (one, other)]
        raise ValueError(
            f"the teacher's actions last {lasting[0]}, the student's {lasting[1]}; give --chunk-s so that "
            "chunk_s / chunk is the same"
        )
