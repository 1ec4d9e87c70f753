import pytest

from oxe_pipeline.language import rules

CASES = {
    "empty": [(" \n\t", ()), ("a", ("a",))],
    "too_long": [("x" * 10_000, ("x" * 10_000,)), ("x" * 10_001, ())],
    "bytes_repr": [
        (r"b'\d'", (r"\d",)),
        ("b'open the drawer'", ("open the drawer",)),
        ('b"don\'t move"', ("don't move",)),
        (r"b'caf\xc3\xa9'", ("café",)),
        ("b'cut", ("b'cut",)),
        ("b'1' - b'2'", ("b'1' - b'2'",)),
        ("b''" + "-" * 9000 + "''", ("b''" + "-" * 9000 + "''",)),
        ("bring b'x' here", ("bring b'x' here",)),
    ],
    "bddl": [
        ("  (:language open the drawer)", ("open the drawer",)),
        ("say (:language x)", ("say (:language x)",)),
    ],
    "mojibake": [("put the cafÃ© cup down", ("put the café cup down",)), ("größe", ("größe",))],
    "invisible": [
        ("\ufeffmove away\u200c", ("move away",)),
        ("open\x00it\u00ad", ("open it",)),
        ("line\none\ttab", ("line\none\ttab",)),
    ],
    "typography": [
        ("move\uff08out of view\uff09\uff0cthen “stop”", ('move (out of view),then "stop"',)),
        ("pepper\uff08out of view\uff09and stop", ("pepper (out of view) and stop",)),
        ("拿起\uff08红\uff09杯", ("拿起(红)杯",)),
        ("cafe\u0301", ("café",)),
        ("½ turn at 20 °C", ("½ turn at 20 °C",)),
    ],
    "confidence": [
        ("open the drawer\nconfidence: 1\n", ("open the drawer",)),
        ("Confidence: 0.75", ("",)),
        ("gain confidence: push harder", ("gain confidence: push harder",)),
        ("confidence: low, push again", ("confidence: low, push again",)),
        ("push with confidence", ("push with confidence",)),
    ],
    "several_labels": [
        ("open the drawer\n\nopen drawer\r\n", ("open the drawer", "open drawer")),
        ("pick up the cup, put it down, then stop", ("pick up the cup, put it down, then stop",)),
        ("one line\n", ("one line\n",)),
    ],
    "whitespace": [("  put  bread\ton desk \n", ("put bread on desk",))],
    "comma": [
        ("pick up the cup,put it down", ("pick up the cup, put it down",)),
        ("open it , then stop;go", ("open it, then stop; go",)),
        ("move 1,000 mm to 3,5", ("move 1,000 mm to 3,5",)),
        ("done,", ("done,",)),
    ],
    "quotes": [
        ('"open the drawer"', ("open the drawer",)),
        ("'open the drawer'", ("open the drawer",)),
        ('open the drawer"', ("open the drawer",)),
        ('pick up the "red cup"', ('pick up the "red cup"',)),
        ("move the dogs'", ("move the dogs'",)),
        ("don't drop it", ("don't drop it",)),
    ],
    "task_id": [
        ("241021_close_trash_bin_1", ()),
        ("35_putcarrot", ()),
        ("PickCube-v1", ()),
        ("task_0012", ()),
        ("12-7", ()),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", ()),
        ("turn_on_the_stove", ("turn_on_the_stove",)),
        ("move 7 cups to 50 mm", ("move 7 cups to 50 mm",)),
        ("拿起杯子", ("拿起杯子",)),
    ],
    "file_name": [
        ("KITCHEN_SCENE3_turn_on_the_stove_demo", ("turn on the stove",)),
        ("LIVING_ROOM_SCENE1_pick_up_both_cups_demo.hdf5", ("pick up both cups",)),
        ("libero/bddl_files/libero_goal/open_the_drawer.bddl", ("open the drawer",)),
        ("assemble square_table", ("assemble square table",)),
        ("place_7up_can_on_tray_2", ("place 7up can on tray 2",)),
        ("look at the demo", ("look at the demo",)),
    ],
    "final_stop": [("Insert the block.", ("Insert the block",)), ("done ...", ("done",)), ("ready?", ("ready?",))],
    "casing": [
        ("Open the CD drawer", ("open the CD drawer",)),
        ("PUT IT DOWN", ("put it down",)),
        ("A cup goes left", ("a cup goes left",)),
        ("CD into player", ("CD into player",)),
        ("T-shaped block left", ("T-shaped block left",)),
    ],
    "placeholder": [
        ("Do something.", ()),
        ("none", ()),
        ("do something about the cup", ("do something about the cup",)),
    ],
}


@pytest.mark.parametrize(
    ("name", "label", "labels"), [(name, before, after) for name, cases in CASES.items() for before, after in cases]
)
def test_rule_does_what_its_name_says_and_nothing_else(name, label, labels):
    (rule,) = [rule for rule in rules.RULES if rule.name == name]
    assert rule.apply(label) == labels


def test_every_rule_has_cases_and_names_are_unique():
    assert [rule.name for rule in rules.RULES] == list(CASES)


def test_the_published_sentences_that_say_nothing_are_all_known():
    published = [
        "Do something", "Execute a task.", "pick up something", "dummy instruction", "push something",
        "play with the kitchen", "Interact with the objects in diverse but meaningful ways.", "Navigate to the goal.",
        "Unknown task", "task not defined", "DEBUG", "None", "null", "n/a",
    ]  # fmt: skip
    assert [text for text in published if rules.drop_placeholder(text)] == []


def test_the_twelve_data_sets_that_octo_trains_without_labels_are_listed():
    assert len(rules.datasets_blanked_by_octo()) == 12
