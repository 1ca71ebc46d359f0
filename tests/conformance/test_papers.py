"""Papers against the software of those who define or read their formats: hubs, loaders and reference libraries."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from releases import RAIL, build_corpus, make_evaluation, make_model, make_run, row, write_about
from starsmith.core import artifact
from starsmith.core.records import read_files
from starsmith.corpus import build as stage
from starsmith.provenance.papers import about
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.export import export

pytestmark = pytest.mark.slow

SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "schemas"
DEV = "is not installed: pip install -e '.[dev]'"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Besides the run, a derivative of a base with use restrictions, its corpus and its evaluation."""
    folder = make_run(tmp_path_factory.mktemp("conformance") / "run")
    card = "---\nlicense: bigexample-openrail-m\n---\n"
    imported = {"name": "bigexample/base-3b", "revision": "0123abc"}
    base = make_model(folder / "base", imported=imported, files={"README.md": card, "LICENSE": RAIL})
    tuned = make_model(folder / "tuned", parents={"base": base, "tokens": folder / "tokens"})
    make_evaluation(folder / "tuned-evaluation", model=tuned, corpus=folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> About:
    return about.load(write_about(tmp_path_factory.mktemp("about")))


@pytest.fixture
def free(said: About) -> About:
    """The same without a licence of the provider's, so that a derivative has its base's."""
    return replace(said, release=replace(said.release, license=""))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A corpus of several shards."""
    monkeypatch.setattr(stage, "SHARD_BYTES", 4_000)
    corpus = build_corpus(tmp_path / "many" / "corpus")
    assert len(list((corpus / "shards").iterdir())) > 2
    return corpus


def write(directory: Path, form: str, out: Path, said: About | None = None) -> Path:
    export(directory, form, out, about=said or About())
    return out


@pytest.mark.usefixtures("offline")
def test_datasets_loads_the_uploaded_corpus_by_split(shards: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason=f"datasets {DEV}")
    upload = write(shards, "huggingface", tmp_path / "upload")

    loaded = datasets.load_dataset(str(upload), cache_dir=str(tmp_path / "cache"))

    counts = artifact.read(shards).counts
    assert {name: split.num_rows for name, split in loaded.items()} == {
        "train": counts["kept"] - counts["held_out"],
        "held_out": counts["held_out"],
    }
    rows = {(row["repository"], row["path"]): row["text"] for split in loaded.values() for row in split}
    assert rows == {(file.repository, file.path): file.text for file in read_files(shards)}


@pytest.mark.parametrize("with_about", [True, False])
def test_the_hubs_library_reads_the_dataset_card(with_about: bool, run: Path, said: About, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason=f"huggingface_hub {DEV}")
    card = write(run / "corpus", "dataset-card", tmp_path / "README.md", said if with_about else None)

    loaded = hub.DatasetCard.load(card)

    data = loaded.data.to_dict()
    assert data["license"] == ("apache-2.0" if with_about else "other")
    assert data["size_categories"] == ["n<1K"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.parquet"}]
    assert "## Licences" in loaded.text


def test_the_hubs_library_reads_the_model_card_and_its_index(run: Path, free: About, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason=f"huggingface_hub {DEV}")
    card = write(run / "tuned", "model-card", tmp_path / "README.md", free)

    data = hub.ModelCard.load(card).data

    assert data.base_model == "bigexample/base-3b"
    assert (data.license, data["license_name"]) == ("other", "bigexample-openrail-m")
    figures = {result.metric_type: (result.metric_value, result.metric_name) for result in data.eval_results}
    assert figures["exact_match"][0] == 0.25
    assert "95 % interval 0.1419 to 0.4019" in figures["exact_match"][1]


@pytest.mark.usefixtures("offline")
def test_transformers_loads_the_uploaded_model(run: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason=f"transformers {DEV}")
    torch = pytest.importorskip("torch")
    from starsmith.model import checkpoint
    from starsmith.model.config import ModelConfig
    from starsmith.model.transformer import Transformer

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=400, num_key_value_heads=1, max_position_embeddings=64, **sizes)
    parents = {"tokens": run / "tokens", "tokenizer": run / "tokenizer"}
    with artifact.create(run / "real", kind="model", config=About().release, rooms=("core",), parents=parents) as draft:
        checkpoint.save(Transformer(config), run / "tokenizer" / "tokenizer.json", draft.path)
    upload = write(run / "real", "huggingface", tmp_path / "upload")

    model = transformers.AutoModelForCausalLM.from_pretrained(upload)
    tokenizer = transformers.AutoTokenizer.from_pretrained(upload)

    ids = tokenizer("def work(value):", return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, ids.shape[1], 400)


@pytest.mark.filterwarnings("ignore")  # of the libraries that mlcroissant brings
def test_mlcroissant_finds_no_fault_and_reads_every_row_of_every_shard(
    shards: Path, said: About, tmp_path: Path
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason=f"mlcroissant {DEV}")
    upload = write(shards, "huggingface", tmp_path / "upload", said)

    dataset = mlcroissant.Dataset(jsonld=str(upload / "croissant.json"))
    rows = list(dataset.records(record_set="files"))

    metadata = dataset.metadata
    assert metadata.ctx.issues.errors == set()
    assert all("citeAs" in warning for warning in metadata.ctx.issues.warnings)
    assert [day.date().isoformat() for day in metadata.data_collection_timeframe] == ["2026-01-01", "2026-02-01"]
    found = {(row["files/repository"].decode(), row["files/path"].decode()): row["files/text"].decode() for row in rows}
    assert found == {(file.repository, file.path): file.text for file in read_files(shards)}
    assert len(rows) == artifact.read(shards).counts["kept"]


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_accepts_what_says_that_little_is_known(run: Path, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason=f"mlcroissant {DEV}")
    file = write(run / "corpus", "croissant", tmp_path / "croissant.json")

    metadata = mlcroissant.Dataset(jsonld=str(file)).metadata

    assert metadata.ctx.issues.errors == set()
    description = metadata.description if isinstance(metadata.description, str) else str(metadata.description)
    assert "Not given by the provider: creator, url, datePublished, version." in description
    assert metadata.personal_sensitive_information
    assert "near duplicates" in metadata.data_preprocessing_protocol
    files = {one.name: one.sha256 for one in metadata.file_objects}
    digests = artifact.read(run / "corpus").files
    assert files == {name: digest for name, digest in digests.items() if name.endswith(".parquet")}


@pytest.mark.parametrize("name", ["corpus", "model", "tuned"])
@pytest.mark.parametrize("with_about", [True, False])
def test_cyclonedx_accepts_the_bill_strictly(
    with_about: bool, name: str, run: Path, free: About, tmp_path: Path
) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason=f"cyclonedx-python-lib {DEV}")
    schema = pytest.importorskip("cyclonedx.schema")
    bom = write(run / name, "cyclonedx", tmp_path / "bom.json", free if with_about else None)

    fault = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(bom.read_text())

    assert fault is None


def test_every_reference_in_a_bill_is_to_something_in_it(run: Path, free: About, tmp_path: Path) -> None:
    bom = json.loads(write(run / "tuned", "cyclonedx", tmp_path / "bom.json", free).read_text())

    known = {bom["metadata"]["component"]["bom-ref"], *(component["bom-ref"] for component in bom["components"])}
    used = {entry["ref"] for entry in bom["dependencies"]}
    used |= {ref for entry in bom["dependencies"] for ref in entry["dependsOn"]}
    used |= {entry["ref"] for entry in bom["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"]}
    assert used <= known
    everything = list(references(bom))
    assert len(everything) == len(set(everything))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["bom-ref"]] if "bom-ref" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@cache
def spdx_validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason=f"jsonschema {DEV}")
    schema = json.loads((SCHEMAS / "spdx-3.0.1.schema.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


HOSTILE = (
    "o|wn`er<script>",
    "**[x](javascript:y)**",
    "\u202e\u0007\n# heading",
    "---",
    "{{ 7 * 7 }}",
    '"\\',
    "\U0001f600",
)


@pytest.mark.filterwarnings("ignore")
def test_names_of_strangers_break_no_paper(said: About, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason=f"huggingface_hub {DEV}")
    validation = pytest.importorskip("cyclonedx.validation.json", reason=f"cyclonedx-python-lib {DEV}")
    schema = pytest.importorskip("cyclonedx.schema")
    rows = [row(number, f"https://evil.example/{name}/x", "MIT") for number, name in enumerate(HOSTILE)]
    corpus = build_corpus(tmp_path / "run" / "corpus", rows)
    hostile = replace(said, use=replace(said.use, summary="\n".join(HOSTILE), intended=HOSTILE))

    papers = {form: write(corpus, form, tmp_path / form, hostile) for form in ("dataset-card", "spdx", "cyclonedx")}
    summary = write(corpus, "eu-summary", tmp_path / "summary.md", hostile).read_text()

    card = hub.DatasetCard.load(papers["dataset-card"])
    for page in (card.text, summary):
        lines = page.splitlines()
        assert "# heading" not in lines
        assert "49" not in [cell.strip() for line in lines for cell in line.split("|")]
        head = next(line for line in lines if line.startswith("| owner |"))
        owners = [line.replace("\\|", "") for line in lines if line.startswith("| evil.example/")]
        assert {line.count("|") for line in owners} == {head.count("|")}
        assert not any("<script>" in line.replace("\\<", "") for line in lines)
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(papers["cyclonedx"].read_text()) is None
    assert list(spdx_validator().iter_errors(json.loads(papers["spdx"].read_text()))) == []


@pytest.mark.parametrize("name", ["corpus", "model", "tuned"])
def test_the_schema_of_spdx_accepts_the_document(name: str, run: Path, free: About, tmp_path: Path) -> None:
    document = json.loads(write(run / name, "spdx", tmp_path / "spdx.json", free).read_text())

    assert [error.json_path for error in spdx_validator().iter_errors(document)] == []


def test_the_schema_of_spdx_would_refuse_a_wrong_document(run: Path, said: About, tmp_path: Path) -> None:
    document = json.loads(write(run / "corpus", "spdx", tmp_path / "spdx.json", said).read_text())
    package = next(element for element in document["@graph"] if element["type"] == "dataset_DatasetPackage")
    del package["dataset_datasetType"]

    assert list(spdx_validator().iter_errors(document))


@pytest.mark.parametrize("name", ["corpus", "model", "tuned"])
def test_spdx_classes_hold_the_document_and_every_reference_in_it(
    name: str, run: Path, free: About, tmp_path: Path
) -> None:
    model = pytest.importorskip("spdx_python_model", reason=f"spdx-python-model {DEV}").v3_0_1
    objects = model.SHACLObjectSet()
    with write(run / name, "spdx", tmp_path / "spdx.json", free).open("rb") as file:
        model.JSONLDDeserializer().read(file, objects)

    model.JSONLDSerializer().write(objects, io.BytesIO())  # checks the least number of every property

    assert objects.missing_ids == set()


@pytest.mark.parametrize("name", ["corpus", "model", "tuned"])
def test_every_package_has_one_declared_and_one_concluded_licence_and_what_its_profile_wants(
    name: str, run: Path, free: About, tmp_path: Path
) -> None:
    elements = json.loads(write(run / name, "spdx", tmp_path / "spdx.json", free).read_text())["@graph"]

    wanted = ("suppliedBy", "software_downloadLocation", "software_packageVersion", "software_primaryPurpose")
    by_profile = {
        "dataset_DatasetPackage": (*wanted, "originatedBy", "builtTime", "releaseTime", "dataset_datasetType"),
        "ai_AIPackage": (*wanted, "releaseTime"),
        "software_Package": (),
    }
    packages = [element for element in elements if element["type"] in by_profile]
    assert packages
    for package in packages:
        assert [field for field in by_profile[package["type"]] if not package.get(field)] == []
        kinds = [
            element["relationshipType"]
            for element in elements
            if element.get("from") == package["spdxId"] and element["relationshipType"].endswith("License")
        ]
        assert sorted(kinds) == ["hasConcludedLicense", "hasDeclaredLicense"]


def test_a_derivative_descends_from_its_base_and_was_trained_and_tested_on_its_corpus(
    run: Path, free: About, tmp_path: Path
) -> None:
    elements = json.loads(write(run / "tuned", "spdx", tmp_path / "spdx.json", free).read_text())["@graph"]

    names = {element["spdxId"]: element.get("name") for element in elements if "spdxId" in element}
    said = {
        (element["relationshipType"], names[element["to"][0]])
        for element in elements
        if element["type"] == "Relationship" and element["to"][0] in names
    }
    assert {("descendantOf", "bigexample/base-3b"), ("trainedOn", "corpus"), ("testedOn", "corpus")} <= said
