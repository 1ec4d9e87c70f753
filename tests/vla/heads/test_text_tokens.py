import pytest
import torch
import torch.nn.functional as F

from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.number_grammar import NumberSpeaker
from oxe_pipeline.vla.heads.text_tokens import TextTokensConfig, numbers_layout
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fitting import SMALL_NANO, fit_one_batch, with_one_camera

ARM = (0, 1, 2, 3, 4, 5, 6)
MIXED = ((0, 1, 6), (*ARM, 31), (28, 29, 30))
END = 258


TEXT, SYMBOLS = TextTokensConfig(), TextTokensConfig(numbers="symbols")


def made(head: TextTokensConfig = TEXT, *, source: str | None = None, chunk: int = 2) -> VLA:
    """A model on the nano backbone, or on the language model of that directory."""
    torch.manual_seed(0)
    backbone = SMALL_NANO if source is None else VLMConfig(source=source)
    return VLA(ModelConfig(backbone=backbone, head=head, chunk=chunk)).eval()


@pytest.fixture(
    scope="module",
    params=[(None, TEXT), (None, SYMBOLS), ("paligemma", TEXT), ("smolvlm", TEXT)],
    ids=["nano-text", "nano-symbols", "paligemma-text", "smolvlm-text"],
)
def model(request, tiny_source) -> VLA:
    kind, head = request.param
    return made(head, source=kind and tiny_source(kind))


def robot_batch(*, chunk: int = 2, size: int = 4, slots: tuple[tuple[int, ...], ...] = MIXED) -> dict:
    batch = make_batch(size=size, chunk=chunk, slots=slots)
    batch["action"][:, :, 31] = (batch["action"][:, :, 31] > 0).float()
    return batch


