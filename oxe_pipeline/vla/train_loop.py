"""The training loop: batch, loss, backward, clip, step, metrics, evaluation, checkpoint, in one function.

Whatever has a state is made at the top and saved at the bottom. A run that stops anywhere and goes on from its last
checkpoint does what it would have done without the stop: the same samples and, on a CPU with the same number of
threads, the same numbers to the last bit.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.loader.scaling import stream_normalizer
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.vla.checkpoint import Checkpoint, save_checkpoint
from oxe_pipeline.vla.distributed import World
from oxe_pipeline.vla.evaluate import evaluate, training_record
from oxe_pipeline.vla.first_batch import write_first_batch
from oxe_pipeline.vla.metrics import MetricsLog
from oxe_pipeline.vla.model import VLA, to_device
from oxe_pipeline.vla.optimization import WeightAverage, make_optimizer, make_schedule
from oxe_pipeline.vla.presets import TrainConfig
from oxe_pipeline.vla.records import config_to_record

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
    resume: Checkpoint | None = None,
    on_step: Callable[[dict], None] = lambda record: None,
) -> None:
    """Trains up to step `config.steps`; leaves metrics.jsonl, first_batch.txt and checkpoints in `run`.

    `on_step` gets the metrics of every step. With `resume` it goes on after that checkpoint's step. Raises
    TrainingError for a loss or a gradient that is not finite, DataError for an unreadable image, and StateError for a
    mixture other than the one the checkpoint was trained on. `mixture_file` is noted in the checkpoints, so that
    resuming finds it.
    """
    world = world or World()
    world.join(device)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")  # CUDA lacks some deterministic kernels.
    torch.manual_seed(config.seed)
    if config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)

    model = VLA(config.model).to(device)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
    loader = make_loader(
        mixture,
        batch_size=config.batch_size,
        chunk=config.model.chunk,
        history=config.model.history,
        image_size=model.backbone.image_size,
        on_corrupt=config.on_corrupt,
        rank=world.rank,
        world_size=world.size,
        pin_memory=device.type == "cuda",
    )
    normalizers = {
        entry.name: {vector: stream_normalizer(entry.stream, vector) for vector in ("action", "state")}
        for entry in mixture.datasets
    }
    constant_state = {
        "config": config_to_record(config),
        "mixture": {"file": str(mixture_file.resolve()), "identity": mixture.identity},
        "normalizers": {
            dataset: {vector: normalizer.to_dict() for vector, normalizer in vectors.items()}
            for dataset, vectors in normalizers.items()
        },
        "num_parameters": model.num_parameters,
        "device": str(device),
    }
    done = 0
    if resume is not None:
        done = resume.step
        model.load_state_dict(resume.weights)
        optimizer.load_state_dict(resume.training["optimizer"])
        schedule.load_state_dict(resume.training["schedule"])
        if average is not None and resume.average is not None:
            average.model.load_state_dict(resume.average)
        loader.load_state_dict(resume.state["loader"])
        _set_random_state(resume.training["random"])
    replica = world.replicate(model, device)
    acting = average.model if average is not None else model

    with loader, MetricsLog(run, resume_step=done, writes=world.leads) as log:
        for step in range(done + 1, config.steps + 1):
            started = time.perf_counter()
            batch = next(loader)
            waited_s = time.perf_counter() - started
            if step == 1 and world.leads:
                write_first_batch(run, batch, mixture, model)

            outputs = []
            for number in range(config.micro_batches):
                piece = to_device(_micro_batch(batch, number, config.micro_batches), device)
                with world.hold_gradients(replica, last=number == config.micro_batches - 1):
                    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                        output = replica(piece)
                    # Ranks average their gradients; scaled so that the result is the mean over the whole batch.
                    (output.loss_B.sum() * (world.size / config.batch_size)).backward()
                outputs.append((output.loss_B.detach(), output.metrics["token_accuracy"]))
            loss_B, accuracy_B = (torch.cat(parts) for parts in zip(*outputs, strict=True))
            loss, accuracy = (world.sum(torch.stack([loss_B.sum(), accuracy_B.sum()])) / config.batch_size).tolist()

            gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm).item()
            if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
                raise TrainingError(_not_finite(step, loss, gradient_norm, loss_B, batch, mixture))
            learning_rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update(model, step)

            took_s = time.perf_counter() - started
            record = {
                "step": step,
                "samples": [loader.g - config.batch_size, loader.g],
                "loss": loss,
                "token_accuracy": accuracy,
                "gradient_norm": gradient_norm,
                "learning_rate": learning_rate,
                "loss_per_dataset": _per_dataset(loss_B, batch["dataset"], mixture),
                "samples_per_s": config.batch_size / took_s,
                "wait_share": waited_s / took_s,
            }
            log.write(record)
            on_step(record)

            last = step == config.steps
            if world.leads and (last or (config.evaluate_every and step % config.evaluate_every == 0)):
                results = evaluate(acting, mixture, normalizers, max_windows=config.evaluate_windows)
                log.write({"step": step, "held_out": training_record(results)})
            if world.leads and (last or step % config.checkpoint_every == 0):
                training = {
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "random": _random_state(),
                }
                checkpoint = Checkpoint(
                    step=step,
                    weights=model.state_dict(),
                    average=average.model.state_dict() if average is not None else None,
                    training=training,
                    state={**constant_state, "loader": loader.state_dict()},
                )
                save_checkpoint(run, checkpoint, keep=config.keep_checkpoints)
            world.wait()


def _micro_batch(batch: dict, number: int, count: int) -> dict:
    """The `number`-th of `count` nearly equal pieces of a batch; ValueError when it has fewer samples than pieces."""
    size = len(batch["g"])
    if size < count:
        raise ValueError(f"micro_batches {count} is more than the {size} samples of a rank's batch")
    rows = slice(number * size // count, (number + 1) * size // count)
    return {name: value[rows] for name, value in batch.items()}


def _per_dataset(loss_B: Tensor, dataset_B: Tensor, mixture: Mixture) -> dict[str, float]:
    """Mean loss of this rank's samples of each data set that is in the batch."""
    dataset_B = dataset_B.to(loss_B.device)
    return {
        mixture.datasets[number].name: loss_B[dataset_B == number].mean().item()
        for number in torch.unique(dataset_B).tolist()
    }


def _not_finite(step: int, loss: float, gradient_norm: float, loss_B: Tensor, batch: dict, mixture: Mixture) -> str:
    """Which samples to look at: those whose own loss is not finite, or all of them where it is the gradient."""
    suspects = torch.nonzero(~torch.isfinite(loss_B)).flatten().tolist() or range(len(loss_B))
    named = []
    for row in suspects[:_SAMPLES_NAMED]:
        entry = mixture.datasets[int(batch["dataset"][row])]
        episode_id = entry.stream.episodes.episode_id(int(batch["episode"][row]))
        named.append(f"{entry.name} episode {episode_id} step {int(batch['step'][row])}")
    more = f" and {len(suspects) - len(named)} more" if len(suspects) > len(named) else ""
    return (
        f"step {step}: loss {loss}, gradient norm {gradient_norm}; samples: {', '.join(named)}{more}; "
        "lower learning_rate, or look at these episodes"
    )


def _random_state() -> dict[str, Tensor]:
    """States of torch's generators; nothing here draws from numpy's or Python's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
