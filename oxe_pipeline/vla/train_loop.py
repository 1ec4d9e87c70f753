"""The training loop: batch, loss, backward, clip, step, metrics, evaluation, checkpoint, in one function.

Whatever has a state is made at the top and saved at the bottom. A run that stops anywhere and goes on from its last
checkpoint does what it would have done without the stop: the same samples and, on a CPU with the same number of
threads, the same numbers to the last bit.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from oxe_pipeline.loader.augment import augment
from oxe_pipeline.loader.loader import Loader, make_loader
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.vla.checkpoint import Checkpoint, frozen_file, save_checkpoint
from oxe_pipeline.vla.distill import Teacher
from oxe_pipeline.vla.distributed import World, is_sharded, release_gathered
from oxe_pipeline.vla.evaluate import DatasetResult, evaluate, training_record
from oxe_pipeline.vla.first_batch import write_first_batch
from oxe_pipeline.vla.metrics import MetricsLog
from oxe_pipeline.vla.model import learns_texts, to_device
from oxe_pipeline.vla.records import config_to_record
from oxe_pipeline.vla.step_sums import StepSums, memory_mb
from oxe_pipeline.vla.text_stream import TextStream
from oxe_pipeline.vla.train_config import TrainConfig
from oxe_pipeline.vla.training_state import TrainingState, make_training_state

_SAMPLES_NAMED = 8


class TrainingError(RuntimeError):
    """Training cannot go on: at which step, on which samples, and what to try, in one line."""


def train(
    config: TrainConfig,
    mixture: Mixture,
    run: Path,
    *,
    mixture_file: Path,
    device: torch.device,
    world: World | None = None,
    texts: TextStream | None = None,
    teacher: Teacher | None = None,
    resume: Checkpoint | None = None,
    on_step: Callable[[dict], None] = lambda record: None,
) -> None:
    """Trains up to step `config.steps`; leaves metrics.jsonl, first_batch.txt and .png, and checkpoints in `run`.

    `texts` adds samples of its own to every step; they count like robot samples. A `teacher` takes the recorded
    actions' place. `on_step` gets the metrics of every step. With `resume` it goes on after that checkpoint's step.
    Raises TrainingError for a loss or a gradient that is not finite, DataError for an unreadable image, ValueError for
    what model and data cannot do, and StateError for a mixture, texts or a teacher other than those the checkpoint was
    trained with. `mixture_file` is noted in the checkpoints, so that resuming finds it.
    """
    world = world or World()
    world.join(device)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")  # CUDA lacks some deterministic kernels.
    torch.manual_seed(config.seed)
    if config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    if texts is not None and not learns_texts(config.model):
        kinds = f"backbone {config.model.backbone.kind} with head {config.model.head.kind}"
        raise ValueError(f"{kinds} does not learn texts; leave them out")
    _check_held_out(config, mixture)
    config = config.prepared(mixture)

    state = make_training_state(config, world, device, resume)
    model, optimizer = state.model, state.optimizer
    loader = _make_loader(config, mixture, model.backbone.image_size, world, device)
    done = 0
    if resume is not None:
        done = resume.step
        loader.load_state_dict(resume.state["loader"])
        _check_texts(texts, resume.state["texts"])
        _check_teacher(teacher, resume.state.get("teacher"))
    normalizers = {
        entry.name: {v: stream_normalizer(entry.stream, v, config.normalizer_config) for v in ("action", "state")}
        for entry in mixture.datasets
    }
    constant_state = {
        "config": config_to_record(config),
        "image_size": model.backbone.image_size,
        "mixture": {"file": str(mixture_file.resolve()), "identity": mixture.identity},
        "texts": texts.state_dict() if texts is not None else None,
        "teacher": teacher.record if teacher is not None else None,
        "normalizers": {
            dataset: {vector: normalizer.to_dict() for vector, normalizer in vectors.items()}
            for dataset, vectors in normalizers.items()
        },
        "num_parameters": state.num_parameters,
        "device": str(device),
        "ranks": world.size,
    }
    replica = world.replicate(model, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    names = [entry.name for entry in mixture.datasets]
    loader_state, batch = loader.state_dict(), None
    run.mkdir(parents=True, exist_ok=True)

    with loader, MetricsLog(run, resume_step=done, writes=world.leads, wandb=config.wandb) as log:
        for step in range(done + 1, config.steps + 1):
            started, replaced = time.perf_counter(), _replaced(loader, texts)
            if batch is None or not config.overfit_batch:
                first_g, batch = loader.g, next(loader)
            text_batch = texts.batch(step - 1) if texts is not None else None
            waited_s, replaced = time.perf_counter() - started, _replaced(loader, texts) - replaced
            if step == 1 and world.leads:
                write_first_batch(run, _prepared(batch, torch.device("cpu"), config, mixture), mixture, model)

            num_texts = texts.num_samples(step - 1) if texts is not None else 0
            # Ranks average their gradients; scaled so that the result is the mean over all samples of the step.
            weight = world.size / (config.batch_size + num_texts)
            sums = StepSums(names, batch["dataset"].to(device, non_blocking=True), replaced=replaced)
            for piece in _text_pieces(text_batch, num_texts, step, config, world, sharded=is_sharded(model)):
                with world.hold_gradients(replica, last=False):
                    with autocast:
                        output = replica(to_device(piece, device))
                    (output.loss_B.sum() * weight).backward()
                sums.add_texts(output)
            for number, piece in enumerate(_pieces(batch, config.micro_batches)):
                piece = teacher(piece) if teacher is not None else piece
                with world.hold_gradients(replica, last=number == config.micro_batches - 1):
                    with autocast:
                        output = replica(_prepared(piece, device, config, mixture))
                    (output.loss_B.sum() * weight).backward()
                sums.add(output)

            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            record = {"step": step, "samples": [first_g, first_g + config.batch_size], **sums.record(norm, world)}
            if not all(
                math.isfinite(record[name]) for name in ("loss", "gradient_norm", "text_loss") if name in record
            ):
                raise TrainingError(_not_finite(record, sums.loss_B, batch, mixture))
            record["learning_rate"] = state.schedule.get_last_lr()[0]
            optimizer.step()
            state.schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if state.average is not None:
                state.average.update(model, step)

            took_s = time.perf_counter() - started
            record["samples_per_s"] = config.batch_size / took_s
            record["wait_share"] = waited_s / took_s
            record["memory_mb"] = memory_mb(device)
            log.write(record)
            on_step(record)

            last, improved = step == config.steps, False
            evaluates = last or (config.evaluate_every and step % config.evaluate_every == 0)
            if evaluates and not config.overfit_batch:
                options = config.batch_options(image_size=model.backbone.image_size)
                with autocast:
                    results = evaluate(
                        state.acting,
                        mixture,
                        normalizers,
                        options=options,
                        augment=config.augment,
                        max_windows=config.evaluate_windows,
                        world=world,
                    )
                release_gathered(state.acting)
                log.write({"step": step, "held_out": training_record(results)})
                improved = config.keep_best and _note_if_best(state, step, results, world)
            if last or improved or step % config.checkpoint_every == 0:
                if not config.overfit_batch:
                    loader_state = loader.state_dict()
                unsaved = world.from_leader(lambda: frozen_file(run) is None, device)
                checkpoint = state.checkpoint(step, {**constant_state, "loader": loader_state}, with_frozen=unsaved)
                if world.leads:
                    save_checkpoint(run, checkpoint, keep=config.keep_checkpoints, save_parts=model.save_parts)
            world.wait()


def _make_loader(config: TrainConfig, mixture: Mixture, image_size: int, world: World, device: torch.device) -> Loader:
    return make_loader(
        mixture,
        batch_size=config.batch_size,
        camera_dropout=config.camera_dropout,
        on_corrupt=config.on_corrupt,
        rank=world.rank,
        world_size=world.size,
        pin_memory=device.type == "cuda",
        **config.batch_options(image_size=image_size),
    )


def _replaced(loader: Loader, texts: TextStream | None) -> int:
    """Unreadable images that others stood in for so far, in this process."""
    return loader.num_substituted + (sum(texts.substitutions.values()) if texts is not None else 0)


def _check_held_out(config: TrainConfig, mixture: Mixture) -> None:
    if config.keep_best and not any(entry.stream.episodes.split_is("val").any() for entry in mixture.datasets):
        raise ValueError("keep_best: no data set of the mixture has a held-out episode to choose by; leave it out")


def _check_texts(texts: TextStream | None, saved: dict | None) -> None:
    if saved is None and texts is None:
        return
    if saved is None:
        raise StateError("this run was not trained on texts; leave --texts out to resume it")
    if texts is None:
        raise StateError("this run was trained on texts; give the same --texts to resume it")
    texts.check(saved)


def _check_teacher(teacher: Teacher | None, saved: dict | None) -> None:
    if saved is not None and teacher is None:
        raise StateError(f"this run is taught by {saved['folder']}; resume it with `python -m oxe_pipeline.distill`")
    if teacher is not None and teacher.record != saved:
        raise StateError(f"this run is taught by {saved}, not by {teacher.record}; resume it as it was begun")


def _pieces(batch: dict, count: int) -> Iterator[dict]:
    """`count` nearly equal pieces of a batch; ValueError when it has fewer samples than pieces."""
    size = len(batch["g"])
    if size < count:
        raise ValueError(f"micro_batches {count} is more than the {size} samples of a rank's batch")
    for number in range(count):
        rows = slice(number * size // count, (number + 1) * size // count)
        yield {name: value[rows] for name, value in batch.items()}


def _text_pieces(
    batch: dict | None, num_texts: int, step: int, config: TrainConfig, world: World, *, sharded: bool
) -> Iterator[dict]:
    """A rank's texts in as many pieces on every rank that has any: a sharded model is run by all ranks together."""
    smallest = num_texts // world.size
    if sharded and num_texts and not smallest:
        raise TrainingError(
            f"step {step}: {num_texts} texts for {world.size} ranks, and with fsdp each needs one; use a larger batch "
            "or share of texts"
        )
    if batch is not None:
        yield from _pieces(batch, max(1, min(config.micro_batches, smallest)))


