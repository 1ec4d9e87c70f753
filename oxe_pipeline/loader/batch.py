"""From samples to a batch of tensors: numbers for the whole batch at once, images in parts that threads share.

A batch is a flat dict. B samples, T = history, N = chunk; every random choice comes from the counter RNG of (seed, g):

    image_<camera>       uint8 [B, T, H, W, 3]    black where masked
    image_<camera>_mask  bool [B, T]              the episode has the camera and the step; padding shows the first step
    image_goal, image_goal_mask, goal_step   uint8 [B, H, W, 3], bool [B], int64 [B]; with goal_images only, of the
                         first camera
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

from collections.abc import Callable, Sequence

import numpy as np

from oxe_pipeline.loader.batch_plan import SAMPLES_AT_ONCE, BatchPlan, PlansAhead, ViewPlan
from oxe_pipeline.loader.buffers import ImageMemory
from oxe_pipeline.loader.columns import NumericColumns
from oxe_pipeline.loader.image_work import Place, View, blank_samples, image_tasks
from oxe_pipeline.loader.images import ImageReader, Substitution, cameras_of, stored_size
from oxe_pipeline.loader.instruction_choice import chosen_instructions
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.window import DatasetPart, Samples, dataset_parts, history_steps
from oxe_pipeline.mixture.counter_rng import RandomStream, integers, uniform
from oxe_pipeline.mixture.mixture import MixtureDataset
from schemas.slots import CAMERAS


class BatchAssembler:
    """Knows everything about a mixture that does not change from batch to batch. Immutable after it is made.

    Raises ValueError when the cameras or image sizes asked for do not fit the mixture.
    """

    def __init__(self, datasets: Sequence[MixtureDataset], options: BatchOptions, *, seed: int, buffers: ImageMemory):
        self.datasets, self.options, self.seed, self.buffers = tuple(datasets), options, seed, buffers
        streams = [dataset.stream for dataset in datasets]
        self.cameras = cameras_of(streams) if options.cameras is None else tuple(options.cameras)
        self.sizes = {camera: options.size or stored_size(streams, camera) for camera in self.cameras}
        if options.goal_images and not self.cameras:
            raise ValueError("goal_images=True, and no data set of the mixture has a camera; leave goal_images out")
        self.streams = streams
        self.columns = NumericColumns(streams, options)
        self.reader = ImageReader(
            datasets,
            resize=options.size is not None,
            on_corrupt=options.on_corrupt,
            fast=options.decode == "fast",
        )
        self._lanes = np.array([CAMERAS.index(camera) for camera in self.cameras], np.uint8)[:, None]

    def assemble(self, samples: Samples) -> dict:
        """The whole batch, made in this thread."""
        (plan,) = self.plan([samples])
        pending = PendingBatch(self, plan)
        pending.decode(0, pending.num_images)
        return pending.finish()

    def plan(self, batches: Sequence[Samples]) -> list[BatchPlan]:
        """The plan of each batch, all made together; each is what it would be alone. Maps the shards they need."""
        samples, sizes = Samples.joined(batches), [len(batch) for batch in batches]
        parts = dataset_parts(self.streams, samples)
        columns = self.columns.read(samples, parts)
        instruction = self.instructions(samples)
        steps, exists = history_steps(samples.step, self.options.history)
        present = self.cameras_present(samples, parts)
        shown = self.drop_cameras(samples, present)
        views = [(camera, steps, shown[row][:, None] & exists) for row, camera in enumerate(self.cameras)]
        if self.options.goal_images:
            columns["goal_step"] = self.goal_steps(samples, parts)
            views.append((self.cameras[0], columns["goal_step"][:, None], present[0][:, None]))
        tasks, plans, start = image_tasks(views, parts, sizes), [], 0
        for batch, of_batch in zip(batches, tasks, strict=True):
            rows = slice(start, start + len(batch))
            plans.append(
                BatchPlan(
                    samples=batch,
                    columns={name: column[rows].copy() for name, column in columns.items()},
                    instruction=instruction[rows],
                    views=[ViewPlan(camera, steps[rows], mask[rows].copy()) for camera, steps, mask in views],
                    tasks=of_batch,
                )
            )
            start = rows.stop
        return plans

    def plans_ahead(
        self, samples_of: Callable[[int], Samples], *, stride: int = 1, stop: int | None = None
    ) -> PlansAhead:
        """Plans of the batches `samples_of` numbers. Remote shards come one batch at a time: a group of batches might
        need more of them at once than the cache is to hold."""
        remote = any(stream.is_remote for stream in self.streams)
        return PlansAhead(
            self.plan, samples_of, stride=stride, stop=stop, samples_at_once=1 if remote else SAMPLES_AT_ONCE
        )

    def cameras_present(self, samples: Samples, parts: Sequence[DatasetPart]) -> np.ndarray:
        """bool [C, B]: the episode has the camera, in the order of `cameras`."""
        bits = np.empty(len(samples), np.uint8)
        for part in parts:
            bits[part.here] = self.streams[part.dataset].episodes.cameras[part.episode]
        return (bits >> self._lanes) & 1 == 1

    def drop_cameras(self, samples: Samples, present: np.ndarray) -> np.ndarray:
        """bool [C, B]: `present` without the cameras that are blanked. Of those a sample has, one always stays."""
        if not self.options.camera_dropout or not self.cameras:
            return present
        drawn = np.where(present, uniform(self.seed, samples.g, RandomStream.CAMERA_DROP, self._lanes), -1.0)
        return present & ((drawn >= self.options.camera_dropout) | (drawn == drawn.max(axis=0)))

    def goal_steps(self, samples: Samples, parts: Sequence[DatasetPart]) -> np.ndarray:
        """int64 [B]: drawn evenly from the steps after the sample's own; the last step is its own goal."""
        last = np.empty(len(samples), np.int64)
        for part in parts:
            last[part.here] = part.length - 1
        later = last - samples.step
        drawn = integers(self.seed, samples.g, RandomStream.GOAL, np.maximum(later, 1))
        return np.minimum(samples.step + 1 + drawn, last)

    def instructions(self, samples: Samples) -> list[str]:
        """One text per sample, "" where its episode has none."""
        return chosen_instructions(self.datasets, samples, seed=self.seed, choice=self.options.instruction)


