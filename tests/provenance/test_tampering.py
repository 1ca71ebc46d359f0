"""Four hundred and more ways to tamper with a small real chain, each found with the right exit status."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builds import build, modules
from starsmith.core import artifact, merkle
from starsmith.core.config import build as build_config
from starsmith.core.statement import canonical
from starsmith.provenance import index
from starsmith.provenance.lineage import verify_chain
from worlds import Write

pytestmark = pytest.mark.slow  # some twenty milliseconds for each of four hundred

HOLDS, TAMPERED, INCOMPLETE, POLICY = "holds", "tampered", "incomplete", "policy"
KINDS = ("corpus", "tokenizer", "tokens", "model")
OUTSIDE = "outside"  # a folder beside the run, for what is moved out of it


@dataclass(frozen=True)
class Tampering:
    """What is done to a copy of the chain, and what must come of it."""

    name: str
    do: Callable[[Path], None]
    verdict: str = TAMPERED
    names: str = ""  # must stand in a message
    start: str = "model"  # the artefact that is verified
    within: str = ""  # the artefact that is changed, "" for more than one


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """corpus, tokenizer, tokens, model and index, each made by its stage; the model has random weights."""
    root = tmp_path_factory.mktemp("chain") / "run"
    source = write(root.parent / "project", modules(24))
    build(root / "corpus", source, held_out=0.2)
    make_stages(root)
    return root


def make_stages(root: Path) -> None:
    from starsmith.tokenizer import tokens, train

    corpus, tokenizer = root / "corpus", root / "tokenizer"
    train.run(train.TokenizerConfig(vocab_size=400), corpus=corpus, out=tokenizer)
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer, out=root / "tokens")
    index.run(index.IndexConfig(ngram_tokens=8, window=4), corpus=corpus, out=root / "index")
    make_model(root)


def make_model(root: Path) -> None:
    import torch

    from starsmith.model import checkpoint
    from starsmith.model.config import ModelConfig
    from starsmith.model.transformer import Transformer
    from starsmith.training.pretrain import PretrainConfig

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Transformer(ModelConfig(vocab_size=400, num_key_value_heads=1, max_position_embeddings=64, **shape))
    settings = build_config(PretrainConfig, {"optimizer": {"learning_rate": 1e-7}, "steps": 1}, where="here")
    parents = {"tokens": root / "tokens", "tokenizer": root / "tokenizer"}
    with artifact.create(root / "model", kind="model", config=settings, rooms=("core",), parents=parents) as draft:
        checkpoint.save(model, root / "tokenizer" / "tokenizer.json", draft.path)


def files_of(run: Path) -> list[str]:
    return [
        file.relative_to(run).as_posix()
        for file in sorted(run.rglob("*"))
        if file.is_file() and artifact.RUN not in file.relative_to(run).parts
    ]


def flip(name: str, share: float, bit: int) -> Callable[[Path], None]:
    def do(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
        (run / name).write_bytes(content)

    return do


def cut(name: str, left: float) -> Callable[[Path], None]:
    return lambda run: os.truncate(run / name, int((run / name).stat().st_size * left))


def append(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes() + content) and None


def rename(name: str, other: str) -> Callable[[Path], None]:
    return lambda run: (run / name).rename(run / other) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def link(name: str) -> Callable[[Path], None]:
    """The same content from elsewhere."""

    def do(run: Path) -> None:
        elsewhere = run.parent / OUTSIDE / "elsewhere"
        elsewhere.parent.mkdir(exist_ok=True)
        (run / name).rename(elsewhere)
        (run / name).symlink_to(elsewhere)

    return do


def add(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text("extra") and None


def rewrite(kind: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Change the text of a manifest, and leave its seal as it is."""

    def do(run: Path) -> None:
        file = run / kind / artifact.MANIFEST
        before = file.read_bytes().decode()
        after = change(before)
        assert after != before
        file.write_bytes(after.encode())

    return do


def reseal(directory: Path, change: Callable[[dict[str, Any]], None] = lambda statement: None) -> None:
    """What a forger does: change the statement, and compute digests, id and seal anew."""
    file = directory / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    change(statement)
    for subject in statement["subject"]:
        subject["digest"]["sha256"] = artifact._file_sha256(directory / subject["name"])
    predicate = statement["predicate"]
    files = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    parents = [artifact.Parent(**parent) for parent in predicate["parents"]]
    predicate["id"] = artifact._id(predicate["kind"], files, parents)
    predicate["seal"] = artifact._seal(statement)
    file.write_bytes(canonical(statement))


