import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.vla.heads.number_grammar import NumberGrammar, NumberSpeaker, spelled_codes, symbol_codes
from oxe_pipeline.vla.text import ByteVocabulary

CHARACTERS = "0123456789 \n"


class PieceVocabulary:
    """Single characters and the given pieces; the longest piece that fits is taken, from left to right."""

    def __init__(self, pieces: list[str], *, end_id: int = 0):
        self.pieces = ["", *CHARACTERS, *pieces]
        self.end_id = end_id

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            fitting = [number for number, piece in enumerate(self.pieces) if piece and text.startswith(piece)]
            ids.append(max(fitting, key=lambda number: len(self.pieces[number])))
            text = text[len(self.pieces[ids[-1]]) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[token] for token in ids)


class LibraryVocabulary:
    """A tokeniser of the `tokenizers` library, with its own ways of setting spaces."""

    end_id = 0

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


def sentencepiece_like(*, space_before_text: bool):
    """Llama's (a space is set before every text) and Gemma's (none is): one id per digit, spaces joined in twos."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    alphabet = {piece: number for number, piece in enumerate(["</s>", "▁", *"0123456789", "▁▁", "\n"])}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[("▁", "▁")]))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if space_before_text else spaces
    strip = [decoders.Strip(" ", 1, 0)] if space_before_text else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), *strip])
    return LibraryVocabulary(tokenizer)


def byte_level(*, digits: str):
    """GPT-2's (digits "merged": " 128" is one piece), SmolLM's ("single") and GPT-4's ("apart": " " and "128")."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    steps: list = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=digits != "apart")]
    if digits == "single":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif digits == "apart":
        steps.insert(0, pre_tokenizers.Split(Regex(r"\d{1,3}| "), "isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{a} {b}" for a in range(256) for b in (a, 255 - a)], trainer)
    return LibraryVocabulary(tokenizer)


