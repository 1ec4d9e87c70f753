"""From samples to a batch of tensors: numbers for the whole batch at once, images in parts that threads share.

A batch is a flat dict. B samples, T = history, N = chunk; every random choice comes from the counter RNG of (seed, g):

    image_<camera>       uint8 [B, T, H, W, 3]    black where masked
    image_<camera>_mask  bool [B, T]              the episode has the camera and the step; padding shows the first step
    image_goal, image_goal_mask, goal_step   uint8 [B, H, W, 3], bool [B], int64 [B]; with goal_images only
    state                f32 [B, T, 40]           normalised, 0 in masked slots
    state_mask           bool [B, 40]             the data set has the slot
    history_mask         bool [B, T]              the step exists
    action               f32 [B, N, 32]           normalised, 0 in masked slots
    action_mask          bool [B, 32]             the data set has the slot
    action_pad_mask      bool [B, N]              the step (with chunk_s: the whole interval) exists
    instruction          list[str]                "" for none
    dataset, episode, step, g   int64 [B]         which sample it is; dataset indexes mixture.datasets
    control_hz           f32 [B]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.columns import NumericColumns
from oxe_pipeline.loader.images import ImageReader, Substitution, cameras_of, stored_size
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.window import Samples, history_steps
from oxe_pipeline.mixture.counter_rng import RandomStream, integers, uniform
from oxe_pipeline.mixture.mixture import MixtureDataset
from schemas.slots import CAMERAS


class BatchAssembler:
    """Knows everything about a mixture that does not change from batch to batch. Immutable after it is made.

    Raises ValueError when the cameras or image sizes asked for do not fit the mixture.
    """

    def __init__(self, datasets: Sequence[MixtureDataset], options: BatchOptions, *, seed: int, buffers: BufferPool):
        self.datasets, self.options, self.seed, self.buffers = tuple(datasets), options, seed, buffers
        streams = [dataset.stream for dataset in datasets]
        self.cameras = cameras_of(streams) if options.cameras is None else tuple(options.cameras)
        self.sizes = {camera: options.size or stored_size(streams, camera) for camera in self.cameras}
        if options.goal_images and not self.cameras:
            raise ValueError("goal_images=True, and no data set of the mixture has a camera; leave goal_images out")
        self.columns = NumericColumns(streams, options)
        self.reader = ImageReader(datasets, resize=options.size is not None, on_corrupt=options.on_corrupt)
        self._has_camera = [[stream.episodes.has_camera(camera) for camera in self.cameras] for stream in streams]

    def assemble(self, samples: Samples) -> dict:
        """The whole batch, made in this thread."""
        pending = PendingBatch(self, samples)
        pending.decode(0, len(samples))
        return pending.finish()

    def cameras_present(self, samples: Samples) -> np.ndarray:
        """bool [C, B]: the episode has the camera, in the order of `cameras`."""
        present = np.zeros((len(self.cameras), len(samples)), bool)
        for number, here in samples.by_dataset():
            for row in range(len(self.cameras)):
                present[row, here] = self._has_camera[number][row][samples.episode[here]]
        return present

    def drop_cameras(self, samples: Samples, present: np.ndarray) -> np.ndarray:
        """bool [C, B]: `present` without the cameras that are blanked. Of those a sample has, one always stays."""
        if not self.options.camera_dropout or not self.cameras:
            return present
        lanes = np.array([CAMERAS.index(camera) for camera in self.cameras])[:, None]
        drawn = np.where(present, uniform(self.seed, samples.g, RandomStream.CAMERA_DROP, lanes), -1.0)
        return present & ((drawn >= self.options.camera_dropout) | (drawn == drawn.max(axis=0)))

    def goal_steps(self, samples: Samples) -> np.ndarray:
        """int64 [B]: drawn evenly from the steps after the sample's own; the last step is its own goal."""
        last = np.empty(len(samples), np.int64)
        for number, here in samples.by_dataset():
            last[here] = self.datasets[number].stream.episodes.length[samples.episode[here]] - 1
        later = last - samples.step
        drawn = integers(self.seed, samples.g, RandomStream.GOAL, np.maximum(later, 1))
        return np.minimum(samples.step + 1 + drawn, last)

    def instructions(self, samples: Samples) -> list[str]:
        """One text per sample, "" where its episode has none."""
        drawn = uniform(self.seed, samples.g, RandomStream.INSTRUCTION)
        if self.options.instruction == "main":
            drawn = np.zeros(len(samples))
        texts = []
        for number, episode, share in zip(
            samples.dataset.tolist(), samples.episode.tolist(), drawn.tolist(), strict=True
        ):
            stream = self.datasets[number].stream
            ids = stream.episodes.instruction_ids(episode)
            texts.append(stream.instructions[ids[int(share * len(ids))]] if len(ids) else "")
        return texts


