"""The octo backbone: a transformer from scratch over instruction, goal and camera tokens (Octo, arXiv 2405.12213).

The sequence is [task | observations of the oldest step | ... | of the newest | readouts], and the rules of
attention_rules.py say who sees whom; what a head decodes are the readouts. An input that is missing (a camera, a step,
the instruction) is masked, never shown as a black image. Only a goal image, which lies on further channels of its
camera's images, is black where none is given, as published.

Against octo-models/octo, version 1.5: padding behind an instruction is masked, and position embeddings of steps count
from the newest, so that a shorter history reads as the end of a longer one. Octo takes its loss at the older steps of
the window too; the loader brings the actions of the newest, and only that one has readouts here.

Shape letters: B batch, T history, L text tokens, n tokens of one step, P context tokens, S readouts, D width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from oxe_pipeline.vla.backbones.attention_rules import (
    BEFORE_ALL_STEPS,
    OCTO_RULES,
    TokenGroup,
    decoded_attention,
    visible_tokens,
)
from oxe_pipeline.vla.backbones.block import Block
from oxe_pipeline.vla.backbones.camera_tokens import CameraTokens, by_age
from oxe_pipeline.vla.backbones.robot_state import StateEncoder, existing_steps
from oxe_pipeline.vla.backbones.small_stem import PATCH
from oxe_pipeline.vla.backbones.task_condition import given_conditions
from oxe_pipeline.vla.backbones.text_encoder import BYTES, make_text_encoder
from oxe_pipeline.vla.context import Context
from oxe_pipeline.vla.text import ByteVocabulary
from schemas.slots import CAMERAS


@dataclass(frozen=True, kw_only=True, slots=True)
class OctoConfig:
    """Octo-Small as published; see `octo_base` and `octo_tiny` for other sizes. Checked when made."""

    kind: Literal["octo"] = "octo"
    width: int = 384
    layers: int = 12
    heads: int = 6
    mlp_ratio: int = 4
    image_size: int = 256
    """Side in pixels of the images of scene cameras; a multiple of 16, as the next one."""
    wrist_image_size: int = 128
    """To which the images of wrist cameras are reduced."""
    cameras: tuple[str, ...] = ("primary", "wrist")
    """The cameras it reads, each with a stem of its own; others of a batch are passed over."""
    stem_features: tuple[int, int, int, int] = (32, 96, 192, 384)
    stem_width: int = 512
    text: str = "google-t5/t5-base"
    """Hub name or directory of a T5 model, whose frozen encoder reads the instruction; or "bytes", learnt from
    scratch, 4 bytes to a token."""
    text_length: int = 16
    """Tokens of the instruction; longer ones are cut."""
    repeat_task: bool = True
    """The instruction's tokens stand among the observations of each step as well, where what is made of them may
    depend on the images (version 1.5)."""
    use_state: bool = False
    """One token per step from the robot's state; as published there is none."""
    reads_goals: bool = True
    """Takes goal images besides instructions; without, stems have three channels."""
    keep_goal_probability: float = 0.5
    """In training, of a goal image, where a sample has an instruction too; else the instruction is kept."""
    max_history: int = 10

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        for name in ("image_size", "wrist_image_size"):
            if getattr(self, name) < PATCH or getattr(self, name) % PATCH:
                raise ValueError(f"{name} must be a positive multiple of {PATCH}, is {getattr(self, name)}")
        if not self.cameras or len(set(self.cameras)) < len(self.cameras) or not set(self.cameras) <= set(CAMERAS):
            raise ValueError(f"cameras must be different ones of {', '.join(CAMERAS)}, are {self.cameras}")
        if len(self.stem_features) != 4:
            raise ValueError(f"stem_features must be 4 widths, are {self.stem_features}")
        if not 0 <= self.keep_goal_probability <= 1:
            raise ValueError(f"keep_goal_probability must be in [0, 1], is {self.keep_goal_probability}")
        for name in ("layers", "text_length", "max_history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, is {getattr(self, name)}")


def octo_base(**changes: Any) -> OctoConfig:
    """Octo-Base: a trunk of the size of ViT-B."""
    return OctoConfig(**{"width": 768, "heads": 12, **changes})


def octo_tiny(**changes: Any) -> OctoConfig:
    """A quarter of a million parameters and images of 64 px, for tests and two CPU cores."""
    sizes = {"width": 64, "layers": 2, "heads": 4, "image_size": 64, "wrist_image_size": 32}
    return OctoConfig(**{**sizes, "stem_features": (8, 16, 32, 64), "stem_width": 64, "text": BYTES, **changes})


