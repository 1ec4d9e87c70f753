"""TrainConfig: everything a training run depends on besides its mixture and its texts."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.stats.normalizer import Mode, NormalizerConfig
from oxe_pipeline.vla.model import ModelConfig

Schedule = Literal["cosine", "constant", "rsqrt"]
Precision = Literal["fp32", "bf16"]
Sharding = Literal["ddp", "fsdp"]
OnCorrupt = Literal["error", "substitute"]
RSQRT_STEPS = 10_000
"""How slowly the inverse square root falls: so many steps after warm-up it is at 0.71 (octo/utils/train_utils.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Checked when made: ValueError names the field and the value."""

    preset: str
    model: ModelConfig
    steps: int
    """Optimiser steps of the whole run; a cosine schedule ends here."""
    batch_size: int = 32
    """Samples per optimiser step over all ranks together; those of a text stream come on top."""
    micro_batches: int = 1
    """Gradient accumulation: pieces in which each rank works through its part of the batch. Changes memory, not
    results.
    """
    seed: int = 0
    """Of the initial weights. The order of samples has the mixture's."""

    normalizer: Mode = "quantile"
    """How each data set's states and actions are brought to scale; see NormalizerConfig."""
    augment: AugmentOptions | None = None
    """Random crops and colours of the images that are trained on; None: images as they are."""
    goal_images: bool = False
    """Each sample also brings an image from later in its episode, for models that can be given a goal."""
    chunk_s: float | None = None
    """Seconds that a chunk of actions spans at any robot's rate; None: one action per recorded step."""
    cameras: tuple[str, ...] | None = None
    """The cameras the model is given; None: every one that some data set has."""
    camera_dropout: float = 0.0
    """Probability that a camera of a sample is blanked in training; one always stays."""
    on_corrupt: OnCorrupt = "error"
    """What an unreadable image does: stop the run, naming it, or be replaced by its nearest readable neighbour."""

    lora_rank: int = 0
    """Rank of low-rank adapters on the backbone's linear layers, which alone of the backbone are then trained, with
    its projector and state encoder; 0: all weights are trained."""
    lora_alpha: float = 16.0
    """Adapters are scaled by lora_alpha / lora_rank."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, by name or pattern: "backbone.image_encoder.*"."""

    learning_rate: float = 2e-3
    """At its peak."""
    schedule: Schedule = "cosine"
    """After warm-up: down to `final_share` at the last step; level; or, n steps after it, peak / sqrt(1 + n /
    RSQRT_STEPS), which needs no last step (Octo)."""
    warmup_steps: int = 20
    final_share: float = 0.1
    """Learning rate at the end of the cosine, as a share of its peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    """Applied to weight matrices and convolutions only: not to biases, norms and embeddings."""
    clip_norm: float = 1.0
    """The gradient's norm is clipped to this."""
    ema_decay: float = 0.0
    """Weights averaged exponentially over steps are kept beside the trained ones, and evaluated; 0: none."""

    precision: Precision = "fp32"
    """bf16: automatic mixed precision; trained weights, gradients' sums and optimiser stay float32, frozen matrices are
    stored as they are used, in bfloat16."""
    sharding: Sharding = "ddp"
    """Where several ranks train together: each holds the whole model, or each a part of every layer (FSDP2)."""
    activation_checkpointing: bool = False
    """Activations of the backbone's layers are computed again in the backward pass instead of being kept."""
    compile: bool = False
    """torch.compile on each layer of the backbone: minutes at the start, faster steps on a GPU."""
    cpu_threads: int = 0
    """Threads of torch's CPU operators; 0: torch's own choice, one per core. Numbers agree to the last bit only between
    runs with the same number of threads."""

    evaluate_every: int = 0
    """Steps between held-out evaluations during training; 0: only after the last step."""
    evaluate_windows: int = 256
    """Held-out windows per data set in those evaluations; `python -m oxe_pipeline.eval` takes them all."""
    checkpoint_every: int = 100
    """Steps between checkpoints; one is always written after the last step."""
    keep_checkpoints: int = 2
    """The newest ones."""
    keep_best: bool = False
    """The one with the least held-out error is kept besides, and named in best.json."""
    overfit_batch: bool = False
    """Trains on the first batch again and again, without evaluation: a model that cannot learn that has a fault."""
    wandb: str = ""
    """Project that metrics are sent to as well; "": none."""

    def __post_init__(self):
        self._check_numbers()
        for name, known in (
            ("normalizer", get_args(Mode)),
            ("on_corrupt", get_args(OnCorrupt)),
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
            ("sharding", get_args(Sharding)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, is {getattr(self, name)!r}")
        if self.keep_best and not self.evaluate_every:
            raise ValueError("keep_best chooses among evaluations: give evaluate_every as well")
        if self.keep_best and self.overfit_batch:
            raise ValueError("keep_best needs evaluations, and with overfit_batch there are none; leave one out")
        if self.goal_images and not getattr(self.model.backbone, "reads_goals", False):
            raise ValueError(
                f"goal_images: backbone {self.model.backbone.kind} learns its task from texts alone and would not see "
                "them; leave it out"
            )
        self.batch_options(image_size=None)

    def _check_numbers(self) -> None:
        at_least_1 = (
            "steps",
            "batch_size",
            "micro_batches",
            "evaluate_windows",
            "checkpoint_every",
            "keep_checkpoints",
        )
        for name in at_least_1:
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, is {getattr(self, name)!r}")
        for name in ("evaluate_every", "warmup_steps", "weight_decay", "seed", "cpu_threads", "lora_rank"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, is {getattr(self, name)!r}")
        for name in ("learning_rate", "clip_norm", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)!r}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), is {self.ema_decay!r}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), are {self.betas!r}")

    def prepared(self, mixture: Mixture) -> "TrainConfig":
        """This configuration with what its head fits to the data before training (FAST's codec), if it does."""
        if not hasattr(self.model.head, "prepared"):
            return self
        head = self.model.head.prepared(mixture, **self.batch_options(image_size=None))
        return replace(self, model=replace(self.model, head=head))

    @property
    def normalizer_config(self) -> NormalizerConfig:
        return NormalizerConfig(mode=self.normalizer)

    def batch_options(self, *, image_size: int | None) -> dict[str, Any]:
        """Fields of BatchOptions that hold in training and in evaluation alike; ValueError for one that does not."""
        options: dict[str, Any] = {
            "chunk": self.model.chunk,
            "chunk_s": self.chunk_s,
            "history": self.model.history,
            "image_size": image_size,
            "cameras": self.cameras,
            "normalizer": self.normalizer_config,
            "goal_images": self.goal_images,
        }
        BatchOptions(**options, camera_dropout=self.camera_dropout)
        return options
