"""The vlm backbone: a pretrained image-text-to-text model of transformers, by Hub name or local directory.

The model is taken apart into what makes tokens of images and what reads them; both stay the family's own modules, so
weights load as published. Tried with PaliGemma, SmolVLM / Idefics3 and LLaVA. Families fit when their
`get_image_features` gives every image the same number of tokens and their positions are plain numbers; Qwen-VL's
three-dimensional positions are refused. Images are read whole at the model's own size: no tiling into sub-images, whose
tokens a control loop could not afford.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.hub import BackboneError, load_config, load_model, load_tokenizer, save_parts
from oxe_pipeline.vla.backbones.image_inputs import ImageInputs
from oxe_pipeline.vla.backbones.language import LanguageBackbone
from oxe_pipeline.vla.backbones.sentences import PromptTemplate, SentenceStyle

VLM_PROMPT = "{images}In: What action should the robot take to {instruction}?\nOut:"
_IDEFICS3_STYLE = {"before_image": "<fake_token_around_image><global-img>", "after_image": "<fake_token_around_image>"}
FAMILY_STYLES: dict[str, dict] = {
    "paligemma": {"begin": "before_text"},
    "smolvlm": _IDEFICS3_STYLE,
    "idefics3": _IDEFICS3_STYLE,
}
"""Model type to what its processor puts around images and where it begins the text; others do neither."""
IMAGES_IN_ROWS = ("smolvlm", "idefics3")
"""Model types whose images are [rows, images of a row, 3, height, width]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VLMConfig:
    """Checked when made: ValueError names the field and the value."""

    kind: Literal["vlm"] = "vlm"
    source: str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    """Hub name or local directory of the model, its tokeniser and its image settings."""
    prompt: str = VLM_PROMPT
    """Template; see sentences.py for its places."""
    prefix_attention: Literal["bidirectional", "causal"] = "causal"
    """Inside the sentence, as the model was trained: bidirectional for PaliGemma, causal for nearly all others."""
    max_history: int = 4
    text_length: int = 64
    """Most ids of text in a sentence, images and states not counted; longer instructions are cut."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in memory. Training in mixed precision keeps float32 here; bfloat16 halves the memory."""

    def __post_init__(self):
        PromptTemplate(self.prompt)
        for name, known in (("prefix_attention", ("bidirectional", "causal")), ("dtype", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, is {getattr(self, name)!r}")
        for name in ("max_history", "text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, is {getattr(self, name)}")


class ModelVision(nn.Module):
    """The image side of a model: image settings, tower and projector. See LanguageBackbone for what it gives."""

    def __init__(self, model: Any, inputs: ImageInputs, *, images_in_rows: bool):
        super().__init__()
        self.model, self.inputs, self.images_in_rows = model, inputs, images_in_rows

    def forward(self, images: list[Tensor]) -> Tensor:
        """[N, n, D] of image batches uint8 [N_i, H, W, 3]."""
        pixels = torch.cat([self.inputs(group) for group in images]).to(next(self.model.parameters()).dtype)
        if self.images_in_rows:
            pixels = pixels[:, None]
        features = self.model.get_image_features(pixels, return_dict=True).pooler_output
        return features if isinstance(features, Tensor) else torch.stack(list(features))


class VLMBackbone(LanguageBackbone):
    """See the module's text. `extra_ids` has no use: actions take the tokeniser's last ids.

    BackboneError (a ValueError) for a source that cannot be had or does not fit.
    """

    def __init__(self, config: VLMConfig, *, extra_ids: int, parts: Path | None = None):
        settings = load_config(config.source, parts)
        _check_family(settings, config.source)
        tokenizer = load_tokenizer(config.source, parts)
        model: Any = load_model(
            "AutoModelForImageTextToText", config.source, parts, config=settings, dtype=getattr(torch, config.dtype)
        )
        inputs = ImageInputs(config.source, parts)
        language = model.base_model.get_decoder()
        head = model.get_output_embeddings()
        super().__init__(
            vision=ModelVision(
                _without(model.base_model, language), inputs, images_in_rows=settings.model_type in IMAGES_IN_ROWS
            ),
            language=language,
            output=None if head.weight is language.get_input_embeddings().weight else head,
            tokenizer=tokenizer,
            style=family_style(settings, tokenizer),
            image_size=inputs.image_size,
            prompt=config.prompt,
            prefix_attention=config.prefix_attention,
            max_history=config.max_history,
            text_length=config.text_length,
        )
        self.config, self._settings = config, settings

    def save_parts(self, folder: Path) -> None:
        """The model's configuration, tokeniser and image settings, as transformers writes them."""
        save_parts(folder, config=self._settings, tokenizer=self.tokenizer, image_inputs=self.vision.inputs)


def family_style(settings: Any, tokenizer: Any) -> SentenceStyle:
    """How sentences of this model are written; the image token is the one that its configuration names."""
    image_id = settings.image_token_id
    image_token = tokenizer.convert_ids_to_tokens(image_id) if image_id < len(tokenizer) else None
    return SentenceStyle(image_token=image_token, **FAMILY_STYLES.get(settings.model_type, {}))


def _check_family(settings: Any, source: str) -> None:
    text = settings.get_text_config()
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}):
        raise BackboneError(
            f"{source}: {settings.model_type} has three-dimensional positions, which vlm cannot give it"
        )
    if not hasattr(settings, "image_token_id"):
        raise BackboneError(
            f"{source}: {settings.model_type} is no model of images and text; name one of those in `source`"
        )


def _without(model: nn.Module, part: nn.Module) -> nn.Module:
    """The model with one of its children taken out, so that no weight belongs to two modules."""
    for name, child in list(model.named_children()):
        if child is part:
            setattr(model, name, None)
    return model
