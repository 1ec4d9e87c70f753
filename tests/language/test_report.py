import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.language import LanguageReport, clean_labels
from oxe_pipeline.language.distinct import MAX_KEPT, DistinctCount
from oxe_pipeline.language.report import SAMPLES_PER_FLAG, fold, render
from schemas.spec import Language

LABELS = ["Open the drawer.", "open drawer", "open a drawer", "do something", "", "  put  it down ", "x_y", "a\nb",
          "nimm die rote Tasse und stelle sie auf den Tisch",
          "pick up the red cup and put it on the plate"]  # fmt: skip
EPISODES = st.lists(st.sampled_from(LABELS), max_size=12)


def report_of(labels, dataset="d") -> LanguageReport:
    report = LanguageReport(dataset)
    for label in labels:
        report.update(clean_labels([label], Language()))
    return report


def merged(*parts) -> LanguageReport:
    total = LanguageReport("d")
    for part in parts:
        total.merge(part)
    return total


def test_counts_are_those_of_the_episodes():
    report = report_of(LABELS)
    assert (report.episodes, report.with_instruction, report.with_alternatives) == (10, 8, 1)
    assert report.flags == {
        "final_stop": 1, "casing": 1, "placeholder": 1, "empty": 1, "whitespace": 1, "file_name": 1,
        "several_labels": 1, "language:de": 1,
    }  # fmt: skip
    assert report.languages == {"": 6, "de": 1, "en": 1}
    assert report.instructions.at_least == 9
    assert report.folded.at_least == 7  # three ways to say "open drawer" are one


@settings(max_examples=60)
@given(first=EPISODES, second=EPISODES, third=EPISODES, order=st.permutations(range(3)))
def test_any_grouping_and_order_of_merging_gives_the_report_of_all_episodes(first, second, third, order):
    groups = (first, second, third)
    expected = report_of([*first, *second, *third]).to_dict()
    assert merged(*(report_of(groups[i]) for i in order)).to_dict() == expected
    tail = merged(report_of(second), report_of(third))
    assert merged(report_of(first), tail).to_dict() == expected


@given(labels=EPISODES)
def test_json_brings_the_report_back(labels):
    content = report_of(labels).to_dict()
    again = LanguageReport.from_dict(json.loads(json.dumps(content)))
    assert again.to_dict() == content
    assert again.render() == report_of(labels).render()


def test_an_empty_report_renders_and_comes_from_an_empty_dict():
    assert LanguageReport.from_dict({}).to_dict() == LanguageReport().to_dict()
    assert "episodes" in LanguageReport().render()


def test_samples_are_few_show_before_and_after_and_do_not_depend_on_order():
    labels = [f"Label number {i}." for i in range(40)]
    report, backwards = report_of(labels), report_of(labels[::-1])
    assert len(report.samples["casing"]) == SAMPLES_PER_FLAG
    assert report.samples == backwards.samples
    assert all(raw == f"L{after[1:]}." for _, raw, after in report.samples["casing"])


def test_the_table_shows_rules_by_effect_and_names_those_without():
    text = render(report_of(["Open it.", "open  it", "Close it"]))
    lines = text.splitlines()
    assert next(i for i, s in enumerate(lines) if s.startswith("casing")) < next(
        i for i, s in enumerate(lines) if s.startswith("whitespace")
    )
    assert "with an instruction     3 (100.0%)" in lines
    assert "'Open it.' -> 'open it'" in text
    assert "no effect: empty, too_long, bytes_repr, bddl, mojibake" in text
    assert "Octo" not in text
    assert "Octo trains this data set without its labels" in render(report_of(["pour"], dataset="toto"))


def test_the_dictionary_says_in_numbers_what_the_table_says_in_words():
    found = report_of(LABELS).to_dict()
    assert (found["with_placeholder"], found["placeholder_share"]) == (1, 0.1)
    assert (found["unique_instructions"], found["unique_is_exact"], found["near_duplicates"]) == (9, True, 2)
    assert "with a placeholder      1 (10.0%)" in report_of(LABELS).render()


def test_an_episode_whose_other_label_says_something_still_counts_as_one_with_a_placeholder():
    report = LanguageReport("d")
    report.update(clean_labels(["do something", "task_0012", "wipe the table"], Language()))
    assert (report.with_instruction, report.with_placeholder, report.placeholder_share) == (1, 1, 1.0)


def test_entries_of_a_paraphrase_file_that_match_nothing_are_named_after_any_merge():
    first, second = LanguageReport("d", paraphrases=["open it", "fly away"]), LanguageReport("d")
    second.update(clean_labels(["open it"], Language()), ["open it"])
    first.merge(LanguageReport.from_dict(second.to_dict()))
    assert first.to_dict()["paraphrased"] == {"fly away": 0, "open it": 1}
    assert "1 of 2 entries match an instruction\n  matches nothing: 'fly away'" in first.render()
    assert "paraphrases" not in report_of(LABELS).render()


def test_near_duplicates_are_counted_and_not_folded_together():
    report = report_of(["open the drawer", "open drawer", "Open, a drawer", "close the drawer"])
    assert "4, 2 of them near-duplicates" in report.render()
    assert fold("Open, the Drawer!") == "open drawer"


def test_reports_of_two_data_sets_do_not_merge():
    with pytest.raises(ValueError, match="cannot merge 'b' into 'a'"):
        report_of([], "a").merge(report_of([], "b"))


def test_distinct_texts_are_exact_below_the_limit_and_a_close_estimate_above():
    few, many, halves = DistinctCount(), DistinctCount(), DistinctCount()
    for i in range(100):
        few.add(f"text {i % 50}")
    assert (few.at_least, few.estimate, few.is_exact) == (50, 50, True)
    for i in range(40_000):
        many.add(f"text {i}")
    for start in (20_000, 0):
        part = DistinctCount()
        for i in range(start, start + 25_000):
            part.add(f"text {i % 40_000}")
        halves.merge(part)
    assert (many.at_least, many.is_exact) == (MAX_KEPT, False)
    assert many.estimate == pytest.approx(40_000, rel=0.05)
    assert halves.to_text() == many.to_text() == DistinctCount.from_text(many.to_text()).to_text()


def test_beyond_the_limit_the_table_says_at_least():
    report = LanguageReport.from_dict(
        {"episodes": 1, "instructions": "".join(f"{i:016x}" for i in range(1, MAX_KEPT + 1))}
    )
    assert f"at least {MAX_KEPT:,}" in report.render()
