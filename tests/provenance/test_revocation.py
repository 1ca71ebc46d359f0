"""All that was made from something withdrawn is found and marked, once and for good, by ids alone."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.provenance import index
from starsmith.provenance.lineage import verify_chain
from starsmith.provenance.revocation import Search, lift, marks_of, search, set_marks
from worlds import MakeCorpus, function_text, source_file

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 1.0


def make(out: Path, kind: str, parents: dict[str, Path]) -> Path:
    with artifact.create(out, kind=kind, config=Settings(), rooms=("core",), parents=parents) as draft:
        (draft.path / "content").write_text(out.name)
    return out


@pytest.fixture
def run(tmp_path: Path, make_corpus: MakeCorpus) -> Path:
    """A run directory: corpus -> index; corpus -> tokenizer -> model -> adapter, evaluation; and another corpus."""
    folder = tmp_path / "run"
    files = [source_file(f"{number}.py", function_text(number)) for number in range(4)]
    corpus = make_corpus(folder / "corpus", files)
    index.run(index.IndexConfig(), corpus=corpus, out=folder / "index")
    tokenizer = make(folder / "tokenizer", "tokenizer", {"corpus": corpus})
    model = make(folder / "model", "model", {"tokenizer": tokenizer})
    make(folder / "adapter", "model", {"base": model})
    make(folder / "evaluation", "evaluation", {"model": model})
    other = make_corpus(folder / "other", [source_file("x.py", "x = 1\n")])
    make(folder / "other-tokenizer", "tokenizer", {"corpus": other})
    (folder / "notes").mkdir()
    return folder


def names(found: Search) -> set[str]:
    return {one.path.name for one in found.found}


def withdraw(run: Path, *ids: str, paths: tuple[str, ...] = ("1.py",)) -> int:
    files = [source_file(f"{number}.py", function_text(number)) for number in range(4)]
    documents = {(file.repository, file.path, file.swhid) for file in files if file.path in paths}
    return set_marks(marks_of(search(run / "corpus"), ids, documents))


MADE_FROM_IT = {"corpus", "index", "tokenizer", "model", "adapter", "evaluation"}


def test_all_that_was_made_from_it_is_found_and_nothing_else(run: Path) -> None:
    found = search(run / "corpus")

    assert names(found) == MADE_FROM_IT
    assert found.found[0].path.name == "corpus"
    assert found.unknown == ()


def test_marks_name_the_requests_and_an_index_the_documents(run: Path) -> None:
    assert withdraw(run, "R-1", paths=("3.py", "1.py")) == len(MADE_FROM_IT)

    rows = pq.read_table(run / "index" / "documents.parquet")["path"].to_pylist()
    marked = {path.parent.name: json.loads(path.read_text()) for path in run.glob("*/t*ed.json")}
    tombstones = json.loads((run / "index" / "tombstones.json").read_text())
    assert marked == {key: {"requests": [{"id": "R-1"}]} for key in MADE_FROM_IT - {"index"}}
    assert tombstones == {
        "requests": [{"id": "R-1"}],
        "corpus": artifact.read(run / "corpus").id,
        "documents": sorted([rows.index("1.py"), rows.index("3.py")]),
    }


def test_verify_tells_of_them(run: Path) -> None:
    withdraw(run, "R-1")

    found = verify_chain(run / "evaluation")

    told = {problem.path.name: problem.message for problem in found.objections}
    assert {"evaluation", "model", "tokenizer", "corpus"} <= set(told)
    assert "request R-1" in told["model"]


def test_marks_grow_and_setting_one_again_changes_nothing(run: Path) -> None:
    withdraw(run, "R-1")

    again = withdraw(run, "R-1")
    more = withdraw(run, "R-2", "R-1", paths=("2.py",))

    mark = json.loads((run / "index" / "tombstones.json").read_text())
    assert (again, more) == (0, len(MADE_FROM_IT))
    assert (mark["requests"], mark["documents"]) == ([{"id": "R-1"}, {"id": "R-2"}], [1, 2])
    assert not list(run.glob("*/run/t*ed.json*")) + list(run.glob("*/run/tomb*"))


def test_a_mark_is_lifted_from_what_was_made_anew_without_it(run: Path) -> None:
    withdraw(run, "R-1", "R-2")

    lift(run / "corpus", ["R-1", "R-9"])
    lift(run / "model", ["R-2", "R-1"])
    lift(run / "other", ["R-1"])

    assert json.loads((run / "corpus" / "tainted.json").read_text()) == {"requests": [{"id": "R-2"}]}
    assert not (run / "model" / "tainted.json").exists()
    assert (run / "adapter" / "tainted.json").exists()


def test_an_interruption_leaves_whole_marks_and_the_next_run_ends_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = Path.replace
    left = iter([None, None])

    def replace(self: Path, target: Path) -> Path:
        if next(left, self) is self:
            raise KeyboardInterrupt
        return replaced(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            withdraw(run, "R-1")
    assert all(json.loads(path.read_text())["requests"] for path in run.glob("*/t*s.json") if path.name != "times.json")

    assert withdraw(run, "R-1") == len(MADE_FROM_IT) - 2
    assert not list(run.glob("*/run/tainted.json*"))


def test_an_artefact_of_the_longest_name_is_marked_too(run: Path) -> None:
    long = (run / "model").rename(run / ("m" * 255))

    withdraw(run, "R-1")

    assert json.loads((long / "tainted.json").read_text()) == {"requests": [{"id": "R-1"}]}


def test_an_index_made_again_of_the_corpus_keeps_its_rows_and_one_of_another_is_not_joined_with_them(run: Path) -> None:
    withdraw(run, "R-1")
    index.run(index.IndexConfig(window=9), corpus=run / "corpus", out=run / "index")
    withdraw(run, "R-2", paths=("2.py",))
    assert json.loads((run / "index" / "tombstones.json").read_text())["documents"] == [1, 2]

    index.run(index.IndexConfig(), corpus=run / "other", out=run / "index")

    with pytest.raises(ArtifactError, match="rows of another corpus") as caught:
        set_marks(marks_of(search(run / "other"), ["R-3"], set()))
    assert "R-1, R-2, R-3" in caught.value.hint


def test_a_folder_that_one_may_not_look_into_is_passed_over(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "closed").mkdir(parents=True)
    status = os.stat

    def stat(path: str | Path, *rest: Any, **options: Any) -> os.stat_result:
        if "closed/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return status(path, *rest, **options)

    monkeypatch.setattr(os, "stat", stat)

    assert names(search(run / "corpus", [tmp_path / "far"])) == MADE_FROM_IT


def test_what_lies_elsewhere_is_found_where_one_says(run: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "deep").mkdir(parents=True)
    shutil.move(run / "adapter", tmp_path / "models" / "deep" / "adapter")
    shutil.copytree(run / "corpus", tmp_path / "models" / "a-copy-of-the-corpus")
    (tmp_path / "models" / "loop").symlink_to(tmp_path / "models")

    assert names(search(run / "corpus")) == MADE_FROM_IT - {"adapter"}
    assert names(search(run / "corpus", [tmp_path / "models"])) == MADE_FROM_IT | {"a-copy-of-the-corpus"}


def test_what_was_made_from_a_corpus_before_it_is_found_too(run: Path, make_corpus: MakeCorpus) -> None:
    later = make_corpus(run / "later", [source_file("1.py", function_text(1))])

    found = search(later, before=[artifact.read(run / "corpus").id])

    assert names(found) == MADE_FROM_IT | {"later"}


def test_what_nobody_can_tell_of_is_said(run: Path) -> None:
    shutil.rmtree(run / "model")

    found = search(run / "corpus")

    assert names(found) == {"corpus", "index", "tokenizer"}
    assert {path.name for path in found.unknown} == {"adapter", "evaluation"}


def test_the_parents_are_found_outside_the_places_that_are_searched(run: Path, tmp_path: Path) -> None:
    model = make(tmp_path / "far" / "model", "model", {"tokenizer": run / "tokenizer"})
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(run / "corpus", tmp_path / "elsewhere" / "corpus")

    found = search(tmp_path / "elsewhere" / "corpus", [tmp_path / "far"])

    assert model.resolve() in {one.path for one in found.found}


@pytest.mark.parametrize(
    "content",
    ["", "[]", '"R-0"', '{"requests": ["R-0"]}', '{"requests": [{"id": 3}]}', '{"requests": [], "documents": ["x"]}',
     '{"requests": [], "name": "octocat"}', "[" * 50_000],
)  # fmt: skip
def test_a_mark_of_another_form_is_not_written_over(content: str, run: Path) -> None:
    (run / "index" / "tombstones.json").write_text(content)

    with pytest.raises(ArtifactError, match=r"tombstones\.json is no mark") as caught:
        withdraw(run, "R-1")

    assert "move it away" in caught.value.hint
    assert (run / "index" / "tombstones.json").read_text() == content


def test_a_mark_that_is_a_link_is_not_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text('{"requests": []}')
    (run / "model" / "tainted.json").symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(ArtifactError, match="is a link"):
        withdraw(run, "R-1")


def test_an_index_without_its_documents_is_named(run: Path) -> None:
    place = run / "index" / "documents.parquet"
    rows = pq.read_table(place)
    place.write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"documents\.parquet cannot be read"):
        withdraw(run, "R-1")

    pq.write_table(rows.drop_columns(["swhid"]), place)
    with pytest.raises(ArtifactError, match=r"documents\.parquet cannot be read"):
        withdraw(run, "R-1")


def test_a_place_that_is_none_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no directory"):
        search(run / "corpus", [tmp_path / "nowhere"])
    with pytest.raises(ArtifactError):
        search(tmp_path)