class OctoBackbone(nn.Module):
    """See the module's text and the Backbone protocol.

    `tokens` and `vocabulary` are of what is decoded: bytes, and `extra_ids` for the head's actions. Instructions have
    a vocabulary of their own, inside the text encoder. `parts` holds that encoder's configuration and tokeniser.
    """

    reads_prompts = False

    def __init__(self, config: OctoConfig, *, extra_ids: int, parts: Path | None = None):
        super().__init__()
        self.config, self.width, self.image_size = config, config.width, config.image_size
        self.num_layers, self.kv_heads, self.head_dim = config.layers, config.heads, config.width // config.heads
        self.reads_goals = config.reads_goals
        self.vocabulary = ByteVocabulary()
        self.vocabulary_size = self.vocabulary.size + extra_ids
        self.tokens = nn.Embedding(self.vocabulary_size, config.width)
        self.cameras = nn.ModuleDict({camera: make_camera_tokens(config, camera) for camera in config.cameras})
        if config.use_state:
            self.state_encoder = StateEncoder(config.width)
            self.state_position = nn.Embedding(config.max_history, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, heads=config.heads, mlp_ratio=config.mlp_ratio) for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.text_position = nn.Embedding(config.text_length, config.width)
        self.recompute_activations = False
        text_encoder = make_text_encoder(config.text, parts, length=config.text_length, width=config.width)
        self.text_projection = nn.Linear(text_encoder.width, config.width)
        initialise(self)
        self.text_encoder = text_encoder  # After `initialise`: it comes with its weights.

    def encode(self, batch: dict) -> Context:
        """Context of a loader batch. ValueError for a history that is too long and a batch without any of its cameras.

        In training mode, where a sample has both instruction and goal image, one of them is withheld (see
        task_condition.py); the batch's `task_mode`, if it has one, decides instead.
        """
        x_BPD, real_BP, groups = self._sequence(batch)
        _, keys, values = self._run(x_BPD, visible_tokens(groups, OCTO_RULES, real_BP)[:, None], None)
        return Context(keys, values, real_BP)

    def decode(
        self, embedding_BSD: Tensor, mask_BS: Tensor, context: Context, *, causal: bool = True
    ) -> tuple[Tensor, Context]:
        """See Backbone."""
        mask = decoded_attention(context.mask_BP, mask_BS, causal=causal)[:, None]
        hidden, keys, values = self._run(embedding_BSD, mask, context)
        return hidden, Context(keys, values, torch.cat([context.mask_BP, mask_BS], 1))

    def encode_decode(self, batch: dict, embedding_BSD: Tensor, mask_BS: Tensor, *, causal: bool = True) -> Tensor:
        """See Backbone. One pass, in which the decoded tokens are one more group: readouts of the newest step."""
        x_BPD, real_BP, groups = self._sequence(batch)
        count = mask_BS.shape[1]
        groups.append(TokenGroup("readout_action", groups[-1].step, count))
        mask_BNN = visible_tokens(groups, OCTO_RULES, torch.cat([real_BP, mask_BS], 1))
        if causal:
            mask_BNN[:, -count:, -count:].tril_()
        x_BND = torch.cat([x_BPD, embedding_BSD.to(x_BPD.dtype)], 1)
        hidden, _, _ = self._run(x_BND, mask_BNN[:, None], None)
        return hidden[:, -count:]

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """[B, S, vocabulary_size], by the tied embedding table."""
        return F.linear(hidden_BSD, self.tokens.weight)

    def prompt(self, batch: dict, row: int) -> str:
        """What is read of a sample: names of images, and the instruction, cut where it is too long."""
        one: dict = {key: value if isinstance(value, str) else value[row : row + 1] for key, value in batch.items()}
        text_B, goal_B = self._given(one)
        shown = [camera for camera in self._cameras_of(one) if one[f"image_{camera}_mask"].any()]
        words = [*(f"<image {camera}>" for camera in shown), "<image goal>" if goal_B.item() else ""]
        words += ["<state>" if self.config.use_state else ""]
        words += [self.text_encoder.read(one["instruction"][0].strip()) if text_B.item() else ""]
        return " ".join(word for word in words if word)

    def save_parts(self, folder: Path) -> None:
        """What the text encoder needs."""
        self.text_encoder.save_parts(folder)

    def blocks_to_shard(self) -> list[nn.Module]:
        """The trunk's layers. Not T5's: ranks need not encode texts at the same time."""
        return list(self.blocks)

    def checkpoint_activations(self, on: bool) -> None:
        """Whether layers forget their activations and compute them again for the gradient."""
        self.recompute_activations = on

    def _run(
        self, x_BSD: Tensor, mask: Tensor, past: Context | None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Final hidden states, and per layer the keys and values of `past` and x together."""
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            inputs = x_BSD, mask, None if past is None else (past.keys[layer], past.values[layer])
            if self.recompute_activations and torch.is_grad_enabled():
                x_BSD, key, value = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x_BSD, key, value = block(*inputs)
            keys.append(key)
            values.append(value)
        return self.norm_out(x_BSD), tuple(keys), tuple(values)

    def _sequence(self, batch: dict) -> tuple[Tensor, Tensor, list[TokenGroup]]:
        """Embeddings [B, P, D] of task and observations, which are real, bool [B, P], and whose they are."""
        exists_BT = existing_steps(batch)
        text_B, goal_B = self._given(batch)
        text_BLD, real_BL = self._text_tokens(batch, text_B)
        observed = self._image_tokens(batch, goal_B)
        if self.config.use_state:
            observed["obs_state"] = self._state_tokens(batch), exists_BT[..., None]
        if self.config.repeat_task:
            history = exists_BT.shape[1]
            observed["obs_task_language"] = (
                text_BLD[:, None].expand(-1, history, -1, -1),
                real_BL[:, None].expand(-1, history, -1),
            )
        tokens_BTnD = torch.cat([tokens for tokens, _ in observed.values()], 2)
        real_BTn = torch.cat([real for _, real in observed.values()], 2) & exists_BT[..., None]
        groups = [TokenGroup("task_language", BEFORE_ALL_STEPS, text_BLD.shape[1])]
        for step in range(exists_BT.shape[1]):
            groups += [TokenGroup(name, step, tokens.shape[2]) for name, (tokens, _) in observed.items()]
        x_BPD = torch.cat([text_BLD, tokens_BTnD.flatten(1, 2)], 1)
        return x_BPD, torch.cat([real_BL, real_BTn.flatten(1)], 1), groups

    def _text_tokens(self, batch: dict, given_B: Tensor) -> tuple[Tensor, Tensor]:
        features_BLW, real_BL = self.text_encoder([text.strip() for text in batch["instruction"]])
        tokens_BLD = self.text_projection(features_BLW) + self.text_position.weight
        return tokens_BLD, real_BL & given_B[:, None]

    def _image_tokens(self, batch: dict, goal_B: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Group -> tokens [B, T, n, D] and which are real [B, T, n]; of each camera that batch and model have."""
        goal_camera, found = self._goal_camera(batch), {}
        for camera in self._cameras_of(batch):
            goal_BHWC = batch["image_goal"] if camera == goal_camera else None
            tokens_BTnD = self.cameras[camera](batch[f"image_{camera}"], goal_BHWC, goal_B)
            found[f"obs_{camera}"] = tokens_BTnD, batch[f"image_{camera}_mask"][..., None].expand(tokens_BTnD.shape[:3])
        return found

    def _state_tokens(self, batch: dict) -> Tensor:
        """[B, T, 1, D]."""
        tokens_BT1D = self.state_encoder(batch["state"], batch["state_mask"])[:, :, None]
        return tokens_BT1D + by_age(self.state_position, tokens_BT1D)

    def _given(self, batch: dict) -> tuple[Tensor, Tensor]:
        return given_conditions(
            batch,
            goal_camera=self._goal_camera(batch),
            keep_goal_probability=self.config.keep_goal_probability if self.training else None,
        )

    def _goal_camera(self, batch: dict) -> str | None:
        """The camera that goal images are of: the loader's first. None where the batch has none for this model."""
        if not self.config.reads_goals or "image_goal" not in batch:
            return None
        first = [camera for name in batch if (camera := name.removeprefix("image_")) in CAMERAS][:1]
        return first[0] if first and first[0] in self.config.cameras else None

    def _cameras_of(self, batch: dict) -> list[str]:
        cameras = [camera for camera in self.config.cameras if f"image_{camera}" in batch]
        if not cameras:
            raise ValueError(
                f"the batch has none of this model's cameras ({', '.join(self.config.cameras)}); name those of the "
                "data in the backbone's `cameras`"
            )
        return cameras


def make_camera_tokens(config: OctoConfig, camera: str) -> CameraTokens:
    return CameraTokens(
        side=config.wrist_image_size if camera.startswith("wrist") else config.image_size,
        takes_goal=config.reads_goals,
        stem_features=config.stem_features,
        stem_width=config.stem_width,
        width=config.width,
        max_history=config.max_history,
    )


def initialise(backbone: OctoBackbone) -> None:
    """As Octo's modules start in flax: Xavier's uniform weights in the trunk, LeCun's normal ones around it, no biases,
    embeddings of deviation 0.02. Convolutions, being standardised, stay as torch makes them.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    for block in backbone.blocks:
        for name, weight in block.named_parameters():
            if weight.ndim == 2:
                for part in weight.data.chunk(3 if name == "qkv.weight" else 1):
                    nn.init.xavier_uniform_(part)
