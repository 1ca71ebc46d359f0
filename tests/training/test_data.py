"""Documents become rows without losing a token or an end marker, and row k is the same whoever reads it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.core.records import SourceFile
from starsmith.tokenizer import tokens
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, REPO_NAME, Tokenizer
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training import packing
from starsmith.training.data import IGNORED, Batch, DataConfig, Rows, pack
from worlds import MakeCorpus, function_text, source_file

pytestmark = pytest.mark.slow

NO_NODES = {"character": 0.5, "line": 0.5}
SCRIPTS = [
    "print('héllo')\n",
    "# 漢字かな交じり\n",
    "x = 'שלום'\n",
    "/* नमस्ते */ int a;\n",
    's = "🙂🏽👩‍👩‍👧";\n',
    "λ → ∀x\r\n",
    "\t\n",
]


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="session")
def store(tokens_directory: Path) -> TokenStore:
    return TokenStore(tokens_directory, vocab_size=400)


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, make_corpus: MakeCorpus, tokenizer_directory: Path
) -> tuple[TokenStore, list[SourceFile]]:
    """Files of many scripts and languages in six repositories, one notebook among them."""
    files = []
    for number in range(60):
        text = "".join(SCRIPTS[(number * step) % len(SCRIPTS)] for step in range(number % 9)) + function_text(number, 3)
        files.append(source_file(f"folder/n{number:02d}.py", text * (1 + number % 4)))
    files.append(source_file("folder/empty.py", ""))
    files = [replace(file, repository=f"https://example.org/o/r{place % 6}") for place, file in enumerate(files)]
    files[7] = replace(files[7], text="<jupyter_start>" + files[7].text, controls=(0,), language="Jupyter Notebook")
    out = tmp_path_factory.mktemp("many") / "tokens"
    corpus = make_corpus(out.with_name("corpus"), files)
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=out)
    return TokenStore(out, vocab_size=400), files


def settings(**changes: Any) -> DataConfig:
    plain: dict[str, Any] = {"context_tokens": 64, "cuts": NO_NODES, "repository_rate": 0.0}
    return DataConfig(**{**plain, **changes})


def rows_of(store: TokenStore, tokenizer: Tokenizer, *, seed: int = 1, row_tokens: int = 256, **changes: Any) -> Rows:
    return Rows(store, tokenizer, settings(**changes), seed=seed, row_tokens=row_tokens)


def epoch_of(rows: Rows, epoch: int = 0) -> list[Batch]:
    first = sum(rows.rows_in(earlier) for earlier in range(epoch))
    return [rows[number] for number in range(first, first + rows.rows_in(epoch))]


def sequences(found: Iterable[Batch]) -> list[list[int]]:
    split: list[list[int]] = []
    for batch in found:
        ends = list(itertools.accumulate(batch.lengths))
        split += [batch.ids[end - length : end].tolist() for end, length in zip(ends, batch.lengths, strict=True)]
    return split


def restored(ids: Sequence[int]) -> list[int]:
    """One file's ids, with the parts of an infill back in the order of the text and without the markers."""
    if FIM_MIDDLE not in ids:
        return [one for one in ids if one != END_OF_TEXT]
    suffix, middle = ids.index(FIM_SUFFIX), ids.index(FIM_MIDDLE)
    after, rest = list(ids[suffix + 1 : middle]), [one for one in ids[middle + 1 :] if one != END_OF_TEXT]
    return [*ids[1:suffix], *rest, *after]  # in SPM the prefix stands before the middle, after the marker


def tile(ids: list[int], pieces: list[list[int]]) -> bool:
    """True when the pieces, each used once, are the document."""
    if not pieces:
        return not ids
    fitting = [number for number, piece in enumerate(pieces) if ids[: len(piece)] == piece]
    return any(tile(ids[len(pieces[number]) :], pieces[:number] + pieces[number + 1 :]) for number in fitting)


