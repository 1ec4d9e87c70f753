"""Tables keep their texts readable in a terminal as narrow as any."""

import io

import pytest
from rich.console import Console

from oxe_pipeline.terminal import table


@pytest.mark.parametrize("width", [80, 150])
def test_numbers_never_squeeze_the_texts_out(width):
    made = table("title", texts=["rule", "parameters"], numbers=[f"number\n{i}" for i in range(5)])
    made.add_row("require_instruction", "seconds 0.5", *["100,000"] * 5)
    printed = io.StringIO()
    Console(file=printed, width=width).print(made)
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "seconds" in printed.getvalue() and "require_" in printed.getvalue()
    assert printed.getvalue().count("100,000") == 5
