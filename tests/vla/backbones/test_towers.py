"""Tiny DINOv2 and SigLIP towers before a tiny Llama, against the towers of transformers themselves."""

from typing import Any

import pytest
import torch

from oxe_pipeline.vla.backbones.hub import BackboneError
from oxe_pipeline.vla.backbones.image_inputs import ImageInputs
from oxe_pipeline.vla.backbones.tiny import VISION, write_tiny
from oxe_pipeline.vla.backbones.towers import Tower, TowersBackbone, TowersConfig
from oxe_pipeline.vla.model import BACKBONES, VLA, ModelConfig
from tests.vla.batches import make_batch

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    return {kind: write_tiny(kind, root / kind, seed=1) for kind in ("dinov2", "siglip", "llama")}


def config(sources, **changes) -> TowersConfig:
    fields: dict[str, Any] = {"vision": (str(sources["dinov2"]), str(sources["siglip"])), "text_length": 128}
    return TowersConfig(language=str(sources["llama"]), **(fields | changes))


def make_backbone(sources, **changes) -> TowersBackbone:
    torch.manual_seed(0)
    return TowersBackbone(config(sources, **changes), extra_ids=0).eval()


def some_images(*, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 40, 64, 3), generator=generator, dtype=torch.uint8)


def hidden_of(backbone: TowersBackbone, batch: dict) -> torch.Tensor:
    size = len(batch["instruction"])
    embedding = torch.randn(size, 3, backbone.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone.encode_decode(batch, embedding, torch.ones(size, 3, dtype=torch.bool))


def own_features(sources, kind: str, images: torch.Tensor, *, leave_out: int, **options: Any) -> torch.Tensor:
    """Second-to-last block's output of the whole published model, without its leading tokens."""
    model = transformers.AutoModel.from_pretrained(sources[kind])
    model = getattr(model, "vision_model", model).eval()
    with torch.no_grad():
        states = model(ImageInputs(sources[kind], **options)(images), output_hidden_states=True).hidden_states
    assert len(states) == model.config.num_hidden_layers + 1
    return states[-2][:, leave_out:]


def test_features_of_a_patch_are_the_towers_second_to_last_side_by_side_in_order(sources):
    vision, images = make_backbone(sources).vision, some_images()
    with torch.no_grad():
        fused = torch.cat([tower([images]) for tower in vision.towers], -1)
        dino = own_features(sources, "dinov2", images, leave_out=1 + 4)  # Class and register tokens.
        siglip = own_features(sources, "siglip", images, leave_out=0)
        torch.testing.assert_close(fused, torch.cat([dino, siglip], -1))
        assert vision([images]).shape == (3, 16, 64)
        reversed_order = (str(sources["siglip"]), str(sources["dinov2"]))
        other = make_backbone(sources, vision=reversed_order).vision
        torch.testing.assert_close(torch.cat([tower([images]) for tower in other.towers], -1)[..., :64], siglip)


def write_tower(kind: str, folder) -> str:
    """A tower of another family, with image settings that cut the middle out."""
    sizes = {key: value for key, value in VISION.items() if kind != "Dinov2" or key != "intermediate_size"}
    settings = getattr(transformers, f"{kind}Config")
    if kind == "CLIP":
        settings = settings(vision_config=sizes, text_config={"vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1})
    else:
        settings = settings(**sizes)
    getattr(transformers, f"{kind}Model")(settings).save_pretrained(folder)
    square = {"height": 56, "width": 56}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=square).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("kind", "leading"), [("CLIP", 1), ("ViT", 1), ("Dinov2", 1), ("DINOv3ViT", 1)])
def test_towers_of_other_families_give_the_same_layer(tmp_path, kind, leading):
    source, images = write_tower(kind, tmp_path / kind), some_images()
    tower = Tower(source, None, TowersConfig(aspect="crop"))
    features = tower([images])
    expected = own_features({kind: source}, kind, images, leave_out=leading, aspect="crop")
    torch.testing.assert_close(features, expected)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters() if parameter.requires_grad)
    assert Tower(source, None, TowersConfig(image_size=84))([images]).shape == (3, 36, 64)


