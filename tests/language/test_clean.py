import csv
import json
import re
import subprocess
import sys
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
    ]
)
LABELS = st.lists(st.text(max_size=20) | st.lists(DIRT | st.text(max_size=4), max_size=10).map("".join), max_size=3)


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
    assert not any(flag.startswith("language:") for flag in flags)


def test_clean_sentences_of_calvin_and_open_x_embodiment_pass_untouched():
    sentences = yaml.safe_load(real("calvin", "hulc_conf_annotations_new_playtable.yaml").read_text()).values()
    datasets = json.loads(real("oxe", "oxe_instructions_by_dataset.json").read_text())
    sentences = [text for group in (*sentences, *datasets.values()) for text in group]
    changed = {text for text in sentences if clean(text).instruction != text}
    assert changed == {
        "pick anything", "push something", "navigate to the goal", "Unfold a wrinkled towel", "Reach a towel",
    }  # fmt: skip