def loss(model: VLA, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        return model(batch).loss_B


def hand_made_loss(model: VLA, batch: dict, text: bytes, counts: list[bool]) -> float:
    """Cross entropy of a text in bytes and the end, over the ids that count, by one pass after a newline."""
    ids = torch.tensor([*text, END])
    with torch.no_grad():
        before = model.backbone.tokens(torch.cat([torch.tensor([ord("\n")]), ids[:-1]]))[None]
        hidden = model.backbone.encode_decode(batch, before, torch.ones(1, len(ids), dtype=torch.bool), causal=True)
        losses = F.cross_entropy(model.backbone.logits(hidden)[0], ids, reduction="none")
    return losses[torch.tensor(counts)].mean().item()


def test_an_arm_with_terminate_is_eight_numbers_terminate_first():
    model, batch = made(chunk=1), robot_batch(size=1, chunk=1, slots=((*ARM, 31),))
    batch["action"][0, 0, list(ARM)] = torch.tensor([0.0, -1.0, 1.0, 0.5, -0.5, 0.004, 1.0])
    batch["action"][0, 0, 31] = 1.0
    text = b" 1 128 0 255 192 64 128 255"
    assert len(text.split()) == 8
    expected = hand_made_loss(model, batch, text, [True] * (len(text) + 1))
    assert loss(model, batch).item() == pytest.approx(expected, rel=1e-5)


def test_a_robot_without_terminate_writes_0_there_and_does_not_count_it():
    model, batch = made(chunk=2), robot_batch(size=1, slots=((28, 29),))
    batch["action"][0, :, 28:30] = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    text = b" 0 0 255 0 128 128"
    counts = [False] * 2 + [True] * 6 + [False] * 2 + [True] * 9
    assert loss(model, batch).item() == pytest.approx(hand_made_loss(model, batch, text, counts), rel=1e-5)


def test_the_text_of_an_episodes_last_steps_stops_without_an_end():
    model, batch = made(chunk=2), robot_batch(size=1, slots=((28, 31),))
    batch["action"][0, 0, 28] = -1.0
    batch["action"][0, 0, 31] = 0.0
    batch["action_pad_mask"][0, 1] = False
    counts = [True] * 4 + [False]  # The chunk is not whole: that it should end here is not to be learnt.
    assert loss(model, batch).item() == pytest.approx(hand_made_loss(model, batch, b" 0 0", counts), rel=1e-5)


def test_numbers_lie_in_slot_order_behind_terminate_whether_or_not_the_robot_has_it():
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[0, [9, 2]] = True
    mask[1, [0, 31, 30]] = True
    layout, known = numbers_layout(mask, chunk=2)
    assert layout.slot.tolist() == [[31, 2, 9] * 2, [31, 0, 30] * 2]
    assert layout.step.tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    assert known.tolist() == [[False, True, True] * 2, [True] * 6]
    with pytest.raises(ValueError, match="no action slot"):
        numbers_layout(torch.zeros(1, 32, dtype=torch.bool), chunk=1)


def test_masked_slots_and_steps_past_the_end_change_no_loss(model):
    batch = robot_batch()
    batch["action_pad_mask"][1:, 1] = False
    kept = batch["action_mask"][:, None] & batch["action_pad_mask"][:, :, None]
    noisy = {**batch, "action": batch["action"].where(kept, torch.tensor(0.7))}
    assert torch.equal(loss(model, batch), loss(model, noisy))
    noisy["action"] = batch["action"].where(~kept, torch.tensor(0.7))
    assert (loss(model, batch) != loss(model, noisy)).all(), "what is there does count"


def test_a_sample_is_treated_the_same_alone_and_beside_other_robots(model):
    batch = robot_batch()
    batch["action_pad_mask"][1, 1] = False
    predicted = model.predict(batch)
    for row in range(4):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(loss(model, batch)[row : row + 1], loss(model, alone), rtol=1e-4, atol=1e-5)
        assert torch.equal(model.predict(alone), predicted[row : row + 1])


def test_decoding_with_the_cache_agrees_with_one_pass_over_the_decoded_text(model):
    batch = robot_batch()
    predicted, head = model.predict(batch), model.head
    layout, known = numbers_layout(batch["action_mask"], 2)
    values = predicted[torch.arange(4)[:, None], layout.step, layout.slot]
    numbers = torch.where(layout.slot == 31, values.long(), ((values.double() + 1) * 128).long())
    numbers = numbers.where(known, 0)
    ids, _, exists = head.grammar.spell(numbers, layout.valid)
    with torch.no_grad():
        before = model.backbone.tokens(F.pad(ids[:, :-1], (1, 0), value=model.head.begin_id))
        logits = model.backbone.logits(model.backbone.encode_decode(batch, before, exists, causal=True))
    limits = torch.where(layout.slot == 31, 1 + known.long(), 256).where(layout.valid, 0)
    speaker = NumberSpeaker(head.grammar, limits)
    for place in range(ids.shape[1]):
        said, there = speaker.speak(logits[:, place]), exists[:, place]
        assert torch.equal(said[there], ids[:, place][there])


def test_predictions_are_bin_centres_in_the_slots_a_sample_has_and_terminate_is_0_or_1(model):
    batch = robot_batch()
    predicted = model.predict(batch)
    assert predicted.shape == (4, 2, 32) and predicted.dtype == torch.float32
    has = batch["action_mask"][:, None].expand_as(predicted)
    assert (predicted[~has] == 0).all()
    assert set(predicted[:, :, 31].flatten().tolist()) <= {0.0, 1.0}
    continuous = has.clone()
    continuous[:, :, 31] = False
    bins = (predicted[continuous] + 1) * 128 - 0.5
    assert torch.equal(bins, bins.round()) and predicted[continuous].abs().max() <= 1 - 1 / 256


@pytest.mark.parametrize("head", [TEXT, SYMBOLS], ids=["text", "symbols"])
@pytest.mark.parametrize("extreme", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_no_logits_make_a_prediction_fail(head, extreme):
    model = made(head)
    with torch.no_grad():
        model.backbone.norm_out.weight.fill_(extreme)
    predicted = model.predict(robot_batch())
    assert predicted.isfinite().all() and predicted.abs().max() <= 1


@pytest.mark.parametrize(("kind", "head"), [(None, TEXT), ("paligemma", TEXT), ("smolvlm", TEXT), ("smolvlm", SYMBOLS)])
def test_one_batch_is_learnt_by_heart_and_predicted_to_half_a_bin(tiny_source, kind, head):
    model = made(head, source=kind and tiny_source(kind), chunk=1)
    batch = with_one_camera(robot_batch(chunk=1, slots=((0, 6), (1, 31))))
    assert fit_one_batch(model, batch, steps=60 if kind else 120, learning_rate=4e-3) < 0.1
    assert model(batch).metrics["token_accuracy"].tolist() == [1.0] * 4
    error = (model.predict(batch) - batch["action"]).abs()
    assert error.max() <= 1 / 256 + 1e-6 and error[:, :, 31].max() == 0


def text_batch() -> dict:
    """Prompts with no, one and two images, and answers of different lengths."""
    generator = torch.Generator().manual_seed(0)
    image, other = torch.randint(0, 256, (2, 56, 56, 3), generator=generator, dtype=torch.uint8)
    return {
        "prompt": ["Q: what is red? A:", "<image>Q: which tool is here? A:", "First <image> then <image>. Plan:"],
        "images": [[], [image], [image, other]],
        "target": ["the block", "a sponge", "1. open the drawer. 2. put the cup into it."],
    }


@pytest.mark.parametrize("kind", ["paligemma", "smolvlm"])
def test_a_batch_of_texts_is_learnt_by_heart_and_spoken_word_for_word(tiny_source, kind):
    model, batch = made(source=tiny_source(kind)), text_batch()
    assert fit_one_batch(model, batch, steps=50, learning_rate=4e-3) < 0.1
    output = model(batch)
    assert output.metrics["token_accuracy"].tolist() == [1.0] * 3
    assert model.head.generate(model.backbone, batch, 64) == batch["target"]
    cut = model.head.generate(model.backbone, batch, 3)[2]
    assert 3 <= len(cut) < 20 and batch["target"][2].startswith(cut)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(model(alone).loss_B, output.loss_B[row : row + 1], rtol=1e-3, atol=1e-4)


def test_the_loss_of_a_text_is_that_of_its_ids_and_its_end(tiny_source):
    model, batch = made(source=tiny_source("smolvlm")), text_batch()
    tokenizer = model.backbone.tokenizer
    alone = {name: value[2:] for name, value in batch.items()}
    ids = torch.tensor([*tokenizer.encode(alone["target"][0]), tokenizer.eos_token_id])
    before = torch.cat([torch.tensor(tokenizer.encode("\n")), ids[:-1]])[None]
    with torch.no_grad():
        exists = torch.ones_like(before, dtype=torch.bool)
        hidden = model.backbone.encode_decode(alone, model.backbone.tokens(before), exists, causal=True)
        expected = F.cross_entropy(model.backbone.logits(hidden)[0], ids)
    assert loss(model, batch)[2].item() == pytest.approx(expected.item(), rel=1e-4)


def test_symbols_are_the_last_ids_of_the_vocabulary_and_text_needs_no_more_of_them():
    assert made(TEXT).backbone.vocabulary_size == 259
    symbols = made(SYMBOLS)
    assert symbols.backbone.vocabulary_size == 259 + 256
    assert symbols.head.grammar.alphabet_A.tolist() == [*range(259, 515), END]
    assert not list(symbols.head.parameters())


def test_texts_are_refused_by_a_backbone_that_reads_no_prompts():
    with pytest.raises(ValueError, match="NanoBackbone takes no batches of texts"):
        made()({"prompt": ["Q: what? A:"], "images": [[]], "target": ["nothing"]})
