"""What is withdrawn is named no more, from the moment the file is there."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.tombstones import RECHECK_S

MakeIndex = Callable[..., Path]
FIRST = "\n".join(f"first_{number} = alpha(beta_{number}, {number})" for number in range(8))
SECOND = "\n".join(f"second_{number} = gamma(delta_{number}, {number})" for number in range(8))


def paths(attributor: Attributor, text: str) -> list[str]:
    return [source.path for match in attributor.attribute(text) for source in match.sources]


def bury(index: Path, documents: Sequence[object], *, beside: bool = False) -> Path:
    place = index.with_name(f"{index.name}.tombstones.json") if beside else index / "tombstones.json"
    place.write_text(json.dumps({"requests": [{"id": "r1"}], "documents": documents}))
    return place


@pytest.mark.parametrize("beside", [False, True])
def test_a_withdrawn_file_is_named_no_more_by_an_open_index(beside: bool, make_index: MakeIndex) -> None:
    index = make_index([FIRST, SECOND, FIRST], ngram_tokens=6, window=4)
    attributor = Attributor.open(index)
    assert paths(attributor, FIRST + "\n" + SECOND) == ["0.py", "2.py", "1.py"]

    place = bury(index, [0], beside=beside)
    time.sleep(2 * RECHECK_S)
    assert paths(attributor, FIRST + "\n" + SECOND) == ["2.py", "1.py"]
    assert paths(Attributor.open(index), FIRST) == ["2.py"]

    place.unlink()
    time.sleep(2 * RECHECK_S)
    assert paths(attributor, FIRST) == ["0.py", "2.py"]


def test_common_code_names_no_withdrawn_file(make_index: MakeIndex) -> None:
    index = make_index(
        [f"unique_{number} = 1\n{FIRST}" for number in range(12)], ngram_tokens=6, window=4, max_places=9
    )
    bury(index, [0, 1, 2])

    found = Attributor.open(index).attribute(FIRST)

    assert {match.kind for match in found} == {"common"}
    assert not {"0.py", "1.py", "2.py"} & {source.path for match in found for source in match.sources}
    assert all(match.sources for match in found)


def test_the_text_of_a_withdrawn_file_is_not_given(make_index: MakeIndex) -> None:
    index = make_index([FIRST, SECOND], ngram_tokens=6, window=4)
    attributor = Attributor.open(index)
    (match,) = attributor.attribute(FIRST)
    swhid = match.sources[0].swhid

    assert attributor.source_text(swhid, 2, 3) == "\n".join(FIRST.split("\n")[1:3])
    assert attributor.source_text("swh:1:cnt:" + "0" * 40, 1, 1) is None
    bury(index, [0])
    time.sleep(2 * RECHECK_S)
    assert attributor.source_text(swhid, 2, 3) is None


@pytest.mark.parametrize(
    "content", ["[", '{"documents": [2]}', '{"documents": [-1]}', '{"documents": [true]}', '{"documents": 1}', "[1]"]
)
def test_a_damaged_file_is_an_error_that_names_it(content: str, make_index: MakeIndex) -> None:
    index = make_index([FIRST, SECOND], ngram_tokens=6, window=4)
    (index / "tombstones.json").write_text(content)

    with pytest.raises(ArtifactError, match=r"tombstones\.json"):
        Attributor.open(index)


def test_a_damaged_file_is_an_error_each_time_and_not_every_other(make_index: MakeIndex) -> None:
    index = make_index([FIRST, SECOND], ngram_tokens=6, window=4)
    attributor = Attributor.open(index)
    (index / "tombstones.json").write_text("[")
    time.sleep(2 * RECHECK_S)

    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"tombstones\.json"):
            attributor.attribute(FIRST)


def test_rows_of_another_corpus_are_not_taken_for_rows_of_this_one(make_index: MakeIndex) -> None:
    index, other = (make_index(texts, ngram_tokens=6, window=4) for texts in ([FIRST, SECOND], [SECOND, FIRST]))
    corpora = [artifact.read(one).parents[0].id for one in (index, other)]

    place = bury(index, [0])
    place.write_text(json.dumps({**json.loads(place.read_text()), "corpus": corpora[0]}))
    assert paths(Attributor.open(index), FIRST) == []
    place.write_text(json.dumps({**json.loads(place.read_text()), "corpus": corpora[1]}))

    with pytest.raises(ArtifactError, match="rows of another corpus") as caught:
        Attributor.open(index)
    assert "take it away" in caught.value.hint
