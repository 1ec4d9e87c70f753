import csv
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.language import clean_labels
from schemas.spec import Language

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "language"

DIRT = st.sampled_from(
    [
        "\u200b",
        "\ufeff",
        "Ã©",
        "â€™",
        "“",
        '"',
        "'",
        "`",
        " ",
        "\n",
        "confidence: 1",
        "_",
        "SCENE3_",
        ".",
        "A",
        "b'",
        "\uff0c",
        "\uff08",
        ",",
        "(:language ",
        ")",
        "\u202e",
        "אב",
        "\u0301",
        "\x00",
        "\u2028",
        "\x92",
        "b'\\\\x41'",
    ]
)
LABELS = st.lists(st.text(max_size=20) | st.lists(DIRT | st.text(max_size=4), max_size=10).map("".join), max_size=3)


ANY_TEXT = st.text(st.characters())
"""Every code point, lone surrogates and controls among them."""
ENCODED = st.tuples(
    st.text(max_size=20), st.sampled_from(["utf-8", "utf-16", "utf-32", "cp1251", "shift_jis", "gb18030", "mac_roman"])
).map(lambda pair: pair[0].encode(pair[1], "replace"))
CODES = st.lists(st.integers(-300, 300), max_size=12).map(lambda codes: np.array([*codes, 0, 0], np.int32))
ANY_LABEL = st.recursive(
    st.none() | ANY_TEXT | st.binary() | ENCODED | CODES | st.integers() | st.floats() | st.booleans() | DIRT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def clean(*labels: object, **language):
    return clean_labels(labels, Language(**language))


def words(text: str) -> Counter:
    return Counter(re.findall(r"\w+", text))


def real(*parts: str) -> Path:
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real labels are absent: {path}")
    return path


@settings(max_examples=300)
@given(labels=LABELS)
def test_cleaning_what_is_clean_changes_nothing(labels):
    once = clean(*labels)
    again = clean(once.instruction, *once.alternatives)
    assert (again.instruction, again.alternatives) == (once.instruction, once.alternatives)


@settings(max_examples=300)
@given(labels=LABELS)
def test_no_word_goes_or_comes_without_a_flag(labels):
    result = clean(*labels)
    if words("\n".join((result.instruction, *result.alternatives))) != words("\n".join(labels)):
        assert result.flags


@settings(max_examples=200)
@given(raw=st.lists(st.none() | st.text(st.characters()) | st.binary() | st.integers() | st.floats(), max_size=4))
def test_anything_is_accepted_and_every_instruction_is_one_clean_line_with_its_raw_text(raw):
    result = clean(*raw)
    for text in (result.instruction, *result.alternatives):
        assert text == " ".join(text.split())
        assert "\u200b" not in text
    assert "" not in result.alternatives
    assert result.instruction or (result.flags and not result.alternatives)
    assert all(text in result.raw for text in raw if isinstance(text, str) and not re.search("[\ud800-\udfff]", text))


@settings(max_examples=300, deadline=None)
@given(raw=st.lists(ANY_LABEL, max_size=3))
def test_labels_of_any_form_and_encoding_clean_to_themselves_the_second_time(raw):
    once = clean(*raw)
    again = clean(once.instruction, *once.alternatives)
    assert (again.instruction, again.alternatives) == (once.instruction, once.alternatives)
    assert once.raw.encode("utf-8").decode("utf-8") == once.raw
    assert words("\n".join((once.instruction, *once.alternatives))) == words(once.raw) or once.flags


@pytest.mark.parametrize(
    "text",
    ["open\udc80 it", "\u202eפתח את המגירה\u202c", "a" + "\u0301" * 50, "می\u200cخوا", "👩\u200d🍳 cooks"],  # noqa: RUF001
)
def test_a_rare_script_or_broken_text_keeps_its_letters_and_is_flagged_where_it_changed(text):
    result = clean(text)
    assert result.instruction and result.flags
    assert len(words(result.instruction)) >= 1


def test_bytes_of_the_usual_encodings_become_their_text():
    text = "don\u2019t open the café door"
    for encoding, flag in (
        ("utf-8", "typography"),
        ("utf-8-sig", "invisible"),
        ("utf-16", "utf16"),
        ("cp1252", "invalid_utf8"),
    ):
        result = clean(text.encode(encoding))
        assert (result.instruction, flag in result.flags) == ("don't open the café door", True), encoding


LONG = {
    "blanks": "confidence:" + " " * 9_980 + "!",
    "mojibake": "Ã©" * 5_000,
    "combining": "a" + "\u0301" * 9_999,
    "quotes": "\"'" * 5_000,
    "underscores": "A_" * 4_990 + "SCENE3_",
    "commas": " ," * 5_000,
    "lines": "a\n" * 5_000,
    "brackets": "a\uff08" * 5_000,
    "dates": "0-" * 5_000,
    "endings": "_demo.h5" * 1_250,
    "megabytes": "x " * 3_000_000,
}


@pytest.mark.parametrize("name", LONG)
def test_no_label_however_long_takes_longer_than_a_few_seconds(name):
    start = time.perf_counter()
    once = clean(LONG[name])
    assert time.perf_counter() - start < 10  # a quadratic rule takes minutes on the last
    assert once.raw == LONG[name]
    again = clean(once.instruction, *once.alternatives)
    assert (again.instruction, again.alternatives) == (once.instruction, once.alternatives)


def test_a_label_wrapped_in_itself_as_often_as_its_length_allows_is_unwrapped():
    text = "open it"
    while len(repr(text.encode())) <= 10_000:
        text = repr(text.encode())
    assert clean(text).instruction == "open it"


def test_lists_without_end_or_bottom_hold_a_bounded_number_of_labels():
    endless: list = ["open it"]
    endless.append(endless)
    assert (clean(endless).instruction, "undecodable" in clean(endless).flags) == ("open it", True)
    crowd = clean([f"open drawer {'i' * i}" for i in range(1, 5_000)])
    assert 1 + len(crowd.alternatives) == 100 and "too_many_labels" in crowd.flags


def test_one_dirty_label_goes_through_all_its_rules_and_keeps_its_raw_text():
    raw = '  "Put the cafÃ© cup\u200b  down."\nconfidence: 0.9\n'
    result = clean(raw)
    assert (result.instruction, result.alternatives, result.raw) == ("put the café cup down", (), raw)
    assert result.flags == (
        "mojibake", "invisible", "confidence", "whitespace", "quotes", "final_stop", "casing",
    )  # fmt: skip


def test_lines_are_annotators_and_equal_sentences_count_once():
    result = clean("Open the drawer.\nopen drawer\nopen the drawer\nconfidence: 1", "OPEN DRAWER")
    assert (result.instruction, result.alternatives) == ("open the drawer", ("open drawer",))
    assert {"confidence", "several_labels", "duplicate"} <= set(result.flags)


def test_an_alternative_takes_the_place_of_a_main_label_that_says_nothing():
    result = clean("Do something.", "wipe the table")
    assert (result.instruction, result.alternatives) == ("wipe the table", ())
    assert "placeholder" in result.flags


@pytest.mark.parametrize(
    ("raw", "flag"),
    [((), "missing"), ((None,), "missing"), (("  ",), "empty"), ((np.zeros(8, int),), "empty"), ((4.5,), "undecodable"),
     (("n/a",), "placeholder"), (("35_putcarrot",), "task_id")],
)  # fmt: skip
def test_no_instruction_always_says_why(raw, flag):
    result = clean(*raw)
    assert (result.instruction, result.alternatives) == ("", ())
    assert flag in result.flags


def test_a_blank_data_set_keeps_its_label_raw_and_gives_none_to_training():
    result = clean("route cable", "route the cable", blank=True)
    assert (result.instruction, result.alternatives) == ("", ())
    assert (result.raw, result.flags) == ("route cable\nroute the cable", ("blank_by_spec",))


def test_placeholders_of_the_spec_count_in_any_case_and_with_a_stop():
    assert clean("Bus Table.", placeholders=["bus table"]).instruction == ""
    assert "spec_placeholder" in clean("bus table", placeholders=["Bus table."]).flags
    assert clean("bus table").instruction == "bus table"


def test_utf8_codes_are_told_only_where_the_spec_does_not_declare_them():
    codes = np.array([*"schieb den blauen Würfel".encode(), 0, 0], np.int32)
    assert clean(codes).flags == ("utf8_codes", "language:de")
    declared = clean(codes, encoding="utf8_codes")
    assert (declared.instruction, declared.flags) == ("schieb den blauen Würfel", ("language:de",))


def test_foreign_labels_are_kept_and_flagged_and_short_ones_are_not_judged():
    german = clean("nimm die rote Tasse und stelle sie auf den Tisch")
    assert (german.instruction[:8], german.flags) == ("nimm die", ("language:de",))
    assert clean("把红色的杯子放在桌子上").flags == ("language:zh",)
    assert clean("grasp can").flags == ()


def test_importing_the_package_loads_no_language_model():
    code = "import sys, oxe_pipeline.language; print([m for m in ('py3langid', 'ftfy', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_file_names_of_libero_become_their_sentences():
    lines = real("libero", "bddl_language_lines.tsv").read_text().splitlines()
    names = [line.split("\t")[0].rsplit("/", 1)[-1] for line in lines]
    results = [clean(name) for name in names]
    assert len(results) == 130
    assert all(result.flags == ("file_name",) for result in results)
    assert all(re.fullmatch(r"[a-z ]+", result.instruction) for result in results)
    said = [re.search(r"\(:language (.*)\)", line)[1].strip().lower() for line in lines]
    assert sum(a == b.instruction for a, b in zip(said, results, strict=True)) == 101


def test_a_line_of_a_libero_task_file_is_its_sentence_and_differs_from_its_file_name_in_29_tasks():
    rows = [line.split("\t") for line in real("libero", "bddl_language_lines.tsv").read_text().splitlines()]
    pairs = [(clean(name).instruction, clean(line)) for name, line in rows]
    assert all("bddl" in said.flags and re.fullmatch(r"[a-z ]+", said.instruction) for _, said in pairs)
    assert sum(name != said.instruction for name, said in pairs) == 29


def test_robomind_sentences_are_put_right_and_its_lists_of_steps_stay_whole():
    with real("robomind", "RoboMIND_v1_2_instr.csv").open() as file:
        rows = list(csv.DictReader(file))
    results = [clean(row["instruction"]) for row in rows]
    assert all(result.instruction and not result.alternatives for result in results)
    assert sum(result.instruction.count(",") for result in results) == sum(
        row["instruction"].count(",") for row in rows
    )
    flags = Counter(flag for result in results for flag in result.flags)
    assert flags["final_stop"] == sum(row["instruction"].rstrip().endswith(".") for row in rows) == 20
    assert flags["casing"] == sum(row["instruction"].strip()[0].isupper() for row in rows) == 83
    assert flags["comma"] == sum(re.search(r",[a-zA-Z]| ,", row["instruction"]) is not None for row in rows) == 67
    assert not any(re.search(r",[a-zA-Z]| ,", result.instruction) for result in results)
    ids = [clean(row["task"]) for row in rows if re.match(r"\d+[_-]", row["task"])]
    assert ids and all((result.instruction, result.flags) == ("", ("task_id",)) for result in ids)


def test_full_width_brackets_and_doubled_blanks_of_robomind_are_gone():
    episodes = json.loads(real("robomind", "h5_ur_1rgb.json").read_text())
    raw = [step["step_description"] for episode in episodes for step in episode["response"].get("steps", [])]
    results = [clean(text) for text in raw]
    assert not any(re.search(r"\s\s|^\s|\s$|\uff08", result.instruction) for result in results)
    flags = Counter(flag for result in results for flag in result.flags)
    assert flags["whitespace"] == sum(text != " ".join(text.split()) for text in raw) == 370
    assert flags["typography"] == sum("\uff08" in text for text in raw) == 6
    assert all(" (out " in result.instruction for text, result in zip(raw, results, strict=True) if "\uff08" in text)
    assert not any(flag.startswith("language:") for flag in flags)


def test_clean_sentences_of_calvin_and_open_x_embodiment_pass_untouched():
    sentences = yaml.safe_load(real("calvin", "hulc_conf_annotations_new_playtable.yaml").read_text()).values()
    datasets = json.loads(real("oxe", "oxe_instructions_by_dataset.json").read_text())
    sentences = [text for group in (*sentences, *datasets.values()) for text in group]
    changed = {text for text in sentences if clean(text).instruction != text}
    assert changed == {
        "pick anything", "push something", "navigate to the goal", "Unfold a wrinkled towel", "Reach a towel",
    }  # fmt: skip