def _prepared(batch: dict, device: torch.device, config: TrainConfig, mixture: Mixture) -> dict:
    """The batch on the device, its images augmented there where the configuration asks for it."""
    moved = to_device(batch, device)
    if config.augment is None or config.overfit_batch:
        return moved
    # Sample numbers are read on the CPU: from the device they would have to be waited for.
    drawn = augment({**moved, "g": batch["g"]}, seed=mixture.seed, options=config.augment)
    return {**drawn, "g": moved["g"]}


def _note_if_best(state: TrainingState, step: int, results: list[DatasetResult], world: World) -> bool:
    """Notes the step in `state.best` if no evaluation so far had a smaller error: the mean over data sets, as shares of
    the range of their slots. The first rank decides for all.
    """
    errors = [result.error_of_range["model"] for result in results if result.error_of_range]
    error = sum(errors) / len(errors) if errors else math.inf
    better = math.isfinite(error) and error < state.best.get("error", math.inf)
    device = next(state.model.parameters()).device
    if not world.sum(torch.tensor(float(better and world.leads), device=device)).item():
        return False
    state.best = {"step": step, "error": error}
    return True


def _not_finite(record: dict, loss_B: Tensor, batch: dict, mixture: Mixture) -> str:
    """Which samples to look at: those whose own loss is not finite, or all of them where it is the gradient."""
    suspects = torch.nonzero(~torch.isfinite(loss_B)).flatten().tolist() or range(len(loss_B))
    named = []
    for row in suspects[:_SAMPLES_NAMED]:
        entry = mixture.datasets[int(batch["dataset"][row])]
        episode_id = entry.stream.episodes.episode_id(int(batch["episode"][row]))
        named.append(f"{entry.name} episode {episode_id} step {int(batch['step'][row])}")
    more = f" and {len(suspects) - len(named)} more" if len(suspects) > len(named) else ""
    texts = f", loss of texts {record['text_loss']}" if "text_loss" in record else ""
    return (
        f"step {record['step']}: loss {record['loss']}{texts}, gradient norm {record['gradient_norm']}; samples: "
        f"{', '.join(named)}{more}; lower learning_rate, or look at these episodes"
    )
