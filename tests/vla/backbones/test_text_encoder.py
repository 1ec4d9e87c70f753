import copy

import pytest
import torch

from oxe_pipeline.vla.backbones import text_encoder
from oxe_pipeline.vla.backbones.text_encoder import ByteTextEncoder, T5TextEncoder
from oxe_pipeline.vla.backbones.tiny import write_tiny

transformers = pytest.importorskip("transformers")
TEXTS = ["push the block", "lift the lid", "", "räume den Tisch ab und lege alles in die Kiste neben dem Herd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny("t5", tmp_path_factory.mktemp("t5") / "t5")


@pytest.fixture
def t5(folder) -> T5TextEncoder:
    return T5TextEncoder(str(folder), None, length=8)


def test_features_are_those_of_the_t5_encoder_for_each_text_alone(t5, folder):
    model = transformers.T5EncoderModel.from_pretrained(folder).eval()
    features, mask = t5(TEXTS)
    assert features.shape == (4, 8, 64) and features.dtype == torch.float32 and mask.shape == (4, 8)
    for text, of_text, real in zip(TEXTS, features, mask, strict=True):
        ids = t5.tokenizer.encode(text)
        ids = ids[:7] + ids[-1:] if len(ids) > 8 else ids
        assert real.sum() == len(ids) and real[: len(ids)].all()
        expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(of_text[real], expected, rtol=1e-4, atol=1e-5)


def test_features_of_a_text_do_not_depend_on_the_texts_beside_it_to_the_last_bit(t5):
    many = [f"{text} {number}" for number in range(7) for text in TEXTS]
    together, _ = t5(many)
    for row in (0, 9, 27):
        t5.kept.clear()
        assert torch.equal(t5([many[row]])[0][0], together[row])


def test_a_text_is_encoded_once_and_again_after_new_weights(t5):
    calls = []
    t5.model.register_forward_hook(lambda *_: calls.append(1))
    first, _ = t5([TEXTS[0], TEXTS[0]])
    again, _ = t5(TEXTS[:1])
    assert len(calls) == 1 and torch.equal(first[1], again[0])
    weights = copy.deepcopy(t5.state_dict())
    t5.load_state_dict({name: 2 * value for name, value in weights.items()})
    assert not torch.equal(t5(TEXTS[:1])[0], again) and len(calls) == 2
    copied = copy.deepcopy(t5)
    copied(TEXTS[:1])
    assert len(calls) == 3, "a copy's weights may change: it starts anew"


def test_the_oldest_texts_are_forgotten_when_there_are_too_many(t5, monkeypatch):
    monkeypatch.setattr(text_encoder, "KEPT_TEXTS", 3)
    expected = t5(TEXTS)[0]
    assert list(t5.kept) == TEXTS[1:]
    assert torch.equal(t5(TEXTS)[0], expected)


def test_nothing_of_it_is_trained_and_it_keeps_no_graph(t5):
    assert not any(value.requires_grad for value in t5.parameters())
    assert not t5(TEXTS)[0].requires_grad
    assert not any(part.training for part in t5.train().modules())


def test_it_is_made_again_from_its_parts(t5, tmp_path):
    t5.save_parts(tmp_path / "parts")
    again = T5TextEncoder("nobody/nothing", tmp_path / "parts", length=8)
    again.load_state_dict(t5.state_dict())
    assert torch.equal(again(TEXTS)[0], t5(TEXTS)[0])
    assert again.read(TEXTS[0]) == TEXTS[0] and len(again.read(TEXTS[3])) < len(TEXTS[3])


def test_bytes_are_cut_at_a_character_and_joined_in_order():
    torch.manual_seed(0)
    encoder = ByteTextEncoder(width=16, length=3, bytes_per_token=4)
    features, mask = encoder(["", "abcde", "abcdefghijkä", "abcde"])
    assert features.shape == (4, 3, 16)
    assert mask.tolist() == [[False] * 3, [True, True, False], [True] * 3, [True, True, False]]
    assert encoder.read("abcdefghijkä") == "abcdefghijk"
    assert torch.equal(features[1], features[3]) and torch.equal(features[1, 0], features[2, 0])
    with torch.no_grad():
        expected = encoder.join(encoder.bytes(torch.tensor(list(b"abcd"))).flatten())
    torch.testing.assert_close(features[1, 0], expected)