def test_an_epoch_without_infills_holds_every_token_of_every_document_once(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, _ = world
    rows = rows_of(store, tokenizer, fim_rate=0.0)

    for epoch in range(3):
        found = epoch_of(rows, epoch)
        pieces: dict[int, list[list[int]]] = {}
        for sequence, documents in zip(
            sequences(found), itertools.chain(*(batch.documents for batch in found)), strict=True
        ):
            pieces.setdefault(documents[0], []).append(restored(sequence))

        for place, row in enumerate(store.rows.tolist()):
            assert tile(store.ids(place), pieces.get(row, []))


def test_an_epoch_of_infills_holds_every_byte_of_every_file_once(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, files = world
    for epoch, spm_rate in ((0, 0.0), (1, 1.0), (2, 0.5)):
        found = epoch_of(
            rows_of(store, tokenizer, fim_rate=1.0, spm_rate=spm_rate, context_tokens=4096, row_tokens=8192), epoch
        )

        texts = Counter(tokenizer.decode_bytes(restored(sequence)) for sequence in sequences(found))

        wanted = Counter(file.text.removeprefix("<jupyter_start>").encode() for file in files if file.text)
        shortened = list((texts - wanted).elements())
        assert len(shortened) <= sum(batch.dropped_tokens for batch in found) <= len(files) // 10
        assert texts.total() == wanted.total()
        assert all(any(text in whole for whole in wanted - texts) for text in shortened)


def test_tokens_that_an_epoch_lacks_are_counted(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, files = world
    rows = rows_of(store, tokenizer, fim_rate=1.0, cuts={"character": 1.0}, context_tokens=32)
    found = [batch for epoch in range(4) for batch in epoch_of(rows, epoch)]

    lost = 4 * sum(len(file.text.removeprefix("<jupyter_start>").encode()) for file in files)
    lost -= sum(len(tokenizer.decode_bytes(batch.ids.tolist())) for batch in found)

    dropped = sum(batch.dropped_tokens for batch in found)
    assert dropped > 0
    assert dropped <= lost <= 8 * dropped  # a token of this vocabulary has a few bytes


@pytest.mark.parametrize("changes", [{}, {"repository_rate": 1.0}, {"repository_rate": 1.0, "metadata_rate": 0.0}])
def test_every_middle_ends_with_its_end_marker_in_its_row(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer, changes: dict[str, float]
) -> None:
    store, _ = world
    found = sequences(epoch_of(rows_of(store, tokenizer, fim_rate=1.0, context_tokens=128, **changes)))

    middles = 0
    for sequence in found:
        markers = [one for one in sequence if one in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FILE_SEP, END_OF_TEXT)]
        for place, marker in enumerate(markers):
            if marker == FIM_MIDDLE:
                middles += 1
                assert markers[place - 2 : place] == [FIM_PREFIX, FIM_SUFFIX]
                assert markers[place + 1] in (FILE_SEP, END_OF_TEXT)
        assert markers.count(FIM_PREFIX) == markers.count(FIM_SUFFIX) == markers.count(FIM_MIDDLE)
    assert middles > 20


def test_rows_and_sequences_keep_their_bounds_and_little_stays_empty(store: TokenStore, tokenizer: Tokenizer) -> None:
    for changes in ({}, {"repository_rate": 1.0}, {"fim_rate": 1.0}):
        found = epoch_of(rows_of(store, tokenizer, row_tokens=512, **changes))

        assert max(len(batch.ids) for batch in found) <= 512
        assert max(length for batch in found for length in batch.lengths) <= 64
        assert sum(len(batch.ids) for batch in found[:-1]) > 0.9 * 512 * (len(found) - 1)


def test_hardly_anything_stays_empty_at_a_real_size() -> None:
    random = np.random.default_rng(0)
    documents = packing.Documents(
        lengths=np.exp(random.normal(6.3, 1.3, 20_000)).astype(np.int64) + 1,
        plain=np.ones(20_000, np.bool_),
        repositories=np.arange(20_000) // 10,
        path_tokens=np.full(20_000, 10),
        name_tokens=np.full(2_000, 8),
        ranks=np.arange(20_000) % 10,
    )
    for repository_rate in (0.0, 0.5, 1.0):
        rates = packing.Rates(
            context_tokens=4096, fim_rate=0.5, repository_rate=repository_rate, metadata_rate=0.5, by_imports=False
        )
        plan = packing.plan(documents, rates, seed=0, epoch=0, row_tokens=16_384)

        held = int((plan.ends - plan.starts).sum())
        assert held == documents.lengths.sum()
        assert held > 0.96 * 16_384 * len(plan)  # the markers and paths are not counted here


def test_half_of_the_infills_are_suffix_first(store: TokenStore, tokenizer: Tokenizer) -> None:
    rows = rows_of(store, tokenizer, fim_rate=1.0)
    kinds = Counter(kind for epoch in range(6) for batch in epoch_of(rows, epoch) for kind in batch.kinds)

    assert set(kinds) == {"psm", "spm"}
    assert 0.45 < kinds["spm"] / kinds.total() < 0.55


def test_half_of_the_files_are_infills_and_a_file_is_one_or_the_other(store: TokenStore, tokenizer: Tokenizer) -> None:
    rows = rows_of(store, tokenizer)
    for epoch in range(3):
        kinds: dict[tuple[int, ...], set[bool]] = {}
        for batch in epoch_of(rows, epoch):
            for documents, kind in zip(batch.documents, batch.kinds, strict=True):
                kinds.setdefault(documents, set()).add(kind == "left-to-right")

        assert all(len(found) == 1 for found in kinds.values())
        assert 0.3 < sum(found == {True} for found in kinds.values()) / len(kinds) < 0.7


def test_structured_documents_are_never_infilled_nor_put_together(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, _ = world
    found = epoch_of(rows_of(store, tokenizer, fim_rate=1.0, repository_rate=1.0))

    kinds = {
        kind for batch in found for documents, kind in zip(batch.documents, batch.kinds, strict=True) if 7 in documents
    }

    assert kinds == {"left-to-right"}


def test_files_of_a_repository_are_written_as_the_paper_has_them(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, files = world
    rows = rows_of(
        store, tokenizer, fim_rate=0.0, repository_rate=1.0, metadata_rate=1.0, context_tokens=8192, row_tokens=8192
    )

    for batch in epoch_of(rows):
        for sequence, documents, kind in zip(sequences([batch]), batch.documents, batch.kinds, strict=True):
            if kind != "repository":
                continue
            wanted = [REPO_NAME, *tokenizer.encode(files[documents[0]].repository.removeprefix("https://example.org/"))]
            for document in documents:
                file = files[document]
                wanted += [FILE_SEP, *tokenizer.encode(file.path + "\n"), *tokenizer.encode(file.text)]
            assert sequence == [*wanted, END_OF_TEXT]
            assert len({files[document].repository for document in documents}) == 1


def test_no_cut_falls_into_a_path(world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer) -> None:
    store, files = world
    rows = rows_of(
        store, tokenizer, fim_rate=1.0, repository_rate=1.0, metadata_rate=1.0, context_tokens=8192, row_tokens=8192
    )
    paths = {file.path for file in files}

    seen = 0
    for sequence in sequences(epoch_of(rows)):
        for place, one in enumerate(sequence):
            if one == FIM_PREFIX:
                start = sequence.index(FIM_MIDDLE, place) + 1 if sequence[place + 1] == FIM_SUFFIX else place + 1
                assert tokenizer.decode(sequence[start:]).split("\n")[0] in paths
                seen += 1
    assert seen > 10


def test_half_of_the_repositories_have_no_names_written(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, _ = world
    rows = rows_of(store, tokenizer, fim_rate=0.0, repository_rate=1.0, context_tokens=8192, row_tokens=8192)
    found = [sequence for epoch in range(20) for sequence in sequences(epoch_of(rows, epoch)) if FILE_SEP in sequence]

    named = [sequence for sequence in found if sequence[0] == REPO_NAME]
    bare = [sequence for sequence in found if sequence[0] == FILE_SEP]
    assert len(named) + len(bare) == len(found)
    assert 0.3 < len(named) / len(found) < 0.7
    assert not any("folder/" in tokenizer.decode(sequence) for sequence in bare)


def test_a_repository_longer_than_the_context_is_divided_between_files(
    world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer
) -> None:
    store, _ = world
    longest = max(int(length) for length in store.lengths)
    rows = rows_of(
        store, tokenizer, fim_rate=0.0, repository_rate=1.0, context_tokens=longest + 64, row_tokens=2 * longest + 128
    )

    found = epoch_of(rows)

    whole = Counter(document for batch in found for documents in batch.documents for document in documents)
    assert set(whole.values()) == {1}
    ends = Counter(sequence[-1] for sequence in sequences(found))
    assert set(ends) == {FILE_SEP, END_OF_TEXT}
    assert 6 + 1 <= ends[END_OF_TEXT] <= 2 * 6 + 1  # repositories in one part or two, and the notebook


def test_one_large_repository_is_neither_all_together_nor_all_infills(store: TokenStore, tokenizer: Tokenizer) -> None:
    rows = rows_of(store, tokenizer, repository_rate=0.5, metadata_rate=0.0)  # forty files of one repository
    found = [batch for epoch in range(10) for batch in epoch_of(rows, epoch)]

    kinds = Counter(kind for batch in found for kind in batch.kinds)
    apart = [sequence for sequence in sequences(found) if sequence[0] == FILE_SEP]

    assert set(kinds) == {"repository", "left-to-right", "psm", "spm"}
    assert 0.1 < sum(FIM_MIDDLE in sequence for sequence in apart) / len(apart) < 0.4


def test_files_can_stand_in_the_order_of_their_imports(
    tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path, tokenizer: Tokenizer
) -> None:
    texts = {"a.py": "import b\n", "b.py": "import c\n", "c.py": "import d\n", "d.py": "x = 1\n"}
    corpus = make_corpus(tmp_path / "corpus", [source_file(path, text) for path, text in texts.items()])
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "tokens")
    store = TokenStore(tmp_path / "tokens", vocab_size=400)

    orders = {}
    for file_order in ("imports", "random"):
        rows = rows_of(store, tokenizer, repository_rate=1.0, file_order=file_order, context_tokens=256)
        orders[file_order] = {rows[epoch].documents for epoch in range(20)}

    assert orders["imports"] == {((3, 2, 1, 0),)}
    assert len(orders["random"]) > 5


def test_the_target_is_the_next_token_of_the_same_sequence(store: TokenStore, tokenizer: Tokenizer) -> None:
    batch = rows_of(store, tokenizer)[0]

    ends = {(end - 1) for end in itertools.accumulate(batch.lengths)}
    for position, target in enumerate(batch.targets.tolist()):
        assert target == (IGNORED if position in ends else batch.ids[position + 1])


@hypothesis_settings(max_examples=15)
@given(order=st.lists(st.integers(0, 120), min_size=1, max_size=8))
def test_a_row_is_the_same_whatever_was_read_before(store: TokenStore, tokenizer: Tokenizer, order: list[int]) -> None:
    reader = rows_of(store, tokenizer, repository_rate=0.5)

    for number in order:
        found = reader[number]
        fresh = rows_of(store, tokenizer, repository_rate=0.5)[number]
        assert found.ids.tolist() == fresh.ids.tolist()
        assert (found.lengths, found.documents, found.kinds) == (fresh.lengths, fresh.documents, fresh.kinds)


def test_epochs_and_seeds_differ_in_order_and_in_cuts(store: TokenStore, tokenizer: Tokenizer) -> None:
    rows = rows_of(store, tokenizer)
    epochs = [epoch_of(rows, epoch) for epoch in range(2)]
    other = epoch_of(rows_of(store, tokenizer, seed=2))

    first = {tuple(sequence) for sequence in sequences(epochs[0])}
    for found in (epochs[1], other):
        assert [batch.documents for batch in found] != [batch.documents for batch in epochs[0]]
        assert len(first & {tuple(sequence) for sequence in sequences(found)}) < 0.5 * len(first)


def test_the_number_of_a_row_tells_its_epoch(store: TokenStore, tokenizer: Tokenizer) -> None:
    rows = rows_of(store, tokenizer)
    sizes = [rows.rows_in(epoch) for epoch in range(3)]

    borders = list(itertools.accumulate(sizes))

    assert rows_of(store, tokenizer).epoch(borders[1]) == 2
    assert [rows.epoch(border - 1) for border in borders] == [0, 1, 2]


def test_languages_are_told(world: tuple[TokenStore, list[SourceFile]], tokenizer: Tokenizer) -> None:
    store, files = world
    for batch in epoch_of(rows_of(store, tokenizer)):
        for documents, language in zip(batch.documents, batch.languages, strict=True):
            assert language == files[documents[0]].language


def test_packed_sequences_need_no_origin() -> None:
    batch = pack([[1, 2], [3]])

    assert batch.ids.tolist() == [1, 2, 3]
    assert batch.targets.tolist() == [2, IGNORED, IGNORED]
    assert batch.trained_tokens == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_tokens": 4}, "context_tokens=4"),
        ({"fim_rate": 1.5}, "fim_rate=1.5"),
        ({"metadata_rate": -0.1}, "metadata_rate=-0.1"),
        ({"file_order": "size"}, "file_order='size'"),
        ({"cuts": {"lines": 1.0}}, "'lines'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_a_row_shorter_than_the_context_is_refused(store: TokenStore, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="a row of 32 tokens is less than one context of 64"):
        rows_of(store, tokenizer, row_tokens=32)
