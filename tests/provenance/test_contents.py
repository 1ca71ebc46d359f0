"""Policies, pins, proofs, differences and doing again, over a small real corpus and its index."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from builds import build, module, modules
from starsmith.cli.provenance import verify
from starsmith.core import artifact, merkle
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.core.records import SourceFile, write_files
from starsmith.core.statement import canonical
from starsmith.provenance import index
from starsmith.provenance.differences import compare
from starsmith.provenance.lineage import verify_chain
from starsmith.provenance.policy import Demands
from starsmith.provenance.reruns import STAGES, rerun
from worlds import Write, batch_of, source_file

pytestmark = pytest.mark.slow

Fill = Callable[[artifact.Draft, Sequence[SourceFile]], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    opt_outs: tuple[str, ...] = ()
    opt_outs_as_of: str = ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """A run directory with a corpus and its index."""
    root = tmp_path_factory.mktemp("world")
    build(root / "run" / "corpus", write(root / "project", modules(13)))
    settings = index.IndexConfig(ngram_tokens=8, window=4)
    index.run(settings, corpus=root / "run" / "corpus", out=root / "run" / "index")
    return root / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="module")
def stages(run: Path) -> Path:
    """The run with a tokenizer and tokens, too."""
    from starsmith.tokenizer import tokens, train

    corpus, tokenizer = run / "corpus", run / "tokenizer"
    train.run(train.TokenizerConfig(vocab_size=320), corpus=corpus, out=tokenizer)
    tokens.run(tokens.TokensConfig(shard_tokens=2000), corpus=corpus, tokenizer=tokenizer, out=run / "tokens")
    return run


@pytest.fixture
def copy_of_stages(stages: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stages, tmp_path / "copy"))


def plain_corpus(out: Path, files: list[SourceFile]) -> Path:
    """A corpus with rows alone, which are enough to compare it."""
    with artifact.create(out, kind="corpus", config=Settings(), rooms=("core",)) as draft:
        write_files(files, draft.path / "shards")
    return out


def reseal(directory: Path, change: Callable[[dict[str, Any]], None] = lambda predicate: None) -> None:
    """What a forger does: list the files as they are now, and compute id and seal anew."""
    file = directory / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    predicate = statement["predicate"]
    change(predicate)
    files = {name: artifact._file_sha256(directory / name) for name in artifact._list_files(directory)}
    statement["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()]
    parents = [artifact.Parent(**parent) for parent in predicate["parents"]]
    predicate["id"] = artifact._id(predicate["kind"], files, parents)
    predicate["seal"] = artifact._seal(statement)
    file.write_bytes(canonical(statement))


def problems_of(directory: Path) -> list[str]:
    return [problem.message for problem in verify_chain(directory).problems]


def ask(*arguments: object) -> Result:
    result = CliRunner().invoke(verify, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def swhids(corpus: Path) -> list[str]:
    found: list[str] = pq.read_table(corpus / "shards" / "00000.parquet")["swhid"].to_pylist()
    return found


def replay(proof: dict[str, Any]) -> str:
    """The check of RFC 9162 from what is printed alone."""
    content = json.dumps(proof["values"], separators=(",", ":"), ensure_ascii=False).encode()
    node, place, last = hashlib.sha256(b"\0" + content).digest(), proof["index"], proof["tree_size"] - 1
    for text in proof["path"]:
        neighbour = bytes.fromhex(text)
        if place % 2 or place == last:
            node = hashlib.sha256(b"\1" + neighbour + node).digest()
            while place and place % 2 == 0:
                place, last = place // 2, last // 2
        else:
            node = hashlib.sha256(b"\1" + node + neighbour).digest()
        place, last = place // 2, last // 2
    return node.hex() if last == 0 else ""


def test_a_document_of_the_corpus_has_a_proof_that_others_can_check(run: Path) -> None:
    root = json.loads((run / "corpus" / "merkle.json").read_text())["root"]

    for swhid in swhids(run / "corpus"):
        result = ask(run / "index", "--inclusion", swhid)

        proof = json.loads(result.stdout)
        assert (result.exit_code, proof["holds"], proof["values"][3]) == (0, True, swhid)
        assert replay(proof) == proof["root"] == root


def test_a_content_at_several_places_has_a_proof_for_each(copy: Path) -> None:
    shard = copy / "corpus" / "shards" / "00000.parquet"
    table = pq.ParquetFile(shard).read()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), shard)
    merkle.write_tree(copy / "corpus")

    proofs = merkle.prove(copy / "corpus", table["swhid"][0].as_py())

    assert [proof.index for proof in proofs] == [0, len(table)]
    assert all(proof.holds for proof in proofs)


def test_no_proof_holds_against_a_root_that_is_not_of_the_rows(copy: Path) -> None:
    file = copy / "corpus" / "merkle.json"
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, "root": "0" * 64}))

    result = ask(copy / "corpus", "--inclusion", swhids(copy / "corpus")[0])

    assert result.exit_code == 1
    assert json.loads(result.stdout)["holds"] is False
    assert "merkle.json was changed" in result.stderr


def test_a_document_that_is_not_there_has_no_proof(run: Path) -> None:
    with pytest.raises(InputError, match=r"swh:1:cnt:0+ is not in"):
        ask(run / "corpus", "--inclusion", "swh:1:cnt:" + "0" * 40)


def test_a_corpus_without_a_root_has_no_proof(tmp_path: Path) -> None:
    plain_corpus(tmp_path / "corpus", [source_file("a.py", "x = 1\n")])

    with pytest.raises(ArtifactError, match=r"has no merkle\.json"):
        ask(tmp_path / "corpus", "--inclusion", "swh:1:cnt:" + "0" * 40)


def test_licences_that_are_not_on_the_list_are_counted_and_shown(run: Path) -> None:
    assert ask(run / "index", "--allow", "MIT").exit_code == 0

    refused = ask(run / "corpus", "--allow", "Apache-2.0", "--allow", "BSD-3-Clause")

    assert refused.exit_code == 3
    assert "policy: " in refused.stdout
    assert f"has {len(swhids(run / 'corpus'))} files under MIT: MIT is" in refused.stdout
    assert refused.stdout.endswith("not allowed\n")


def test_the_licences_of_a_missing_corpus_are_read_from_the_index(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "index")
    pin = artifact.read(run / "corpus").id

    result = ask(tmp_path / "index", "--allow", "Apache-2.0", "--pin", pin)

    assert result.exit_code == 3
    assert "files under MIT" in result.stdout


def test_a_policy_file_says_what_a_recipe_says(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[licenses]\nbase = "blue_oak"\ndeny = ["MIT"]\n[opt_outs]\nwithin_days = 30\n')

    result = ask(run / "corpus", "--policy", file, "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (3, "policy")
    assert ["MIT is denied" in found["objections"][0]["message"], len(found["objections"])] == [True, 2]
    assert "without an opt-out list" in found["objections"][1]["message"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("[licences]\n", [], r"no table \[licences\]"),
        ('[licenses]\nallow = ["MIT"]\n', ["--allow", "MIT"], "both say what is allowed"),
        ("[opt_outs]\ndays = 3\n", [], "no setting 'days'"),
        ("[opt_outs]\nwithin_days = -3\n", [], "must not be negative"),
        ('[licenses]\nallow = ["MITT"]\n', [], "no SPDX licence ids"),
    ],
)
def test_a_wrong_policy_is_refused(content: str, options: list[str], message: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(content)

    with pytest.raises(ConfigError, match=message):
        ask(run / "corpus", "--policy", tmp_path / "policy.toml", *options)


@pytest.mark.parametrize(
    ("settings", "objection"),
    [
        ({}, "without an opt-out list"),
        ({"opt_outs": ("list.csv",)}, "does not say of which day"),
        ({"opt_outs": ("list.csv",), "opt_outs_as_of": "soon"}, "does not say of which day"),
        ({"opt_outs": ("list.csv",), "opt_outs_as_of": "2026-01-01"}, "31 days old"),
        ({"opt_outs": ("list.csv",), "opt_outs_as_of": "2026-01-02"}, None),
        ({"opt_outs": ("list.csv",), "opt_outs_as_of": "2026-02-01"}, None),
        ({"opt_outs": ("list.csv",), "opt_outs_as_of": "2026-02-02"}, "a day to come"),
    ],
)
def test_opt_outs_must_be_of_late(settings: dict[str, Any], objection: str | None, fill: Fill, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    with artifact.create(corpus, kind="corpus", config=Settings(**settings), rooms=("core",)) as draft:
        fill(draft, [source_file("a.py", "x = 1\n")])

    found = verify_chain(corpus, policy=Demands(opt_outs_within_days=30, today=date(2026, 2, 1)))

    assert found.verdict == ("policy" if objection else "holds")
    assert objection is None or objection in found.objections[0].message


def test_what_cannot_be_judged_is_an_objection(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "model", kind="model", config=Settings(), rooms=("core",)) as draft:
        (draft.path / "config.json").write_text("{}")

    result = ask(tmp_path / "model", "--allow", "MIT", "--opt-outs-within", "30")

    assert result.exit_code == 3
    assert "licences are unknown" in result.stdout
    assert "opt-out lists is unknown" in result.stdout


def test_a_taint_is_inherited_and_outweighed_by_a_change(copy: Path) -> None:
    (copy / "corpus" / "tainted.json").write_text('{"request": "REQ-7"}')

    assert ask(copy / "index").exit_code == 3
    assert "names request REQ-7" in ask(copy / "index").stdout
    (copy / "corpus" / "card.md").write_text("other")
    assert ask(copy / "index").exit_code == 1


def test_a_pinned_parent_need_not_be_there(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "index")

    assert ask(tmp_path / "index").exit_code == 2
    assert ask(tmp_path / "index", "--pin", "0" * 64).exit_code == 2
    pinned = ask(tmp_path / "index", "--pin", artifact.read(run / "corpus").id)
    assert pinned.exit_code == 0
    assert "pinned: the corpus" in pinned.stdout
    with pytest.raises(InputError, match="is no id"):
        ask(tmp_path / "index", "--pin", "abc")


def test_a_pin_does_not_excuse_another_artefact_in_its_place(copy: Path, tmp_path: Path) -> None:
    pin = artifact.read(copy / "corpus").id
    shutil.rmtree(copy / "corpus")
    plain_corpus(copy / "corpus", [source_file("a.py", "x = 1\n")])

    assert ask(copy / "index", "--pin", pin).exit_code == 1


def test_what_was_added_removed_and_changed_between_two_corpora(tmp_path: Path) -> None:
    first = [source_file(name, f"{name} = 1\n") for name in ("kept.py", "gone.py", "other.py")]
    second = [source_file("kept.py", "kept.py = 1\n"), source_file("other.py", "2\n"), source_file("new.py", "3\n")]
    before, after = plain_corpus(tmp_path / "a", first), plain_corpus(tmp_path / "b", second)

    found = compare(before, after)

    assert [(one.path, one.swhid) for one in found.added] == [("new.py", second[2].swhid)]
    assert [(one.path, one.swhid) for one in found.removed] == [("gone.py", first[1].swhid)]
    assert [(one.path, one.before, one.after) for one in found.changed] == [
        ("other.py", (first[2].swhid,), (second[1].swhid,))
    ]
    assert found.unchanged == 1


def test_differences_are_printed_a_line_each_and_are_no_failure(run: Path, tmp_path: Path, write: Write) -> None:
    build(tmp_path / "other", write(tmp_path / "project", {**modules(13), "pkg/new.py": module(40)}))

    result = ask("--diff", run / "index", tmp_path / "other")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split("  ")[2] for line in lines if line.startswith("added")][-1] == "pkg/new.py"
    assert lines[-1].endswith("unchanged")
    same = json.loads(ask("--diff", run / "corpus", run / "corpus", "--json").stdout)
    assert same == {"added": [], "removed": [], "changed": [], "unchanged": len(swhids(run / "corpus"))}


def test_damaged_shards_cannot_be_compared_and_are_named(copy: Path) -> None:
    (copy / "corpus" / "shards" / "00000.parquet").write_bytes(b"PAR1")

    with pytest.raises(ArtifactError, match=r"00000\.parquet is not readable"):
        compare(copy / "corpus", copy / "corpus")


def test_a_pipe_in_place_of_a_shard_is_not_waited_for(copy: Path) -> None:
    shard = copy / "corpus" / "shards" / "00000.parquet"
    shard.unlink()
    os.mkfifo(shard)

    assert ask(copy / "corpus", "--allow", "MIT").exit_code == 1
    with pytest.raises(ArtifactError, match="no regular file"):
        ask(copy / "corpus", "--inclusion", "swh:1:cnt:" + "0" * 40)
    with pytest.raises(ArtifactError, match="no regular file"):
        ask("--diff", copy / "corpus", copy / "corpus")


def test_something_to_verify_must_be_given() -> None:
    result = CliRunner().invoke(verify, [])

    assert result.exit_code == 2
    assert "--diff A B" in result.output


def test_an_index_is_made_again_and_is_the_same(run: Path) -> None:
    found = verify_chain(run / "index", redo=dict.fromkeys(STAGES, _again))

    assert (found.verdict, found.problems) == ("holds", [])
    assert found.notes == [f"{run / 'corpus'} cannot be made again: it is of kind corpus"]


def _again(directory: Path, manifest: artifact.Manifest) -> tuple[list[str], list[str]]:
    return rerun(directory, manifest)


@pytest.mark.parametrize("other_code", [False, True])
def test_a_forged_index_is_found_by_making_it_again(other_code: bool, copy: Path) -> None:
    rooms = ("core",) if other_code else ("core", "provenance")
    settings = index.IndexConfig(ngram_tokens=8, window=4)
    forged = copy / "forged"
    with artifact.create(
        forged, kind="index", config=settings, rooms=rooms, parents={"corpus": copy / "corpus"}
    ) as draft:
        files = [source_file("a.py", module(3) + module(9))]
        draft.counts.update(index.write_index([batch_of(files)], draft.path, settings, lambda _: None))
    if other_code:
        _change_code(forged)

    found = verify_chain(forged, redo={"index": rerun})

    told = found.notes if other_code else [problem.message for problem in found.problems]
    assert found.verdict == ("holds" if other_code else "tampered")
    assert any("text.bin: the stage, run again, gives another file" in message for message in told)


def _change_code(directory: Path) -> None:
    file = directory / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    statement["predicate"]["code"]["source_sha256"] = "0" * 64
    statement["predicate"]["seal"] = artifact._seal(statement)
    file.write_bytes(canonical(statement))


def test_the_command_makes_again_what_can_be(stages: Path) -> None:
    result = ask(stages / "tokens", "--deep", "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (0, "holds")
    assert found["notes"] == [f"{stages / 'corpus'} cannot be made again: it is of kind corpus"]


@pytest.mark.parametrize("settings", [{"window": 0}, {"widow": 3}, {"window": "4"}])
def test_settings_with_which_no_stage_runs_are_a_problem(settings: dict[str, Any], copy: Path) -> None:
    reseal(copy / "index", lambda predicate: predicate["config"].update(settings))

    problems, notes = rerun(copy / "index", artifact.read(copy / "index"))

    assert f"{copy / 'index' / artifact.MANIFEST}: with its settings the stage does not run" in problems[0]
    assert notes == []


def test_code_of_an_unknown_package_is_a_problem(copy: Path) -> None:
    reseal(copy / "index", lambda predicate: predicate["code"].update(rooms="core nowhere"))

    problems, _ = rerun(copy / "index", artifact.read(copy / "index"))

    assert "code.rooms has 'nowhere'" in problems[0]


def rewrite_rows(corpus: Path, **columns: Any) -> None:
    """Set columns of the first row, and give the corpus a root, digests and a seal that fit."""
    shard = corpus / "shards" / "00000.parquet"
    table = pq.ParquetFile(shard).read()
    rows = table.to_pylist()
    rows[0].update(columns)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)
    merkle.write_tree(corpus)
    reseal(corpus)


def test_a_text_that_is_not_the_one_its_digest_is_of_is_named(copy: Path) -> None:
    corpus = copy / "corpus"
    row = pq.ParquetFile(corpus / "shards" / "00000.parquet").read().to_pylist()[0]

    rewrite_rows(corpus, text="#" + row["text"][1:])

    place = f"{row['repository']}:{row['path']}"
    assert problems_of(corpus) == [f"{corpus / 'shards'}: {place} has a text of another sha256 than it says"]


def test_a_text_that_was_decoded_from_another_encoding_is_not_held_against_its_digest(
    tmp_path: Path, write: Write
) -> None:
    word = "Проверка значений перед записью в журнал"
    files = {
        "marked.py": b"\xef\xbb\xbf" + module(50).encode(),
        "other.py": f"# größer als früher, schön\n{module(60)}".encode("utf-16"),
        "wide.py": f"# -*- coding: gb18030 -*-\n# {word}\n{module(70)}".encode("gb18030"),
    }

    build(tmp_path / "corpus", write(tmp_path / "project", {**modules(3), **files}))

    rows = {row["path"]: row for row in pq.read_table(tmp_path / "corpus" / "shards").to_pylist()}
    assert rows["wide.py"]["size_bytes"] == len(rows["wide.py"]["text"].encode())  # so its size does not tell
    assert word in rows["wide.py"]["text"]
    assert {"marked.py", "other.py"} < set(rows)
    assert problems_of(tmp_path / "corpus") == []


def test_a_text_that_was_redacted_is_not_held_against_its_digest(copy: Path) -> None:
    corpus = copy / "corpus"
    row = pq.ParquetFile(corpus / "shards" / "00000.parquet").read().to_pylist()[0]

    rewrite_rows(corpus, text="#" + row["text"][1:], redactions=1)
    reseal(corpus, lambda predicate: predicate["counts"].update(redacted_email=1))

    assert problems_of(corpus) == []


def test_a_corpus_without_a_tree_does_not_hold(copy: Path) -> None:
    (copy / "corpus" / "merkle.json").unlink()
    reseal(copy / "corpus")

    assert problems_of(copy / "corpus") == [f"{copy / 'corpus'} has no merkle.json, which every corpus has"]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("corpus", "kept"), ("corpus", "kept_bytes"), ("tokens", "train_documents"), ("index", "documents")],
)
def test_a_count_that_was_taken_out_is_named(kind: str, count: str, copy_of_stages: Path) -> None:
    reseal(copy_of_stages / kind, lambda predicate: predicate["counts"].pop(count))

    assert any(f"counts {count}=0, its files have" in message for message in problems_of(copy_of_stages / kind))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda shards: _double(shards / "00000.bin"), "00000.bin has"),
        (lambda shards: (shards / "00001.bin").write_bytes(bytes(4)), "00001.bin has 4 bytes"),
        (lambda shards: (shards / "00001.bin").unlink(), "00001.bin has no bytes"),
        (lambda shards: shutil.copy(shards / "00001.bin", shards / "00099.bin"), "00099.bin is a shard of no document"),
        (lambda shards: (shards / "notes.txt").write_text("x"), "notes.txt is a shard of no document"),
        (lambda shards: _zero(shards / "00001.bin"), "00001.bin: tokens 0 to"),
    ],
)
def test_token_shards_are_those_of_the_documents(
    change: Callable[[Path], object], named: str, copy_of_stages: Path
) -> None:
    change(copy_of_stages / "tokens" / "shards")
    reseal(copy_of_stages / "tokens")

    found = problems_of(copy_of_stages / "tokens")

    assert any(named in message for message in found), found


def test_token_shards_have_one_width_where_no_tokenizer_tells(copy_of_stages: Path) -> None:
    shutil.rmtree(copy_of_stages / "tokenizer")
    assert problems_of(copy_of_stages / "tokens") == []

    _double(copy_of_stages / "tokens" / "shards" / "00001.bin")
    reseal(copy_of_stages / "tokens")

    assert any("00001.bin has" in message for message in problems_of(copy_of_stages / "tokens"))


@pytest.mark.parametrize("name", ["start", "shard"])
def test_documents_of_tokens_fill_the_shards(name: str, copy_of_stages: Path) -> None:
    tokens = copy_of_stages / "tokens"
    table = pq.ParquetFile(tokens / "documents.parquet").read()
    rows = table.to_pylist()
    rows[0][name] += 1
    rows[0]["end"] += name == "start"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tokens / "documents.parquet")
    reseal(tokens)

    assert any("do not follow those before" in message for message in problems_of(tokens))


def _double(file: Path) -> None:
    file.write_bytes(file.read_bytes() * 2)


def _zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("change", [lambda table: table.drop_columns(["license"]), lambda table: _with_null(table)])
def test_rows_without_what_a_leaf_has_give_no_proof(change: Callable[[pa.Table], pa.Table], copy: Path) -> None:
    swhid = swhids(copy / "corpus")[0]
    shard = copy / "corpus" / "shards" / "00000.parquet"
    pq.write_table(change(pq.ParquetFile(shard).read()), shard)

    with pytest.raises(ArtifactError, match="has no rows that can be read"):
        ask(copy / "corpus", "--inclusion", swhid)


def _with_null(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("license")
    return table.set_column(place, "license", pa.array([None, *table["license"].to_pylist()[1:]], pa.string()))


def test_a_mark_that_is_nested_deeply_is_one_all_the_same(copy: Path) -> None:
    (copy / "corpus" / "tainted.json").write_text("[" * 600 + "]" * 600)

    found = verify_chain(copy / "corpus")

    assert [found.verdict, len(found.objections)] == ["policy", 1]
    assert "names no request that can be read" in found.objections[0].message


def test_a_signature_is_demanded_with_a_key(copy: Path, tmp_path: Path) -> None:
    key, other = _key_pair(tmp_path / "own"), _key_pair(tmp_path / "other")

    unsigned = ask(copy / "index", "--key", key[1])
    _sign(copy / "index", key[0])
    signed, by_another = ask(copy / "index", "--key", key[1]), ask(copy / "index", "--key", other[1])

    assert (unsigned.exit_code, signed.exit_code, by_another.exit_code) == (1, 0, 1)
    assert "is not signed" in unsigned.stdout
    assert "signed: " in signed.stdout
    assert "another key" in by_another.stdout


def test_what_was_sealed_anew_after_it_was_signed_is_found_by_the_signature(copy: Path, tmp_path: Path) -> None:
    key = _key_pair(tmp_path / "own")
    _sign(copy / "corpus", key[0])
    _change_code(copy / "corpus")

    assert ask(copy / "corpus").exit_code == 0
    found = json.loads(ask(copy / "corpus", "--key", key[1], "--json").stdout)

    assert (found["verdict"], found["signed"]) == ("tampered", None)
    assert "manifest.json is not the one" in found["problems"][0]["message"]


def _key_pair(stem: Path) -> tuple[Any, Path]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = stem.with_suffix(".pem")
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, public


def _sign(directory: Path, key: Any) -> None:
    from starsmith.provenance.signing import sign

    sign(directory, key)