def test_the_projector_is_openvla_s(sources):
    layers = [layer for layer in make_backbone(sources).vision.projector if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(128, 512), (512, 64), (64, 64)]


def test_images_of_two_sizes_keep_their_order(sources):
    vision, images = make_backbone(sources).vision, some_images()
    with torch.no_grad():
        together = vision([images[:1], images[1:, :30]])
        torch.testing.assert_close(together[:1], vision([images[:1]]))
        torch.testing.assert_close(together[1:], vision([images[1:, :30]]))


def test_the_gradient_reaches_every_weight_that_is_trained(sources):
    backbone = make_backbone(sources).train()
    batch = make_batch(size=2)
    hidden = backbone.encode_decode(batch, torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool))
    backbone.logits(hidden).square().mean().backward()
    trained = {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert not [name for name, parameter in trained.items() if parameter.grad is None]
    for tower in backbone.vision.towers:
        first_layer = next(module for module in tower.modules() if isinstance(module, torch.nn.Conv2d))
        assert first_layer.weight.grad.abs().max() > 0
    frozen = [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    assert frozen == ["vision.towers.0.model.embeddings.mask_token"]


def test_another_image_size_interpolates_positions_in_both_towers(sources):
    backbone = make_backbone(sources, image_size=84)
    assert backbone.image_size == 84
    with torch.no_grad():
        assert backbone.vision([some_images()]).shape == (3, 36, 64)


def test_sentences_are_openvla_s(sources):
    backbone = make_backbone(sources)
    (pieces, _) = backbone.sentences.write({**make_batch(size=2), "instruction": ["Push It", ""]})
    assert pieces[0] == [backbone.tokenizer.bos_token_id], "begin, images, text"
    assert backbone.tokenizer.decode(pieces[-1]) == "In: What action should the robot take to push it?\nOut:"
    assert len(pieces) == 4, "two cameras"


def test_parts_and_weights_make_the_same_backbone_without_the_sources(sources, tmp_path):
    backbone, batch = make_backbone(sources), make_batch(size=2)
    backbone.save_parts(tmp_path / "parts")
    assert not list(tmp_path.rglob("*.safetensors"))
    gone = TowersConfig(vision=("no/where", "not/here"), language="never/was", text_length=128)
    again = TowersBackbone(gone, extra_ids=0, parts=tmp_path / "parts").eval()
    assert not torch.equal(hidden_of(again, batch), hidden_of(backbone, batch)), "weights are not among the parts"
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(hidden_of(again, batch), hidden_of(backbone, batch))


def test_a_model_of_towers_learns_and_predicts(sources):
    torch.manual_seed(0)
    model = VLA(ModelConfig(backbone=config(sources), chunk=2))
    batch = make_batch(size=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(batch).loss_B.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert model.predict(batch).shape == (2, 2, 32)


def test_towers_with_different_numbers_of_patches_are_refused_with_both(sources):
    with pytest.raises(BackboneError, match=r"dinov2 36, .*siglip 16; set image_size"):
        BACKBONES["towers"][1](mismatched(sources), extra_ids=0)


def mismatched(sources) -> TowersConfig:
    """The same towers, but one with settings for larger images."""
    larger = sources["dinov2"].with_name("larger_dinov2")
    write_tiny("dinov2", larger)
    settings = (larger / "preprocessor_config.json").read_text()
    (larger / "preprocessor_config.json").write_text(settings.replace("56", "84"))
    return config(sources, vision=(str(larger), str(sources["siglip"])))


def test_a_model_that_is_no_vision_transformer_is_refused(sources):
    with pytest.raises(BackboneError, match="llama has no patch_size"):
        make_backbone(sources, vision=(str(sources["llama"]),))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("vision", (), "at least one tower"),
        ("prompt", "go", "lacks {instruction}"),
        ("prefix_attention", "none", "prefix_attention must be one of"),
        ("image_size", 0, "image_size must be 1 or more"),
        ("aspect", "letterbox", "aspect must be one of stretch, crop"),
    ],
)
def test_a_configuration_that_does_not_hold_is_refused(field, value, said):
    with pytest.raises(ValueError, match=said):
        TowersConfig(**{field: value})
