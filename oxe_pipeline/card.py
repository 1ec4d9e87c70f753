"""`python -m oxe_pipeline.card`: data cards, generated from spec and measured manifest. See oxe_pipeline/cards.py."""

import argparse
import sys
from pathlib import Path

from oxe_pipeline.cards import render_card, write_cards
from oxe_pipeline.inspection.facts import stream_facts
from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.reader import Stream, open_stream
from schemas.spec import SpecError, load_spec, spec_names


def main(argv: list[str] | None = None) -> int:
    """Writes one Markdown card per data set into --out and prints their paths; 2 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m oxe_pipeline.card", description=__doc__)
    parser.add_argument("streams", nargs="*", help="streams whose measured numbers go into their cards")
    parser.add_argument(
        "--all-specs", action="store_true", help="also write a card, without measurements, for every other spec"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data_cards"), help="folder for the cards (default: data_cards)"
    )
    parser.add_argument("--print", action="store_true", help="print the cards instead of writing them")
    arguments = parser.parse_args(argv)
    try:
        streams = {stream.name: stream for stream in map(open_stream, arguments.streams)}
        names = sorted({*streams, *(spec_names() if arguments.all_specs else ())})
        if not names:
            raise StreamError("nothing to write a card for: name a stream, or give --all-specs")
        cards = {name: _card(name, streams.get(name)) for name in names}
        written = [] if arguments.print else write_cards(arguments.out, cards)
    except (StreamError, SpecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(cards.values() if arguments.print else map(str, written)))
    return 0


def _card(name: str, stream: Stream | None) -> str:
    if stream is None:
        return render_card(load_spec(name), None)
    return render_card(load_spec(name), stream.manifest, stream_facts(stream))


if __name__ == "__main__":
    sys.exit(main())
