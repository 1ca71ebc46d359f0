import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus import page

HOSTILE = "</script><script>alert(1)</script><!-- & \u2028\u202e \x1b[31m\n"

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "language", "license", "license_evidence", "repository", "commit")),
        *((name, pa.string()) for name in ("swhid", "split", "kind", "date")),
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
    text = f"value = {number}\n"
    swhid = "swh:1:cnt:" + hashlib.sha1(text.encode()).hexdigest()
    named = dict.fromkeys(("license_evidence", "repository", "commit", "split", "kind", "date"), "")
    return {
        "path": f"{number}.py",
        "language": "Python",
        "license": "MIT",
        "text": text,
        "swhid": swhid,
        **named,
        **values,
    }


def write_shards(corpus: Path, *shards: list[dict[str, Any]]) -> Path:
    (corpus / "shards").mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, corpus / "shards" / f"{number:05d}.parquet", row_group_size=5)
    return corpus


def files_of(html: str) -> list[dict[str, Any]]:
    match = re.search(r'<script type="application/json" id="files">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    files: list[dict[str, Any]] = json.loads(match.group(1))
    return files


def text_of(file: dict[str, Any]) -> str:
    return "".join(part if isinstance(part, str) else part[1] for part in file["segments"])


def test_the_page_has_each_drawn_file_with_where_it_comes_from(tmp_path: Path) -> None:
    known = {
        "repository": "https://github.com/a/b",
        "commit": "c" * 40,
        "license_evidence": "text of LICENSE",
        "stars": 7,
    }
    corpus = write_shards(tmp_path, [row(number, **known) for number in range(7)], [row(7), row(8, is_test=True)])

    files = files_of(page.samples(corpus, ["Python"]))

    assert sorted(file["path"] for file in files) == [f"{number}.py" for number in range(9)]
    assert all(text_of(file) == f"value = {file['path'][0]}\n" for file in files)
    (first,) = [file for file in files if file["path"] == "0.py"]
    assert (first["repository"], first["commit"]) == ("https://github.com/a/b", "c" * 40)
    assert ["stars", "7"] in first["signals"]
    assert ["test", "yes"] in next(file for file in files if file["path"] == "8.py")["signals"]


def test_a_draw_is_spread_over_languages_and_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    rows = [row(number) for number in range(400)]
    rows += [row(number, language="Rust") for number in range(400, 425)] + [row(425, language="Zig")]
    one = write_shards(tmp_path / "one", rows)
    other = write_shards(tmp_path / "other", rows[300:], rows[:300][::-1])

    places, total = page.draw(one, 26)

    assert total == 426
    assert {place.swhid for place in places} == {place.swhid for place in page.draw(other, 26)[0]}
    drawn = [rows[place.row]["language"] for place in places]
    assert {language: drawn.count(language) for language in drawn} == {"Python": 20, "Rust": 5, "Zig": 1}
    lowest = sorted(rows[number]["swhid"] for number in range(400))[:20]
    assert [place.swhid for place in places if rows[place.row]["language"] == "Python"] == lowest


def test_what_a_file_says_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    names = dict.fromkeys(("path", "language", "license", "license_evidence", "repository", "commit", "kind"), HOSTILE)

    html = page.samples(write_shards(tmp_path, [row(0, text=HOSTILE, **names)]), [HOSTILE])

    assert html.count("</script>") == 2  # the data's and the script's own
    assert html.count("<script") == 2
    assert "<!--" not in files_block(html)
    assert "\u202e" not in html
    (file,) = files_of(html)
    assert file["path"] == r"</script><script>alert(1)</script><!-- & \u2028\u202e \u001b[31m\u000a"
    assert ["hidden", "U+202E"] in file["segments"]


def files_block(html: str) -> str:
    return html.partition('id="files">')[2].partition("</script>")[0]


def test_the_policy_of_the_page_allows_its_own_script_alone(tmp_path: Path) -> None:
    html = page.samples(write_shards(tmp_path, [row()]), ["Python"])

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    script = html.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode().replace("+", "&#43;")
    assert policy is not None
    assert policy[1].replace("+", "&#43;").startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy[1].replace("+", "&#43;")
    assert "innerHTML" not in script


def test_control_tokens_are_marked_where_the_shard_says_and_nowhere_else() -> None:
    text = "mail <EMAIL> and <EMAIL>"

    assert page.segments(text, [5]) == ["mail ", ["control", "<EMAIL>"], " and <EMAIL>"]
    assert page.segments(text, []) == [text]


def test_offsets_that_point_at_no_token_mark_nothing() -> None:
    assert page.segments("a < b", [0, 2, 99]) == ["a < b"]


@given(st.text(), st.lists(st.integers(0, 50)))
def test_segments_put_together_are_the_text(text: str, controls: list[int]) -> None:
    parts = page.segments(text, controls)

    hidden = [chr(int(part[1][2:], 16)) if part[0] == "hidden" else part[1] for part in parts if isinstance(part, list)]
    marked = iter(hidden)
    assert "".join(part if isinstance(part, str) else next(marked) for part in parts) == text


def test_a_long_file_is_cut_at_a_line_and_says_so(tmp_path: Path) -> None:
    text = "a line of text\n" * 10_000

    (file,) = files_of(page.samples(write_shards(tmp_path, [row(0, text=text)]), ["Python"]))

    shown = text_of(file)
    assert text.startswith(shown)
    assert shown.endswith("\n")
    assert file["left_out"] == len(text) - len(shown) > 100_000


@pytest.mark.slow
def test_the_page_stays_below_its_size_whatever_the_files_are(tmp_path: Path) -> None:
    rows = [row(number, text="<<<\U0001f980" * 3_000) for number in range(200)]

    html = page.samples(write_shards(tmp_path, rows), ["Python"])

    assert len(html.encode()) <= 3_000_000
    assert len(files_of(html)) == 200


def test_an_empty_corpus_has_a_page(tmp_path: Path) -> None:
    assert files_of(page.samples(write_shards(tmp_path, []), [])) == []


@given(st.text())
def test_a_visible_name_is_one_printable_line(name: str) -> None:
    assert not re.search(r"[\0-\x1f\x7f-\x9f\u200b\u2028\u202e]", page.visible(name))
