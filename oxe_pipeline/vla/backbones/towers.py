"""The towers backbone: several vision towers fused per patch, a projector, and a causal language model (OpenVLA).

Every tower sees the same image through its own settings; features of the same patch are put side by side and projected
to the language model's width (Prismatic VLMs, arXiv 2402.07865, and OpenVLA, arXiv 2406.09246, with DINOv2 for where
things are and SigLIP for what they are). Three sources, each with weights of its own, so that any pair of published
towers and language models can be joined. What that trades away: the projector begins at random, so a run from these
parts needs far more steps than one from a vision-language model.

Shape letters: N images, P patches, D width of one tower or of all together.
"""

import copy
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.hub import BackboneError, load_config, load_model, load_tokenizer, save_parts
from oxe_pipeline.vla.backbones.image_inputs import Aspect, ImageInputs
from oxe_pipeline.vla.backbones.language import LanguageBackbone
from oxe_pipeline.vla.backbones.sentences import PromptTemplate, SentenceStyle

FINAL_NORMS = ("layernorm", "post_layernorm", "norm")
"""What DINOv2 and ViT, SigLIP and CLIP, and DINOv3 call the norm behind their last block."""
OPENVLA_PROMPT = "{images}In: What action should the robot take to {instruction}?\nOut:"


@dataclass(frozen=True, kw_only=True, slots=True)
class TowersConfig:
    """OpenVLA's parts as transformers has them. Checked when made: ValueError names the field and the value."""

    kind: Literal["towers"] = "towers"
    vision: tuple[str, ...] = ("facebook/dinov2-with-registers-large", "google/siglip-so400m-patch14-224")
    """Hub names or local directories of the towers, in the order in which their features are put side by side."""
    language: str = "meta-llama/Llama-2-7b-hf"
    """Hub name or local directory of the causal language model and its tokeniser."""
    prompt: str = OPENVLA_PROMPT
    """Template; see sentences.py for its places."""
    prefix_attention: Literal["bidirectional", "causal"] = "causal"
    max_history: int = 4
    image_size: int | None = None
    """Side of the square, in pixels, that every tower is given; None: each tower's own. Position embeddings are
    interpolated where a tower was trained on another size."""
    aspect: Aspect = "stretch"
    """How an image of another shape becomes a square: stretched as OpenVLA does, or cut as the tower's own settings
    say; see image_inputs.py."""
    text_length: int = 64
    """Most ids of text in a sentence, images and states not counted; longer instructions are cut."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in memory. Training in mixed precision keeps float32 here; bfloat16 halves the memory."""

    def __post_init__(self):
        PromptTemplate(self.prompt)
        if not self.vision:
            raise ValueError("vision must name at least one tower")
        for name, known in (
            ("prefix_attention", ("bidirectional", "causal")),
            ("aspect", ("stretch", "crop")),
            ("dtype", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, is {getattr(self, name)!r}")
        for name in ("max_history", "text_length", "image_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, is {getattr(self, name)}")


class Tower(nn.Module):
    """One vision transformer up to the output of its second-to-last block, and the settings of its images.

    The last block's features are shaped by what the tower was trained to say about the whole image; Prismatic and
    OpenVLA take those one block before, without class and register tokens and without the final norm. What comes after
    is not built, so no weight is without a gradient.
    """

    def __init__(self, source: str, parts: Path | None, config: TowersConfig):
        super().__init__()
        self.source, self.settings = source, load_config(source, parts)
        vision = copy.deepcopy(getattr(self.settings, "vision_config", self.settings))
        for name in ("num_hidden_layers", "patch_size", "hidden_size"):
            if not isinstance(getattr(vision, name, None), int):
                raise BackboneError(
                    f"{source}: {self.settings.model_type} has no {name}; a vision transformer is needed"
                )
        if vision.num_hidden_layers < 2:
            raise BackboneError(f"{source}: features of the second-to-last block need 2, it has 1")
        vision.num_hidden_layers -= 1
        vision.vision_use_head = False  # SigLIP's pooling, which others do not know.
        self.model: Any = load_model("AutoModel", source, parts, config=vision, dtype=getattr(torch, config.dtype))
        _leave_features_as_they_are(self.model, source)
        self.width: int = vision.hidden_size
        self.inputs = ImageInputs(source, parts, image_size=config.image_size, aspect=config.aspect)
        side = self.inputs.image_size
        if side % vision.patch_size:
            raise BackboneError(f"{source}: image_size {side} is no multiple of its patch size {vision.patch_size}")
        self.patches = (side // vision.patch_size) ** 2
        known = inspect.signature(self.model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}

    def forward(self, images: list[Tensor]) -> Tensor:
        """[N, P, D] of uint8 image batches [N_i, H, W, 3]."""
        pixels = torch.cat([self.inputs(group) for group in images]).to(self.model.dtype)
        tokens = self.model(pixels, **self._options).last_hidden_state
        return tokens[:, tokens.shape[1] - self.patches :]


class FusedVision(nn.Module):
    """Towers side by side and OpenVLA's projector. BackboneError for towers that differ in the number of patches."""

    def __init__(self, towers: list[Tower], *, width: int, dtype: torch.dtype):
        super().__init__()
        if len({tower.patches for tower in towers}) > 1:
            numbers = ", ".join(f"{tower.source} {tower.patches}" for tower in towers)
            raise BackboneError(f"vision: towers must give equally many patches, not {numbers}; set image_size")
        self.towers = nn.ModuleList(towers)
        fused = sum(tower.width for tower in towers)
        self.projector = nn.Sequential(
            nn.Linear(fused, 4 * fused), nn.GELU(), nn.Linear(4 * fused, width), nn.GELU(), nn.Linear(width, width)
        ).to(dtype)

    def forward(self, images: list[Tensor]) -> Tensor:
        """[N, P, width] of uint8 image batches [N_i, H, W, 3]."""
        return self.projector(torch.cat([tower(images) for tower in self.towers], -1))


class TowersBackbone(LanguageBackbone):
    """See the module's text. `extra_ids` has no use: actions take the tokeniser's last ids.

    BackboneError (a ValueError) for a source that cannot be had or does not fit.
    """

    def __init__(self, config: TowersConfig, *, extra_ids: int, parts: Path | None = None):
        dtype = getattr(torch, config.dtype)
        folders = part_folders(parts, len(config.vision))
        towers = [Tower(source, folder, config) for source, folder in zip(config.vision, folders, strict=True)]
        folder = None if parts is None else parts / "language"
        model: Any = load_model("AutoModelForCausalLM", config.language, folder, dtype=dtype)
        head, language = model.get_output_embeddings(), model.get_decoder()
        super().__init__(
            vision=FusedVision(towers, width=language.config.hidden_size, dtype=dtype),
            language=language,
            output=None if head.weight is language.get_input_embeddings().weight else head,
            tokenizer=load_tokenizer(config.language, folder),
            style=SentenceStyle(),
            image_size=max(tower.inputs.image_size for tower in towers),
            prompt=config.prompt,
            prefix_attention=config.prefix_attention,
            max_history=config.max_history,
            text_length=config.text_length,
        )
        self.config, self._settings = config, model.config

    def save_parts(self, folder: Path) -> None:
        """A folder each for the towers and the language model, as transformers writes them."""
        towers: Any = self.vision.towers
        for tower, into in zip(towers, part_folders(folder, len(towers)), strict=True):
            save_parts(into, config=tower.settings, image_inputs=tower.inputs)
        save_parts(folder / "language", config=self._settings, tokenizer=self.tokenizer)


def part_folders(parts: Path | None, towers: int) -> list[Any]:
    """Where each tower's own parts lie; Nones where there are no parts."""
    return [None if parts is None else parts / f"vision_{number}" for number in range(towers)]


def _leave_features_as_they_are(model: Any, source: str) -> None:
    """Takes away the norm and the pooling behind the last block, and freezes what only other uses of the model need."""
    norms = [name for name in FINAL_NORMS if isinstance(getattr(model, name, None), nn.Module)]
    if len(norms) != 1:
        raise BackboneError(f"{source}: no final norm called {', '.join(FINAL_NORMS)}; such a tower is not supported")
    setattr(model, norms[0], nn.Identity())
    if hasattr(model, "pooler"):
        model.pooler = None
    for name, parameter in model.named_parameters():
        if name.endswith("mask_token"):
            parameter.requires_grad_(False)
