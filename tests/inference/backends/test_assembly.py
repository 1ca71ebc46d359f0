"""From an upstream's events to chunks, however the text is cut into events."""

from collections.abc import Callable, Generator

from hypothesis import given
from hypothesis import strategies as st

from starsmith.inference.backends.assembly import Told, Wanted, assemble
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.inference.text_engine import join

LETTERS = st.text("ab\n", max_size=4)


def told(pieces: list[str]) -> Callable[[Callable[[], bool]], Generator[Told]]:
    def ask(_: Callable[[], bool]) -> Generator[Told]:
        for piece in pieces:
            yield Told(text=piece)
        yield Told(finish="length")

    return ask


@given(st.lists(LETTERS, max_size=12), st.lists(LETTERS, max_size=3))
def test_the_text_ends_before_the_first_stop_string_wherever_events_are_cut(
    pieces: list[str], stops: list[str]
) -> None:
    whole = "".join(pieces)
    places = [whole.find(stop) for stop in stops if stop and stop in whole]
    request = CompletionRequest(prefix="", stop=tuple(stops), params=SamplingParams(max_tokens=50))

    chunks = list(assemble(told(pieces), Wanted(request, (), "a test")))

    # Of two stop strings the one that is complete first ends the text; where one lies within another that is later.
    done = join(chunks)
    assert whole.startswith(done.text)
    assert (done.finish_reason == "stop") == bool(places)
    assert not any(stop in done.text for stop in stops if stop)
    if not places:
        assert done.text == whole
    else:
        assert any(whole.startswith(stop, len(done.text)) for stop in stops if stop)
    assert [chunk.finish_reason is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
