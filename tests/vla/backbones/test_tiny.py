"""Tiny directories are read by the same Auto classes as published ones."""

import time

import numpy as np
import pytest
import torch

from oxe_pipeline.vla.backbones.hub import BackboneError
from oxe_pipeline.vla.backbones.tiny import TINY_KINDS, write_tiny

transformers = pytest.importorskip("transformers")

MODELS = {
    "paligemma": "AutoModelForImageTextToText",
    "smolvlm": "AutoModelForImageTextToText",
    "llava": "AutoModelForImageTextToText",
    "llama": "AutoModelForCausalLM",
    "siglip": "AutoModel",
    "dinov2": "AutoModel",
    "t5": "AutoModel",
}
WITH_TOKENIZER = ("paligemma", "smolvlm", "llava", "llama", "t5")
WITH_IMAGES = ("paligemma", "smolvlm", "llava", "siglip", "dinov2")
PIXELS = {"smolvlm": 112}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    write_tiny("llama", root / "first")  # Pays for the imports, which the time limit is not about.
    made = {}
    for kind in TINY_KINDS:
        before = time.perf_counter()
        made[kind] = write_tiny(kind, root / kind)
        assert time.perf_counter() - before < 10, "about a second is usual; this is for a busy machine"
    return made


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_the_auto_class_loads_all_weights_that_were_written(folders, kind):
    model, found = getattr(transformers, MODELS[kind]).from_pretrained(folders[kind], output_loading_info=True)
    assert not found["missing_keys"] and not found["mismatched_keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) < 500_000
    from_scratch = type(model)(model.config)
    assert any(
        not torch.equal(loaded, fresh)
        for loaded, fresh in zip(model.parameters(), from_scratch.parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", WITH_TOKENIZER)
def test_texts_of_any_language_come_back_from_their_ids(folders, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    for text in ("pick up the red block\nOut: 1 128 91", "räume den Tisch ab 🤖"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text
        assert len(ids) < len(text.encode()) or not text.isascii()
    assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id is not None


@pytest.mark.parametrize("kind", WITH_TOKENIZER)
def test_300_ids_before_the_trailing_special_ones_never_come_from_a_text(folders, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    rows = transformers.AutoConfig.from_pretrained(folders[kind]).get_text_config().vocab_size
    assert rows >= len(tokenizer)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    last_plain = max(set(range(len(tokenizer))) - special)
    assert not special & set(range(last_plain - 299, last_plain + 1))
    every_byte = bytes(range(256)).decode("latin-1") + "".join(chr(number) for number in range(256, 1000))
    assert max(tokenizer.encode(every_byte, add_special_tokens=False)) < last_plain - 299


@pytest.mark.parametrize("kind", ["paligemma", "llava"])
def test_the_family_s_processor_and_model_work_together(folders, kind):
    processor = transformers.AutoProcessor.from_pretrained(folders[kind])
    model = transformers.AutoModelForImageTextToText.from_pretrained(folders[kind])
    image = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    inputs = processor(images=image, text="<image>push the block", return_tensors="pt")
    marks = (inputs["input_ids"] == model.config.image_token_id).sum()
    assert marks == 16, "56 px in patches of 14"
    assert torch.isfinite(model(**inputs).logits).all()


@pytest.mark.parametrize("kind", WITH_IMAGES)
def test_images_come_out_at_the_size_of_the_tower(folders, kind):
    processor = transformers.AutoImageProcessor.from_pretrained(folders[kind])
    options = {"do_image_splitting": False} if kind == "smolvlm" else {}
    pixels = processor(np.zeros((90, 60, 3), np.uint8), return_tensors="np", **options)["pixel_values"]
    assert pixels.shape[-3:] == (3, PIXELS.get(kind, 56), PIXELS.get(kind, 56))


def test_weights_depend_on_the_seed_alone(tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (
        (write_tiny("llama", tmp_path / name, seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state), "the global generator stays as it was"


def test_what_cannot_be_written_is_refused_with_what_can(tmp_path):
    with pytest.raises(BackboneError, match="no tiny 'gpt5'; there are paligemma, smolvlm"):
        write_tiny("gpt5", tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(BackboneError, match="is not empty"):
        write_tiny("llama", tmp_path)