def word_pieces():
    """BERT's: spaces have no ids, and "##" marks what goes on with a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["[UNK]", *"0123456789", *(f"##{digit}" for digit in "0123456789"), "12", "##55"]
    words = models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece("##")
    return LibraryVocabulary(tokenizer)


FAMILIES = {
    "bytes": ByteVocabulary,
    "Llama": lambda: sentencepiece_like(space_before_text=True),
    "Gemma": lambda: sentencepiece_like(space_before_text=False),
    "GPT-2": lambda: byte_level(digits="merged"),
    "SmolLM": lambda: byte_level(digits="single"),
    "GPT-4": lambda: byte_level(digits="apart"),
    "BERT": word_pieces,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_spelled_as_the_tokeniser_itself_spells_them_in_a_list(family):
    vocabulary = FAMILIES[family]()
    codes = spelled_codes(vocabulary, 256)
    for numbers in ([1, 128, 91, 241, 5, 101, 127, 217], [0, 0, 255, 25, 5, 55], list(range(256))):
        joined = [token for number in numbers for token in codes[number]]
        zero = vocabulary.encode("0")
        assert vocabulary.encode("0 " + " ".join(map(str, numbers))) == zero + joined
        assert vocabulary.decode(joined).split() == [str(number) for number in numbers]


def test_how_many_ids_a_number_takes_is_the_vocabularys_matter():
    lengths = {family: len(spelled_codes(make(), 256)[128]) for family, make in FAMILIES.items()}
    assert lengths == {"bytes": 4, "Llama": 4, "Gemma": 4, "GPT-2": 1, "SmolLM": 4, "GPT-4": 2, "BERT": 2}


def test_a_vocabulary_that_runs_numbers_together_is_refused_with_the_way_out():
    class Digits:
        end_id = 10

        def encode(self, text: str) -> list[int]:
            return [int(character) for character in text if character != " "]

        def decode(self, ids: list[int]) -> str:
            return "".join(map(str, ids))

    with pytest.raises(ValueError, match='numbers="symbols"'):
        spelled_codes(Digits(), 256)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[1], []], "1 has no id"),
        ([[1, 2], [3], [1, 2]], "same ids"),
        ([[1], [2], [1, 2]], "2 goes on with an id that also begins"),
        ([[1], [9]], "id 9 ends a text"),
    ],
)
def test_codes_that_could_be_read_in_two_ways_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        NumberGrammar(codes, end_id=9)


def speak(grammar: NumberGrammar, limits: list[list[int]], logits_of_step) -> tuple[list[list[int]], torch.Tensor]:
    """The ids each row spoke until it was done, and its numbers; never more steps than the longest list has ids."""
    limit_BK = torch.tensor(limits)
    speaker, spoken = NumberSpeaker(grammar, limit_BK), [list[int]() for _ in limits]
    most = int(grammar.length_K.max()) * limit_BK.shape[1] + 1
    for step in range(most):
        done = speaker.done_B.tolist()
        ids = speaker.speak(logits_of_step(step)).tolist()
        for row, token in enumerate(ids):
            if not done[row]:
                spoken[row].append(token)
    assert speaker.done_B.all()
    return spoken, speaker.numbers_BK


pieces = st.lists(st.text("0123456789 ", min_size=2, max_size=4), max_size=60, unique=True)
rows = st.lists(st.lists(st.sampled_from([1, 2, 256]), max_size=5), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(pieces, rows, st.integers(0, 2**32), st.sampled_from(["normal", "spiked", "nan", "infinite"]))
def test_whatever_the_logits_every_walk_is_a_text_of_the_wanted_count_of_numbers(pieces, rows, seed, kind):
    vocabulary = PieceVocabulary(pieces)
    grammar = NumberGrammar(spelled_codes(vocabulary, 256), end_id=vocabulary.end_id)
    generator = torch.Generator().manual_seed(seed)
    longest = max(1, *map(len, rows))
    limits = [row + [0] * (longest - len(row)) for row in rows]

    def logits(step: int) -> torch.Tensor:
        values = torch.randn(len(rows), len(vocabulary.pieces), generator=generator)
        if kind == "spiked":
            values[:, step % len(vocabulary.pieces)] = 1e9
        elif kind == "nan":
            values[values > 0] = torch.nan
        elif kind == "infinite":
            values = values.sign() * torch.inf
        return values

    spoken, numbers = speak(grammar, limits, logits)
    for row, ids in enumerate(spoken):
        words = vocabulary.decode(ids).split()
        assert words == [str(number) for number in numbers[row, : len(rows[row])].tolist()]
        assert all(int(word) < limit for word, limit in zip(words, rows[row], strict=True))
        assert vocabulary.end_id not in ids[:-1], "the end comes last"
        assert (numbers[row, len(rows[row]) :] == 0).all()


@settings(max_examples=8, deadline=None)
@given(pieces, st.permutations(range(256)))
def test_what_is_spelled_is_spoken_again_for_every_number(pieces, order):
    vocabulary = PieceVocabulary(pieces)
    grammar = NumberGrammar(spelled_codes(vocabulary, 256), end_id=vocabulary.end_id)
    assert read_again(grammar, torch.tensor(order).view(16, 16)).flatten().tolist() == list(order)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_of_every_family_comes_back(family):
    vocabulary = FAMILIES[family]()
    grammar = NumberGrammar(spelled_codes(vocabulary, 256), end_id=vocabulary.end_id)
    numbers = torch.arange(256).view(32, 8)
    assert torch.equal(read_again(grammar, numbers), numbers)


def test_a_symbol_is_one_id_and_the_last_one_needs_no_end():
    grammar = NumberGrammar(symbol_codes(1000, 256), end_id=2)
    ids, _, exists = grammar.spell(torch.tensor([[3, 0, 255]]), torch.ones(1, 3, dtype=torch.bool))
    assert ids.tolist() == [[1003, 1000, 1255]] and exists.all()
    speaker = NumberSpeaker(grammar, torch.tensor([[256, 256]]))
    for _ in range(2):
        assert not speaker.done_B.any()
        speaker.speak(torch.arange(1300.0)[None])
    assert speaker.done_B.all() and speaker.numbers_BK.tolist() == [[255, 255]]


def test_spelling_leaves_out_what_is_not_spoken_and_says_whose_each_id_is():
    grammar = NumberGrammar(spelled_codes(ByteVocabulary(), 256), end_id=ByteVocabulary.END)
    numbers = torch.tensor([[0, 128, 7, grammar.end_number], [25, 3, 9, grammar.end_number]])
    spoken = torch.tensor([[True, True, False, True], [True, False, False, False]])
    ids, owner, exists = grammar.spell(numbers, spoken)
    assert ids[0][exists[0]].tolist() == [*b" 0 128", ByteVocabulary.END]
    assert owner[0][exists[0]].tolist() == [0, 0, 1, 1, 1, 1, 3]
    assert bytes(ids[1][exists[1]].tolist()) == b" 25" and exists[1].tolist() == [True] * 3 + [False] * 4


def read_again(grammar: NumberGrammar, numbers: torch.Tensor) -> torch.Tensor:
    """The numbers spoken where at every step the id that spells them is the likeliest, the end included."""
    rows, count = numbers.shape
    with_end = torch.cat([numbers, torch.full((rows, 1), grammar.end_number)], 1)
    ids, _, exists = grammar.spell(with_end, torch.ones_like(with_end, dtype=torch.bool))
    ids = ids.where(exists, grammar.alphabet_A[-1])

    def logits(step: int) -> torch.Tensor:
        column = ids[:, min(step, ids.shape[1] - 1)]
        return torch.nn.functional.one_hot(column, int(grammar.alphabet_A.max()) + 1).float()

    spoken, again = speak(grammar, [[256] * count] * rows, logits)
    for row, said in enumerate(spoken):
        assert said == ids[row][exists[row]].tolist()[: len(said)]
    return again