class PendingBatch:
    """A batch whose numbers are there and whose images are to come.

    `decode` each sample once, in any threads; when all are done, `finish`.
    """

    def __init__(self, assembler: BatchAssembler, samples: Samples):
        self.samples = samples
        self.substituted: list[Substitution] = []
        self._reader = assembler.reader
        self._columns = assembler.columns.read(samples)
        self._instruction = assembler.instructions(samples)
        self._places = list(zip(samples.dataset.tolist(), samples.episode.tolist(), strict=True))
        steps, exists = history_steps(samples.step, assembler.options.history)
        present = assembler.cameras_present(samples)
        shown = assembler.drop_cameras(samples, present)
        self._views = [
            self._view(assembler, camera, steps, shown[row][:, None] & exists)
            for row, camera in enumerate(assembler.cameras)
        ]
        self._goal: _View | None = None
        if assembler.options.goal_images:
            self._columns["goal_step"] = assembler.goal_steps(samples)
            goal_steps = self._columns["goal_step"][:, None]
            self._goal = self._view(assembler, assembler.cameras[0], goal_steps, present[0][:, None].copy())

    def _view(self, assembler: BatchAssembler, camera: str, steps: np.ndarray, mask: np.ndarray) -> "_View":
        tensor = assembler.buffers.take((*steps.shape, *assembler.sizes[camera], 3))
        return _View(camera=camera, tensor=tensor, pixels=tensor.numpy(), steps=steps.tolist(), mask=mask)

    def decode(self, start: int, stop: int) -> None:
        """Decodes all images of samples start .. stop-1. DataError as ImageReader.read."""
        for view in (*self._views, self._goal) if self._goal else self._views:
            for i in range(start, stop):
                self._decode_sample(view, i)

    def _decode_sample(self, view: "_View", i: int) -> None:
        steps, pixels = view.steps[i], view.pixels[i]
        # The sample's own step, the last, is masked only when the whole view is.
        if not view.mask[i, -1]:
            pixels[...] = 0
            return
        dataset, episode = self._places[i]
        readable = True
        for t, step in enumerate(steps):
            if t and step == steps[t - 1]:
                pixels[t] = pixels[t - 1]
            else:
                readable = self._reader.read(dataset, episode, step, view.camera, pixels[t], self.substituted)
            view.mask[i, t] &= readable

    def finish(self) -> dict:
        """The batch; to be called once, after every sample was decoded."""
        import torch

        batch: dict = {name: torch.from_numpy(column) for name, column in self._columns.items()}
        for view in self._views:
            batch[f"image_{view.camera}"] = view.tensor
            batch[f"image_{view.camera}_mask"] = torch.from_numpy(view.mask)
        if self._goal:
            batch["image_goal"] = self._goal.tensor[:, 0]
            batch["image_goal_mask"] = torch.from_numpy(self._goal.mask[:, 0])
        batch["instruction"] = self._instruction
        return batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """The images [B, T] of one camera, or the goals, while they are decoded; decoding refines `mask` bool [B, T]."""

    camera: str
    tensor: Any
    pixels: np.ndarray
    steps: list[list[int]]
    mask: np.ndarray
