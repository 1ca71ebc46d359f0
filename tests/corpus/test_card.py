import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ArtifactError
from starsmith.corpus.card import Account, owner_of, write_card
from starsmith.corpus.plots import Scale, funnel, treemap

pytestmark = pytest.mark.slow

HOSTILE = "x\"'</script><script>alert(1)</script>\n| [a](javascript:b) `c` &lt;\u202e"

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "language", "license", "license_evidence", "repository", "commit")),
        *((name, pa.string()) for name in ("swhid", "sha256", "split", "kind", "date", "cluster")),
        ("text", pa.large_string()),
        ("controls", pa.list_(pa.int32())),
        ("size_bytes", pa.int64()),
        *((name, pa.int32()) for name in ("stars", "cluster_size", "redactions")),
        *((name, pa.float32()) for name in ("comment_ratio", "average_line", "alphabetic_share")),
        *((name, pa.float32()) for name in ("characters_per_token", "weight")),
        ("is_test", pa.bool_()),
    ]
)


def row(number: int = 0, **values: Any) -> dict[str, Any]:
    text = values.get("text", f"value = {number}\n")
    return {
        "path": f"pkg/m{number}.py",
        "text": text,
        "language": "Python",
        "license": "MIT",
        "license_evidence": "text of LICENSE",
        "repository": "https://github.com/someone/project",
        "commit": "a" * 40,
        "swhid": f"swh:1:cnt:{number:040x}",
        "sha256": "",
        "split": "train",
        "kind": "code",
        "date": "",
        "cluster": None,
        "controls": [],
        "size_bytes": len(text.encode()),
        "stars": None,
        "cluster_size": 1,
        "redactions": 0,
        "comment_ratio": None,
        "average_line": 9.0,
        "alphabetic_share": 0.5,
        "characters_per_token": None,
        "weight": 1.0,
        "is_test": False,
        **values,
    }


def write_shards(corpus: Path, *shards: list[dict[str, Any]]) -> Path:
    (corpus / "shards").mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, corpus / "shards" / f"{number:05d}.parquet", row_group_size=4)
    return corpus


def account(**values: Any) -> Account:
    sources = [("https://github.com/someone/project", "a" * 40, 1, 10)]
    return Account(**{"sources": sources, "counts": {}, "steps": [], "clusters": [], **values})


def card_of(corpus: Path, said: Account) -> tuple[str, str]:
    write_card(corpus, said)
    return (corpus / "card.md").read_text(), (corpus / "card.html").read_text()


