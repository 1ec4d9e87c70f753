import copy

import numpy as np
import pytest
import torch

from oxe_pipeline.vla.backbones.octo import OctoConfig, octo_base, octo_tiny
from oxe_pipeline.vla.backbones.tiny import write_tiny
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig
from oxe_pipeline.vla.heads.chunk_l1 import ChunkL1Config
from oxe_pipeline.vla.heads.diffusion import DiffusionConfig
from oxe_pipeline.vla.heads.flow import FlowConfig
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fitting import fit_one_batch

SLOTS = ((0, 1, 6), (0, 1, 2, 3, 4, 5, 6))


def make_model(backbone: OctoConfig | None = None, head=None, *, chunk: int = 2) -> VLA:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=backbone or octo_tiny(), head=head or ChunkL1Config(slots=tuple(range(7))), chunk=chunk, history=2
    )
    return VLA(config)


@pytest.fixture(scope="module")
def model() -> VLA:
    return make_model().eval()


def goal_batch(**options) -> dict:
    batch = make_batch(**{"history": 2, "slots": SLOTS, **options})
    images = batch["image_primary"].flip(0)[:, 0].contiguous()
    return {**batch, "image_goal": images, "image_goal_mask": torch.ones(len(images), dtype=torch.bool)}


@torch.no_grad()
def loss(model: VLA, batch: dict, **changes) -> torch.Tensor:
    return model({**batch, **changes}).loss_B