def forge(kind: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    return lambda run: reseal(run / kind, change)


def forge_rows(kind: str, file: str, change: Callable[[pa.Table], pa.Table], *, root: bool = False) -> Any:
    """Change a table and seal its artefact anew, with a new Merkle root or without."""

    def do(run: Path) -> None:
        shard = run / kind / file
        pq.write_table(change(pq.ParquetFile(shard).read()), shard)
        if root:
            merkle.write_tree(run / kind)
        reseal(run / kind)

    return do


def set_column(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[0] = value
        return table.set_column(table.schema.get_field_index(name), table.schema.field(name), pa.array(values, table.schema.field(name).type))  # fmt: skip  # noqa: E501

    return change


def set_predicate(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        place = statement["predicate"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def swap_parents(statement: dict[str, Any]) -> None:
    first, second = statement["predicate"]["parents"]
    first["role"], second["role"] = second["role"], first["role"]
    statement["predicate"]["parents"] = [second, first]


def swap_parent_ids(text: str) -> str:
    statement = json.loads(text)
    first, second = statement["predicate"]["parents"]
    first["id"], second["id"] = second["id"], first["id"]
    return canonical(statement).decode()


def move_out(kind: str) -> Callable[[Path], None]:
    return lambda run: shutil.move(run / kind, run.parent / OUTSIDE / kind) and None


def swap_directories(one: str, other: str) -> Callable[[Path], None]:
    def do(run: Path) -> None:
        (run / one).rename(run / "third")
        (run / other).rename(run / one)
        (run / "third").rename(run / other)

    return do


def put_in_place_of(kind: str, other: str) -> Callable[[Path], None]:
    def do(run: Path) -> None:
        shutil.rmtree(run / kind)
        shutil.copytree(run / other, run / kind)

    return do


def pipe(name: str) -> Callable[[Path], None]:
    def do(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return do


def reorder(kind: str, write_json: Callable[[Any], str]) -> Callable[[Path], None]:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return [backwards(item) for item in value] if isinstance(value, list) else value

    return rewrite(kind, lambda text: write_json(backwards(json.loads(text))))


def mark(name: str, content: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(content) and None


def to_files(names: list[str]) -> Iterator[Tampering]:
    """What can happen to any file."""
    for name in names:
        parent, _, last = name.rpartition("/")
        kind = name.partition("/")[0]
        below = {"start": "index" if kind == "index" else "model", "names": name, "within": kind}
        whole = {**below, "start": kind}
        for share, bit in ((0.0, 0), (0.33, 5), (0.7, 7), (1.0, 2)):
            yield Tampering(f"bit {bit} at {share} of {name}", flip(name, share, bit), **below)
        yield Tampering(f"half of {name}", cut(name, 0.5), **whole)
        yield Tampering(f"nothing of {name}", cut(name, 0), **whole)
        yield Tampering(f"{name} and a line end", append(name, b"\n"), **whole)
        gone = {**whole, "names": f"{parent} has no {last}"} if last == artifact.MANIFEST else whole
        yield Tampering(f"{name} renamed", rename(name, f"{parent}/other-{last}"), **gone)
        yield Tampering(f"{name} removed", remove(name), **gone)
        yield Tampering(f"{name} linked", link(name), **whole)
        yield Tampering(f"{name} a pipe", pipe(name), **whole)


def to_manifests() -> Iterator[Tampering]:
    """Changes of a manifest that leave it JSON."""
    changes: dict[str, Callable[[str], str]] = {
        "a key twice": lambda text: text.replace('"kind":', '"kind":"corpus","kind":', 1),
        "a key twice, the same": lambda text: text.replace('"filters":', '"filters":[],"filters":', 1),
        "a key replaced": lambda text: text.replace('"counts":', '"count":', 1),
        "a key replaced in the settings": lambda text: text.replace('"config":{"', '"config":{"a', 1),
        "a key added": lambda text: text.replace('"config":{', '"config":{"added":true,', 1),
        "another type": lambda text: text.replace("in-toto.io/Statement/v1", "in-toto.io/Statement/v2", 1),
        "another file digest": lambda text: text.replace('{"sha256":"', '{"sha256":"0', 1),
        "no seal": lambda text: text.replace('"seal":', '"sealed":', 1),
        "a BOM": lambda text: "\ufeff" + text,
        "a list": lambda text: f"[{text}]",
        "nesting": lambda text: "[" * 50_000,
        "a space": lambda text: text.replace('"predicate":', '"predicate": ', 1),
        "a number as text": lambda text: json.dumps(json.loads(text) | {"predicate": 5}),
    }
    for kind in KINDS:
        for name, change in changes.items():
            yield Tampering(f"{kind}: {name}", rewrite(kind, change), names=f"{kind}/manifest.json")
    for kind in ("tokens", "model"):
        yield Tampering(f"{kind}: ids of parents exchanged", rewrite(kind, swap_parent_ids), names="manifest.json")


def to_directories() -> Iterator[Tampering]:
    """Files added, artefacts exchanged, moved and gone."""
    for kind in KINDS:
        for extra in ("extra.txt", ".hidden", "shards-copy.parquet"):
            yield Tampering(f"{extra} added to {kind}", add(f"{kind}/{extra}"), names=extra)
    for kind in ("corpus", "tokens"):
        yield Tampering(f"a shard added to {kind}", add(f"{kind}/shards/00001.parquet"), names="00001.parquet")
        yield Tampering(f"the shards of {kind} linked", link(f"{kind}/shards"), names="shards")
    for kind, other in (("corpus", "tokens"), ("tokenizer", "corpus"), ("tokens", "tokenizer")):
        message = f"{kind}/manifest.json"
        yield Tampering(f"{other} copied over {kind}", put_in_place_of(kind, other), names=message)
        yield Tampering(f"{kind} moved out", move_out(kind), verdict=INCOMPLETE)
        yield Tampering(f"{kind} and {other} exchanged by name", swap_directories(kind, other), verdict=HOLDS)
    yield Tampering("the whole run moved", lambda run: None, verdict=HOLDS)
    yield Tampering("corpus moved out, index asked", move_out("corpus"), verdict=INCOMPLETE, start="index")


def by_forgers() -> Iterator[Tampering]:
    """Changes after which an artefact is sealed anew: its children, tables or root tell."""
    for kind in ("corpus", "tokenizer", "tokens"):
        for name, change in {
            "a count": set_predicate("counts", "added", value=1),
            "a setting": set_predicate("config", "added", value=1),
            "the code": set_predicate("code", "commit", value="0" * 40),
            "the filters": set_predicate("filters", value=["none"]),
        }.items():
            yield Tampering(f"{kind} sealed anew with {name} changed", forge(kind, change), names="its seal differs")
        yield Tampering(
            f"{kind} sealed anew as another kind",
            forge(kind, set_predicate("kind", value="evaluation")),
            names=f"{kind}/manifest.json has id",
        )
    for kind in ("tokens", "model"):
        yield Tampering(f"{kind} with exchanged roles", forge(kind, swap_parents), start=kind, names="of kind")
    for kind, count in (
        ("corpus", "kept"),
        ("corpus", "kept_bytes"),
        ("corpus", "held_out"),
        ("tokens", "train_documents"),
        ("tokens", "train_tokens"),
        ("tokens", "held_out_bytes"),
        ("index", "documents"),
        ("index", "fingerprints"),
        ("index", "bytes"),
    ):
        do = forge(kind, set_predicate("counts", count, value=1))
        yield Tampering(f"{kind} with {count}=1", do, start=kind, names=f"{count}=1")
    for column in merkle.COLUMNS:
        do = forge_rows("corpus", "shards/00000.parquet", set_column(column, "x"))
        yield Tampering(f"a row with another {column}", do, start="corpus", names="merkle.json has root")
    drop_row = forge_rows("corpus", "shards/00000.parquet", lambda table: table.slice(1))
    yield Tampering("a row dropped", drop_row, start="corpus", names="counts leaves=")
    drop_row = forge_rows("corpus", "shards/00000.parquet", lambda table: table.slice(1), root=True)
    yield Tampering("a row dropped, with a new root", drop_row, start="corpus", names="counts kept=")
    yield Tampering("a row dropped, model asked", drop_row, names="corpus/manifest.json has id")
    drop_row = forge_rows("tokens", "documents.parquet", lambda table: table.slice(1))
    yield Tampering("a document of tokens dropped", drop_row, start="tokens", names="_documents=")
    drop_row = forge_rows("index", "documents.parquet", lambda table: table.slice(0, len(table) - 1))
    yield Tampering("a document of the index dropped", drop_row, start="index", names="documents=")
    drop_row = forge_rows("index", "documents.parquet", lambda table: table.slice(1))
    yield Tampering(
        "the first document of the index dropped", drop_row, start="index", names="documents.parquet: offset"
    )


def by_forgers_of_files() -> Iterator[Tampering]:
    def broken(kind: str, name: str, content: bytes) -> Callable[[Path], None]:
        def do(run: Path) -> None:
            (run / kind / name).write_bytes(content)
            reseal(run / kind)

        return do

    tree = b'{"algorithm":"RFC 6962, SHA-256","leaf":["path"],"leaves":2,"root":"00"}'
    for number, content in enumerate([b"", b"[]", b"{", b'{"root":1,"root":1}', b"\xff", tree, b"[" * 50_000]):
        do = broken("corpus", "merkle.json", content)
        yield Tampering(f"a tree that is none, {number}", do, start="corpus", names="merkle.json")
    for number, content in enumerate([b"", b"PAR1", b"PAR1" + bytes(90) + b"PAR1"]):
        do = broken("corpus", "shards/00000.parquet", content)
        yield Tampering(f"a shard that is none, {number}", do, start="corpus", names="00000.parquet")
        do = broken("tokens", "documents.parquet", content)
        yield Tampering(f"a table of tokens that is none, {number}", do, start="tokens", names="tokens")
        do = broken("index", "documents.parquet", content)
        yield Tampering(f"a table of the index that is none, {number}", do, start="index", names="documents.parquet")
    yield Tampering("a token shard cut", broken("tokens", "shards/00000.bin", b"12"), start="tokens", names="00000.bin")
    yield Tampering("an index cut", broken("index", "text.bin", b"12"), start="index", names="text.bin")


def by_marks() -> Iterator[Tampering]:
    content = '{"requests": [{"id": "REQ-17"}]}'
    for kind in KINDS:
        place = mark(f"{kind}/tainted.json", content)
        yield Tampering(f"{kind} tainted", place, verdict=POLICY, names="REQ-17")
    yield Tampering("model tainted from beside", mark("model.tainted.json", content), verdict=POLICY, names="REQ-17")
    place = mark("index/tombstones.json", '["REQ-18"]')
    yield Tampering("index with tombstones", place, verdict=POLICY, names="REQ-18", start="index")
    place = mark("model/tainted.json", "{")
    yield Tampering("a damaged mark", place, verdict=POLICY, names="no request that can be read")


def harmless() -> Iterator[Tampering]:
    writers: dict[str, Callable[[Any], str]] = {
        "compact": lambda value: json.dumps(value, separators=(",", ":")),
        "spaced": json.dumps,
        "indented": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    }
    for kind in KINDS:
        for name, write_json in writers.items():
            if kind == "model" and name != "compact":
                continue  # its rate of 1e-7 is 1e-07 to Python
            yield Tampering(f"{kind} with keys in another order, {name}", reorder(kind, write_json), verdict=HOLDS)
        yield Tampering(f"a file in run/ of {kind}", add(f"{kind}/run/notes.txt"), verdict=HOLDS)


def restore(run: Path, chain: Path, within: str) -> None:
    shutil.rmtree(run / within)
    shutil.rmtree(run.parent / OUTSIDE, ignore_errors=True)
    shutil.copytree(chain / within, run / within)


# What a group of tamperings is made from: the names of the chain's files.
GROUPS: dict[str, Callable[[list[str]], Iterator[Tampering]]] = {
    "files": to_files,
    "manifests": lambda names: to_manifests(),
    "directories": lambda names: to_directories(),
    "forgers": lambda names: by_forgers(),
    "forged files": lambda names: by_forgers_of_files(),
    "marks": lambda names: by_marks(),
    "harmless": lambda names: harmless(),
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_tampering_is_found_with_the_right_verdict_and_the_file_named(
    group: str, chain: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(chain, tmp_path / "a" / "run"))
    wrong = []

    for tampering in GROUPS[group](files_of(chain)):
        tampering.do(run)
        found = verify_chain(run / tampering.start)
        messages = [problem.message for problem in (*found.problems, *found.objections)]
        named = not tampering.names or any(tampering.names in message for message in messages)
        if found.verdict != tampering.verdict or not named:
            wrong.append((tampering.name, found.verdict, messages))
        restore(run, chain, tampering.within)

    assert wrong == []


def test_there_are_four_hundred_tamperings_and_each_is_another(chain: Path) -> None:
    names = [tampering.name for group in GROUPS.values() for tampering in group(files_of(chain))]

    assert len(set(names)) == len(names) >= 400


@pytest.mark.parametrize(
    ("do", "start", "status"),
    [
        (lambda run: None, "model", 0),
        (reorder("tokenizer", json.dumps), "model", 0),
        (flip("corpus/merkle.json", 0.5, 3), "index", 1),
        (move_out("corpus"), "model", 2),
        (mark("tokens/tainted.json", '"REQ-1"'), "model", 3),
    ],
)
def test_the_exit_status_follows_the_verdict(
    do: Callable[[Path], None], start: str, status: int, chain: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from starsmith.cli.provenance import verify

    run = Path(shutil.copytree(chain, tmp_path / "run"))
    do(run)

    assert CliRunner().invoke(verify, [str(run / start)]).exit_code == status
