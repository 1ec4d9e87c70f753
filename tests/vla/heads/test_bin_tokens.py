import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oxe_pipeline.vla.backbones.vlm import VLMConfig
from oxe_pipeline.vla.heads.bin_tokens import BinTokensConfig, BinTokensHead
from oxe_pipeline.vla.model import VLA, ModelConfig
from tests.vla.batches import make_batch
from tests.vla.heads.fitting import SMALL_NANO, fit_one_batch, with_one_camera

MIXED = ((0, 1, 6), (0, 1, 2, 3, 4, 5, 6), (28, 29, 30))
PLAIN = BinTokensConfig(place_embeddings=False, smooth_init=False)


def made(head: BinTokensConfig, *, chunk: int = 2) -> VLA:
    torch.manual_seed(0)
    return VLA(ModelConfig(head=head, chunk=chunk)).eval()


@pytest.fixture(scope="module", params=[BinTokensConfig(), PLAIN], ids=["with places", "plain"])
def model(request) -> VLA:
    return made(request.param)


def test_decoding_with_the_cache_agrees_with_one_pass_over_the_decoded_tokens(model):
    batch = make_batch(slots=MIXED)
    with torch.no_grad():
        output = model({**batch, "action": model.predict(batch)})
    # What was chosen token by token, fed back as the truth, is chosen again at every place.
    assert output.metrics["token_accuracy"].tolist() == [1.0] * 4


def test_predictions_are_bin_centres_in_the_slots_a_sample_has_and_0_elsewhere(model):
    batch = make_batch(slots=MIXED)
    predicted = model.predict(batch)
    assert predicted.shape == (4, 2, 32) and predicted.dtype == torch.float32
    has = batch["action_mask"][:, None].expand_as(predicted)
    assert (predicted[~has] == 0).all()
    bins = (predicted[has] + 1) * 128 - 0.5
    torch.testing.assert_close(bins, bins.round())
    assert predicted[has].abs().max() <= 1 - 1 / 256


def test_the_plain_sequence_is_a_newline_and_the_ids_before_with_a_loss_over_all_ids():
    model, batch = made(PLAIN, chunk=1), make_batch(size=1, chunk=1, slots=((0, 1, 6),))
    assert not list(model.head.parameters()), "nothing but the language model itself"
    bins = torch.floor((batch["action"][0, 0, [0, 1, 6]].double() + 1) * 128).long()
    ids = bins + 259  # Bytes and three special ids come first.
    with torch.no_grad():
        before = model.backbone.tokens(torch.tensor([[ord("\n"), *ids[:-1]]]))
        hidden = model.backbone.encode_decode(batch, before, torch.ones(1, 3, dtype=torch.bool), causal=True)
        expected = F.cross_entropy(model.backbone.logits(hidden)[0], ids)
        assert model(batch).loss_B.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("choice", ["likeliest", "median"])
def test_decoding_never_gives_a_text_id_even_when_text_is_far_likelier(choice):
    model, batch = made(BinTokensConfig(choice=choice, place_embeddings=False), chunk=1), make_batch(chunk=1)
    first = model.head.tokenizer.first_id
    begin = model.backbone.tokens(torch.full((4, 1), ord("\n")))
    with torch.no_grad():
        hidden, _ = model.backbone.decode(begin, torch.ones(4, 1, dtype=torch.bool), model.backbone.encode(batch))
        others = [token for token in range(first) if token != ord("\n")]
        model.backbone.tokens.weight[others] = 100 * hidden[:, 0].mean(0)
        likeliest = model.backbone.logits(hidden).argmax(-1)
    assert (likeliest < first).all(), "without the restriction text would be chosen"
    assert model.predict(batch)[:, :, :2].abs().max() < 1


@pytest.mark.parametrize(("kind", "head"), [(None, BinTokensConfig()), ("paligemma", PLAIN), ("smolvlm", PLAIN)])
def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_predictions_to_the_targets(tiny_source, kind, head):
    torch.manual_seed(0)
    backbone = VLMConfig(source=tiny_source(kind)) if kind else SMALL_NANO
    model, batch = VLA(ModelConfig(backbone=backbone, head=head)), with_one_camera(make_batch(size=4, chunk=1))
    assert fit_one_batch(model, batch, steps=50 if kind else 70, learning_rate=4e-3) < 0.1
    has = batch["action_mask"][:, None].expand_as(batch["action"])
    error = (model.predict(batch) - batch["action"])[has].abs()
    assert error.max() <= 1 / 256 + 1e-6


def test_the_median_bin_splits_the_probability_in_half():
    head = made(BinTokensConfig(choice="median")).head
    first = head.tokenizer.first_id
    probability = torch.zeros(2, 1, first + 256)
    probability[0, 0, [first + 10, first + 20, first + 30]] = torch.tensor([0.4, 0.3, 0.3])
    probability[1, 0, [first, first + 255]] = torch.tensor([0.2, 0.8])
    assert head.choose(probability.log())[:, 0].tolist() == [first + 20, first + 255]


def test_logits_of_actions_are_those_that_the_loss_and_the_prediction_see(model):
    batch = make_batch(slots=MIXED)
    batch["action_pad_mask"][0, 1] = False
    logits, layout, counted = model.head.action_logits(model.backbone, batch)
    assert logits.shape == (*layout.slot.shape, 256) and logits.dtype == torch.float32 and logits.requires_grad
    assert counted.sum(1).tolist() == [3, 14, 6, 6]
    predicted = model.predict(batch)
    first_bins = ((predicted[:, 0][batch["action_mask"]] + 1) * 128).long()
    firsts = [logits[row, 0].argmax().item() for row in range(4)]
    starts = [0, 3, 10, 13]
    assert firsts == first_bins[starts].tolist(), "before the first token nothing is forced"


def test_rows_behind_the_last_id_of_a_wider_table_are_neither_spoken_nor_overwritten():
    model, batch = made(PLAIN), make_batch(slots=MIXED)
    expected, ids = model.predict(batch), model.backbone.vocabulary_size
    wide = nn.Embedding(ids + 61, model.backbone.width)
    with torch.no_grad():
        wide.weight[:ids] = model.backbone.tokens.weight
        wide.weight[ids:] *= 100.0
    model.backbone.tokens = wide
    assert torch.equal(model.predict(batch), expected)
    behind = wide.weight[ids:].clone()
    head = BinTokensHead(BinTokensConfig(), backbone=model.backbone, chunk=2)
    assert head.tokenizer.first_id == ids - 256 and torch.equal(wide.weight[ids:], behind)
    assert wide.weight[ids - 256 : ids].std() < 0.1


def test_weights_in_bf16_give_nearly_the_same_loss_and_actions_in_range(tiny_source):
    batch, losses = make_batch(slots=MIXED), {}
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        backbone = VLMConfig(source=tiny_source("smolvlm"), dtype=dtype)
        model = VLA(ModelConfig(backbone=backbone, head=BinTokensConfig(), chunk=2)).eval()
        with torch.no_grad():
            losses[dtype] = model(batch).loss_B
        assert model.head.action_logits(model.backbone, batch)[0].dtype == torch.float32
        assert model.predict(batch).abs().max() < 1
        rows = len(model.backbone.tokens.weight)
        assert rows > model.backbone.vocabulary_size == model.head.tokenizer.first_id + 256
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0.02, atol=0)