def readouts(backbone, batch: dict, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    size = len(batch["g"])
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(size, count, dtype=torch.bool)
    mask[0, 3:] = False
    return torch.randn(size, count, backbone.width, generator=generator), mask


@pytest.mark.parametrize("causal", [True, False])
def test_one_pass_gives_what_encoding_and_decoding_give(model, causal):
    backbone, batch = model.backbone, goal_batch()
    batch["history_mask"][1, 0] = batch["image_wrist_mask"][2] = False
    embedding, mask = readouts(backbone, batch)
    with torch.no_grad():
        at_once = backbone.encode_decode(batch, embedding, mask, causal=causal)
        hidden, _ = backbone.decode(embedding, mask, backbone.encode(batch), causal=causal)
    torch.testing.assert_close(at_once, hidden, rtol=1e-4, atol=1e-5)


def test_decoding_token_by_token_gives_what_one_causal_pass_gives(model):
    backbone, batch = model.backbone, make_batch(history=2)
    embedding, mask = readouts(backbone, batch)
    with torch.no_grad():
        at_once = backbone.encode_decode(batch, embedding, mask, causal=True)
        context, hidden = backbone.encode(batch), []
        for place in range(mask.shape[1]):
            one, context = backbone.decode(embedding[:, place, None], mask[:, place, None], context, causal=True)
            hidden.append(one)
    torch.testing.assert_close(torch.cat(hidden, 1), at_once, rtol=1e-4, atol=1e-5)


def test_older_steps_know_nothing_of_newer_ones_and_the_task_nothing_of_either(model):
    backbone, batch = model.backbone, make_batch(history=2)
    other = {**batch, "image_primary": batch["image_primary"].clone()}
    other["image_primary"][:, 1] = 255 - other["image_primary"][:, 1]
    with torch.no_grad():
        before, after = backbone.encode(batch), backbone.encode(other)
    per_step = (before.mask_BP.shape[1] - 16) // 2
    assert per_step == 16 + 4 + 16, "primary, wrist, and the instruction once more"
    for keys, changed in zip(before.keys, after.keys, strict=True):
        torch.testing.assert_close(keys[:, :, : 16 + per_step], changed[:, :, : 16 + per_step], rtol=0, atol=0)
        assert not torch.equal(keys[:, :, 16 + per_step :], changed[:, :, 16 + per_step :])
    earlier = {**batch, "image_primary": batch["image_primary"].clone()}
    earlier["image_primary"][:, 0] = 255 - earlier["image_primary"][:, 0]
    with torch.no_grad():
        newest = backbone.encode(earlier).keys[-1][:, :, 16 + per_step :]
    assert not torch.allclose(before.keys[-1][:, :, 16 + per_step :], newest), "newer steps do know older ones"


def test_a_masked_camera_has_no_influence_and_equals_an_absent_one(model):
    batch = make_batch(history=2, slots=SLOTS)
    assert not torch.equal(loss(model, batch), loss(model, batch, image_wrist=255 - batch["image_wrist"]))
    batch["image_wrist_mask"][:] = False
    reference = loss(model, batch)
    assert torch.equal(reference, loss(model, batch, image_wrist=255 - batch["image_wrist"]))
    without = {name: value for name, value in batch.items() if not name.startswith("image_wrist")}
    torch.testing.assert_close(reference, loss(model, without))


def test_a_step_that_does_not_exist_has_no_influence_and_equals_a_shorter_history(model):
    batch = make_batch(history=2, slots=SLOTS)
    for name in ("history_mask", "image_primary_mask", "image_wrist_mask"):
        batch[name][:, 0] = False
    changed = {**batch, "image_primary": batch["image_primary"].clone()}
    changed["image_primary"][:, 0] = 7
    assert torch.equal(loss(model, batch), loss(model, changed))
    names = ("history_mask", "image_primary", "image_primary_mask", "image_wrist", "image_wrist_mask", "state")
    shorter = {**batch, **{name: batch[name][:, 1:] for name in names}}
    torch.testing.assert_close(loss(model, batch), loss(model, shorter))


def test_a_sample_is_treated_the_same_alone_and_beside_others_in_training_too(model):
    """Also which of instruction and goal it is given."""
    batch, trained = goal_batch(size=6), copy.deepcopy(model).train()
    together = loss(trained, batch)
    for row in range(6):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(together[row : row + 1], loss(trained, alone), rtol=1e-4, atol=1e-5)


def test_in_training_each_sample_is_given_its_instruction_or_its_goal(model):
    batch, trained = goal_batch(size=12), copy.deepcopy(model).train()
    by_text, by_goal = loss(model, batch, task_mode="text"), loss(model, batch, task_mode="goal")
    drawn = loss(trained, batch)
    is_text, is_goal = (torch.isclose(drawn, one, rtol=1e-5) for one in (by_text, by_goal))
    assert (is_text ^ is_goal).all() and is_text.any() and is_goal.any()


def test_instruction_and_goal_count_where_they_are_given_and_only_there(model):
    batch = goal_batch()
    other = {"image_goal": 255 - batch["image_goal"], "instruction": ["lift the lid"] * 4}
    for mode, read in (("text", {"instruction"}), ("goal", {"image_goal"}), ("both", set(other))):
        reference = loss(model, batch, task_mode=mode)
        for name, value in other.items():
            assert torch.equal(reference, loss(model, batch, task_mode=mode, **{name: value})) == (name not in read)
    lacks = dict(batch, image_goal_mask=torch.tensor([True, False, True, False]))
    changed = loss(model, lacks) != loss(model, lacks, image_goal=other["image_goal"])
    assert changed.tolist() == [True, False, True, False]


def test_a_goal_that_is_not_given_equals_no_goal(model):
    batch = goal_batch()
    without = {name: value for name, value in batch.items() if not name.startswith("image_goal")}
    torch.testing.assert_close(loss(model, batch, task_mode="text"), loss(model, without))
    with pytest.raises(ValueError, match="goal_images=True"):
        loss(model, without, task_mode="goal")


def test_no_instruction_is_masked_not_read():
    model = make_model().eval()
    batch = make_batch(history=2)
    empty = loss(model, batch, instruction=[""] * 4)
    with torch.no_grad():
        model.backbone.text_position.weight += 1.0
    assert torch.equal(empty, loss(model, batch, instruction=[""] * 4))
    assert not torch.equal(loss(model, batch), empty)


def test_wrist_images_are_reduced_and_images_of_any_size_are_read(model):
    from PIL import Image

    batch = make_batch(history=2)
    whole = batch["image_wrist"].flatten(0, 1).numpy()
    reduced = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in whole]
    small = torch.from_numpy(np.stack(reduced)).unflatten(0, (4, 2))
    torch.testing.assert_close(loss(model, batch), loss(model, batch, image_wrist=small), rtol=1e-3, atol=1e-4)


def test_the_state_counts_where_it_is_asked_for():
    batch = make_batch(history=2)
    changed = {**batch, "state": torch.where(batch["state_mask"][:, None], -batch["state"], 0.0)}
    noise = {**batch, "state": torch.where(batch["state_mask"][:, None], batch["state"], 5.0)}
    with_state, without = make_model(octo_tiny(use_state=True)).eval(), make_model().eval()
    assert not torch.equal(loss(with_state, batch), loss(with_state, changed))
    assert torch.equal(loss(with_state, batch), loss(with_state, noise)), "masked slots"
    assert torch.equal(loss(without, batch), loss(without, changed))


@pytest.mark.parametrize(
    "head", [BinTokensConfig(), ChunkL1Config(slots=tuple(range(7))), DiffusionConfig(), FlowConfig()]
)
def test_every_head_learns_on_it(head):
    model, batch = make_model(head=head), goal_batch()
    model(batch).loss_B.mean().backward()
    reached = [name for name, value in model.backbone.named_parameters() if value.grad is not None and value.grad.any()]
    assert {name.split(".")[0] for name in reached} >= {"cameras", "blocks", "text_encoder", "text_projection"}
    predicted = model.eval().predict(batch)
    assert predicted.shape == (4, 2, 32) and predicted.isfinite().all()
    assert (predicted[~batch["action_mask"][:, None].expand_as(predicted)] == 0).all()