class Page(HTMLParser):
    """The elements of a page in order, and those that were left open."""

    VOID = ("meta", "i", "hr", "br", "input", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_card_counts_files_bytes_languages_and_licences(tmp_path: Path) -> None:
    rust = {"language": "Rust", "license": "Apache-2.0", "size_bytes": 3_000_000}
    corpus = write_shards(tmp_path, [row(0), row(1, split="held_out")], [row(2, **rust), row(3, license="")])

    markdown, page = card_of(corpus, account(counts={"read": 9, "dropped_no_license": 4, "dropped_binary": 1}))

    assert "4 files, 3.00 MB, of which 1 files are held out" in markdown
    assert "| Rust | 1 | 3.00 | 100.0 % |\n| Python | 3 | 0.00 | 0.0 % |\n" in markdown
    assert "| MIT | 2 | 0.00 | 50.0 % |\n| Apache-2.0 | 1 | 3.00 | 25.0 % |\n| none found | 1 |" in markdown
    assert "| no_license | 4 |\n| binary | 1 |\n" in markdown
    assert "no license" in page
    assert "3 MB" in page


def test_the_funnel_tells_for_each_step_what_came_in_and_what_left(tmp_path: Path) -> None:
    steps = [("language", 10, 8), ("exact duplicates", 8, 8), ("near-duplicates", 8, 1)]

    markdown, page = card_of(write_shards(tmp_path, [row()]), account(steps=steps))

    assert "| language | 10 | 8 | 2 |\n| exact duplicates | 8 | 8 | 0 |\n| near-duplicates | 8 | 1 | 7 |" in markdown
    assert page.count('class="stream"') == 3
    assert page.count('class="loss"') == 2


def test_redactions_clusters_years_weights_and_settings_have_their_place(tmp_path: Path) -> None:
    rows = [row(0, date="2021-03-01T00:00:00Z", redactions=2), row(1, language="JSON", weight=0.5, date="yesterday")]
    said = account(
        counts={"redacted_email": 7}, clusters=[2, 2, 5], settings={"redaction": {"names": None}, "held_out": 0.01}
    )

    markdown, page = card_of(write_shards(tmp_path, rows), said)

    assert "replaced, in 1 of the files" in markdown
    assert "| email | 7 |" in markdown
    assert "9 files fell into 3 clusters, the largest of 5" in markdown
    assert "| from 4 to under 8 | 1 |" in markdown
    assert re.search(r"\| JSON \| 0.5 \| 50.00 % \| 33.33 % \|", markdown)
    assert "| redaction.names | null |" in markdown
    assert "Year of the revision" in page
    assert "from 2021" not in page
    assert "2021 or more: 1" in page


def test_a_corpus_of_one_file_without_optional_values_has_a_card(tmp_path: Path) -> None:
    bare = dict.fromkeys(("stars", "comment_ratio", "average_line", "alphabetic_share", "is_test", "weight", "date"))

    markdown, page = card_of(write_shards(tmp_path, [row(0, **bare)]), account(sources=[("project", "", 1, 10)]))

    assert "1 files, 0.00 MB" in markdown
    assert "Quality signals" not in page
    assert "Sampling" not in page
    assert "Year of the revision" not in page


def test_an_empty_corpus_has_a_card(tmp_path: Path) -> None:
    markdown, page = card_of(write_shards(tmp_path, []), account(sources=[]))

    assert "0 files, 0.00 MB" in markdown
    assert "treemap" not in page.partition("</style>")[2]


def test_the_largest_are_named_and_the_rest_is_one_row(tmp_path: Path) -> None:
    rows = [row(number, language=f"L{number:02d}", size_bytes=1000 - number) for number in range(30)]
    sources = [(f"https://host/o{number % 3}/r{number}", "", 1, number) for number in range(60)]

    markdown, page = card_of(write_shards(tmp_path, rows), account(sources=sources))

    assert "| L24 | 1 |" in markdown
    assert "L25" not in markdown
    assert "| 5 more | 5 | 0.00 |" in markdown
    assert "The 50 largest of 60." in markdown
    assert "The 50 largest of 60." in page
    assert "| o2 | 20 |" in markdown


def test_names_of_strangers_stay_names(tmp_path: Path) -> None:
    values = dict.fromkeys(("path", "language", "license", "license_evidence", "kind", "split", "repository"), HOSTILE)
    said = account(
        sources=[(HOSTILE, HOSTILE, 1, 1)],
        counts={f"dropped_{HOSTILE}": 1, f"redacted_{HOSTILE}": 1},
        steps=[(HOSTILE, 2, 1)],
        settings={HOSTILE: [HOSTILE]},
    )

    markdown, page = card_of(write_shards(tmp_path, [row(0, **values)]), said)

    parsed = Page(page)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert {value for name, value in parsed.attributes if name == "href"} == {"samples.html", "card.md"}
    assert not re.search(r"(?<!\\)<", markdown)
    assert not re.search(r"(?<!\\)\[a", markdown)
    assert "\u202e" not in markdown + page
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if "alert" in line}
    assert cells <= {3, 5}  # tables of two and of four columns


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(number, language=f"L{number % 3}") for number in range(20)]
    said = account(counts={"b": 1, "a": 2}, clusters=[3], steps=[("x", 3, 2)])
    for name in ("one", "two"):
        write_card(write_shards(tmp_path / name, rows), said)

    for name in ("card.md", "card.html", "samples.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_page_loads_nothing(tmp_path: Path) -> None:
    _, page = card_of(write_shards(tmp_path, [row()]), account())

    assert "default-src 'none'" in page
    assert not re.search(r"(src|@import|url\()\s*=?\s*[\"']?http", page)


def test_shards_without_a_column_are_refused(tmp_path: Path) -> None:
    corpus = write_shards(tmp_path, [row()])
    shard = corpus / "shards" / "00000.parquet"
    pq.write_table(pq.read_table(shard).drop_columns(["weight"]), shard)

    with pytest.raises(ArtifactError, match="has no column weight"):
        write_card(corpus, account())


@pytest.mark.parametrize(
    ("repository", "owner"),
    [
        ("https://github.com/python/cpython", "python"),
        ("https://github.com/python/cpython.git", "python"),
        ("https://user:secret@host:8080/team/tool", "team"),
        ("git@github.com:python/cpython.git", "python"),
        ("python/cpython", "python"),
        ("cpython", ""),
        ("", ""),
        ("/home/someone/project", ""),
    ],
)
def test_the_owner_is_read_from_the_repository(repository: str, owner: str) -> None:
    assert owner_of(repository) == owner


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30))
def test_tiles_are_as_large_as_their_sizes_and_fill_the_room(sizes: list[float]) -> None:
    sizes.sort(reverse=True)

    tiles = treemap(sizes, 2.0)

    areas = [tile.width * tile.height for tile in tiles]
    assert np.allclose(areas, [1e4 * size / sum(sizes) for size in sizes], atol=0.25)
    assert all(tile.left >= -0.01 and tile.left + tile.width <= 100.01 for tile in tiles)
    assert all(tile.top >= -0.01 and tile.top + tile.height <= 100.01 for tile in tiles)


@given(st.lists(st.floats(1, 1e3), min_size=2, max_size=12))
def test_tiles_do_not_overlap(sizes: list[float]) -> None:
    tiles = treemap(sorted(sizes, reverse=True), 2.0)

    for number, one in enumerate(tiles):
        for other in tiles[number + 1 :]:
            across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
            down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
            assert across < 0.01 or down < 0.01


def test_a_stream_is_as_wide_at_its_end_as_the_next_at_its_start() -> None:
    first, second = funnel([("a", 200, 50), ("b", 50, 50)])

    assert first.stream == "M0 0H100.00C100.00 22 25.00 18 25.00 40H0Z"
    assert second.stream.startswith("M0 0H25.00C")
    assert (first.lost, second.lost, second.loss) == (150, 0, "")


def test_values_outside_a_scale_are_counted_at_its_ends_and_nothing_is_no_value() -> None:
    scale = Scale.even(1, 4, label_every=2)

    counts = scale.count(np.array([-1, 0, 0.3, 0.9, 7, np.nan, np.inf]))

    assert counts.tolist() == [2, 1, 0, 3]


@given(st.lists(st.floats(0, 1), min_size=1))
def test_a_quantile_is_right_to_a_bins_width(values: list[float]) -> None:
    scale = Scale.even(1, 20, label_every=5)

    median = scale.quantile(scale.count(np.array(values)), 0.5)

    assert median is not None
    assert float(np.quantile(values, 0.5, method="inverted_cdf")) == pytest.approx(median, abs=0.0501)
