import json
import time

import pytest
import torch

from oxe_pipeline.vla.backbones.hub import BackboneError, load_config, load_model, load_tokenizer, save_parts
from oxe_pipeline.vla.backbones.image_inputs import ImageInputs
from oxe_pipeline.vla.backbones.tiny import write_tiny
from tests.vla.backbones.small_hub import serving

transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return write_tiny("llama", tmp_path_factory.mktemp("hub") / "llama")


@pytest.fixture
def hub_at(tmp_path, monkeypatch):
    """Points huggingface_hub at a server, with an empty cache."""
    from huggingface_hub import constants

    def point(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    return point


def weights_of(folder) -> dict[str, torch.Tensor]:
    return safetensors.load_file(folder / "model.safetensors")


def test_a_directory_gives_its_weights_in_float32_and_its_tokeniser(llama):
    model = load_model("AutoModelForCausalLM", str(llama), None)
    stored = weights_of(llama)
    assert all(torch.equal(stored[name], value) for name, value in model.state_dict().items() if name in stored)
    assert model.dtype == torch.float32 and not model.training
    assert load_model("AutoModelForCausalLM", str(llama), None, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert load_tokenizer(str(llama), None).decode(load_tokenizer(str(llama), None).encode("push")[1:]) == "push"


def test_parts_give_the_architecture_with_weights_of_the_global_generator(llama, tmp_path):
    source, parts = "no/such-model", tmp_path / "parts"
    save_parts(parts, config=load_config(str(llama), None), tokenizer=load_tokenizer(str(llama), None))
    assert str(llama) not in "".join(file.read_text() for file in parts.iterdir()), "parts name no place"
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(load_model("AutoModelForCausalLM", source, parts).state_dict())
    assert {name: value.shape for name, value in models[0].items()} == {
        name: value.shape for name, value in load_model("AutoModelForCausalLM", str(llama), None).state_dict().items()
    }
    first = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(models[0][first], models[1][first]) and not torch.equal(models[0][first], models[2][first])
    text = "räume ab 1 128"
    assert load_tokenizer(source, parts).encode(text) == load_tokenizer(str(llama), None).encode(text)


def test_a_hub_name_is_downloaded_once_and_without_what_is_not_needed(llama, hub_at, tmp_path):
    published = tmp_path / "published"
    write_tiny("paligemma", published)
    for extra in ("pytorch_model.bin", "consolidated.safetensors", "model.onnx", "README.md"):
        (published / extra).write_bytes(b"large")
    with serving({"lab/tiny": published}) as hub:
        hub_at(hub.url)
        load_config("lab/tiny", None)
        assert not [asked for asked in hub.requests if asked.endswith("safetensors")], "settings come without weights"
        model = load_model("AutoModelForImageTextToText", "lab/tiny", None)
        asked = " ".join(hub.requests)
        assert "model.safetensors" in asked
        assert not any(name in asked for name in ("pytorch_model", "consolidated", "onnx", "README"))
    again = load_model("AutoModelForImageTextToText", "lab/tiny", None)  # The server is gone.
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))
    assert ImageInputs("lab/tiny").image_size == 56 and len(load_tokenizer("lab/tiny", None)) > 1000


def test_without_hub_the_error_comes_at_once_and_says_what_to_place_where(hub_at):
    hub_at("http://127.0.0.1:9")
    before = time.perf_counter()
    with pytest.raises(BackboneError) as caught:
        load_model("AutoModelForCausalLM", "meta-llama/Llama-2-7b-hf", None)
    assert time.perf_counter() - before < 4
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "cannot be reached",
        "gated: accept its licence",
        "`hf download meta-llama/Llama-2-7b-hf --local-dir DIR`",
        "config.json, *.safetensors, tokenizer*.json and preprocessor_config.json",
        "--backbone DIR",
    ):
        assert part in said


def test_gated_and_unknown_models_are_told_apart(hub_at, llama):
    with serving({"lab/tiny": llama}, gated=("google/paligemma-3b-pt-224",)) as hub:
        hub_at(hub.url)
        with pytest.raises(BackboneError, match=r"^google/paligemma-3b-pt-224: gated; accept its licence at https"):
            load_config("google/paligemma-3b-pt-224", None)
        with pytest.raises(BackboneError, match=r"^lab/tyni: neither a directory nor a model of the Hub"):
            load_config("lab/tyni", None)


@pytest.mark.parametrize("source", ["./nowhere", "/no/where/at/all", "a/b/c", "spaces are/not names"])
def test_what_is_neither_a_directory_nor_a_name_is_said_without_asking(source):
    with pytest.raises(BackboneError, match="is neither a directory nor a Hub name"):
        load_config(source, None)


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_directory_that_lacks_a_file_is_refused_with_its_name(tmp_path, gone):
    folder = write_tiny("llama", tmp_path / "llama")
    (folder / gone).unlink()
    with pytest.raises(BackboneError, match=gone):
        load_model("AutoModelForCausalLM", str(folder), None)
        load_tokenizer(str(folder), None)


def test_a_missing_shard_is_named(tmp_path):
    folder = write_tiny("llama", tmp_path / "llama")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    map_ = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": map_}))
    with pytest.raises(BackboneError, match=r"lacks model-00002-of-00002\.safetensors"):
        load_model("AutoModelForCausalLM", str(folder), None)


def test_weights_that_do_not_fill_the_model_are_an_error_not_random(tmp_path):
    folder = write_tiny("llama", tmp_path / "llama")
    weights = weights_of(folder)
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack 1 tensors that AutoModelForCausalLM needs, model\.layers\.1\.mlp"):
        load_model("AutoModelForCausalLM", str(folder), None)


def test_code_in_a_model_s_directory_is_not_run(tmp_path):
    folder = write_tiny("llama", tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "their_own", "auto_map": {"AutoConfig": "their_code.TheirConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (folder / "their_code.py").write_text(f"open({str(ran)!r}, 'w')\nclass TheirConfig: ...\n")
    with pytest.raises(BackboneError, match=r"config\.json cannot be used"):
        load_config(str(folder), None)
    assert not ran.exists()