def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_predictions_to_the_targets():
    small = octo_tiny(image_size=32, wrist_image_size=16)
    model, batch = make_model(small, BinTokensConfig(), chunk=1), make_batch(size=2, chunk=1)
    assert fit_one_batch(model, batch, steps=60) < 0.1
    has = batch["action_mask"][:, None].expand_as(batch["action"])
    assert (model.predict(batch) - batch["action"])[has].abs().max() <= 1 / 256 + 1e-6


def test_recomputed_activations_give_the_same_gradients():
    batch, gradients = goal_batch(), []
    for recompute in (False, True):
        model = make_model()
        model.backbone.checkpoint_activations(recompute)
        model(batch).loss_B.mean().backward()
        gradients.append([value.grad for value in model.parameters() if value.grad is not None])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_what_is_read_of_a_sample_can_be_shown(model):
    batch = goal_batch()
    batch["image_wrist_mask"][1] = False
    assert model.backbone.prompt(batch, 0) == "<image primary> <image wrist> <image goal> push block 0"
    assert model.backbone.prompt({**batch, "task_mode": "text"}, 1) == "<image primary> push block 1"
    long = {**batch, "instruction": ["ä" * 60] * 4}
    assert model.backbone.prompt(long, 1) == "<image primary> <image goal> " + "ä" * 32


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match="history 11 is longer than this backbone's max_history 10"):
        loss(model, make_batch(history=11))
    batch = make_batch(history=2)
    del batch["image_primary"], batch["image_wrist"]
    with pytest.raises(ValueError, match=r"none of this model's cameras \(primary, wrist\)"):
        loss(model, batch)
    for fault, words in (
        ({"width": 100}, "width 100"),
        ({"image_size": 100}, "multiple of 16, is 100"),
        ({"cameras": ("primary", "top")}, "top"),
        ({"keep_goal_probability": 2.0}, "is 2.0"),
    ):
        with pytest.raises(ValueError, match=words):
            OctoConfig(**fault)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    return write_tiny("t5", tmp_path_factory.mktemp("t5") / "t5")


def test_with_a_t5_the_encoder_is_frozen_and_all_else_is_trained(t5_folder):
    model, batch = make_model(octo_tiny(text=str(t5_folder))), make_batch(history=2)
    before = copy.deepcopy(model.backbone.text_encoder.state_dict())
    first = loss(model, batch).mean()
    assert fit_one_batch(model, batch, steps=12) < first / 2
    assert not any(part.training for part in copy.deepcopy(model).train().backbone.text_encoder.modules())
    for name, value in model.backbone.named_parameters():
        assert value.requires_grad != name.startswith("text_encoder."), name
    for name, value in model.backbone.text_encoder.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(loss(model, batch), loss(model, batch, instruction=["lift the lid"] * 4))


def test_a_model_is_made_again_from_its_parts_and_weights_without_the_source(t5_folder, tmp_path):
    model, batch = make_model(octo_tiny(text=str(t5_folder))).eval(), make_batch(history=2)
    model.save_parts(tmp_path / "parts")
    torch.manual_seed(7)
    config = ModelConfig(backbone=octo_tiny(text="nobody/nothing"), head=model.config.head, chunk=2, history=2)
    again = VLA(config, parts=tmp_path / "parts").eval()
    assert not torch.equal(loss(model, batch), loss(again, batch)), "this fills its memory of texts, too"
    again.load_state_dict(model.state_dict())
    assert torch.equal(loss(model, batch), loss(again, batch))


PUBLISHED = {"small": (OctoConfig, 27e6), "base": (octo_base, 93e6)}


@pytest.mark.parametrize("size", sorted(PUBLISHED))
def test_sizes_are_the_published_ones(size, t5_folder, tmp_path):
    """Counted: all that is trained, which is trunk, stems, projections, positions and diffusion head; not T5."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    tokenizer.save_pretrained(tmp_path)
    transformers.T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12).save_pretrained(tmp_path)
    make, published = PUBLISHED[size]
    with torch.device("meta"):
        model = VLA(ModelConfig(backbone=make(), head=DiffusionConfig(), chunk=4, history=2), parts=tmp_path)
    counts = {
        name: sum(value.numel() for value in part.parameters() if value.requires_grad)
        for name, part in [*model.backbone.named_children(), ("head", model.head)]
    }
    total = sum(counts.values())
    print(f"octo {size}: {total / 1e6:.1f} M trained; " + ", ".join(f"{name} {n}" for name, n in counts.items() if n))
    assert counts["text_encoder"] == 0
    assert abs(total / published - 1) < 0.1