class PendingBatch:
    """A planned batch whose images are to come.

    `decode` each of `num_images` once, in any threads; when all are done, `finish`. An image that several places of the
    batch show (the history of neighbouring steps, padding, a goal that is the step itself) is decoded once and copied.
    """

    def __init__(self, assembler: BatchAssembler, plan: BatchPlan):
        self.samples = plan.samples
        self.substituted: list[Substitution] = []
        self._reader, self._plan = assembler.reader, plan
        self._views = [_view(assembler, view) for view in plan.views]
        self._has_goal = assembler.options.goal_images
        self._blank = blank_samples(self._views)
        self.num_images = len(self._blank) + len(plan.tasks)
        """Pieces of work for `decode`: images to decode, and views of a sample to blank."""

    def decode(self, start: int, stop: int) -> None:
        """Does pieces start .. stop-1 of the work on images. DataError as ImageReader.read."""
        for pixels in self._blank[start:stop]:
            pixels[...] = 0
        blanked = len(self._blank)
        tasks = self._plan.tasks[max(0, start - blanked) : max(0, stop - blanked)]
        views = self._views
        to_read = [(source, encoded, views[number].pixels[i, t]) for source, encoded, ((number, i, t), *_) in tasks]
        shown = self._reader.read(to_read)
        for (_, _, places), (_, _, pixels), substitution in zip(tasks, to_read, shown, strict=True):
            for number, i, t in places[1:]:
                views[number].pixels[i, t] = pixels
            if substitution:
                self._note(substitution, places)

    def _note(self, substitution: Substitution, places: list[Place]) -> None:
        """Counts the substitution once for every place that shows it unmasked, and masks what stayed black."""
        for number, i, t in places:
            mask = self._views[number].mask
            if mask[i, t]:
                self.substituted.append(substitution)
                mask[i, t] = substitution.shown_step >= 0

    def finish(self) -> dict:
        """The batch; to be called once, after every image was decoded."""
        import torch

        batch: dict = {name: torch.from_numpy(column) for name, column in self._plan.columns.items()}
        for view in self._views[:-1] if self._has_goal else self._views:
            batch[f"image_{view.camera}"] = view.tensor
            batch[f"image_{view.camera}_mask"] = torch.from_numpy(view.mask)
        if self._has_goal:
            batch["image_goal"] = self._views[-1].tensor[:, 0]
            batch["image_goal_mask"] = torch.from_numpy(self._views[-1].mask[:, 0])
        batch["instruction"] = self._plan.instruction
        return batch


def _view(assembler: BatchAssembler, plan: ViewPlan) -> View:
    tensor = assembler.buffers.take((*plan.steps.shape, *assembler.sizes[plan.camera], 3))
    return View(plan.camera, tensor, tensor.numpy(), plan.mask)
