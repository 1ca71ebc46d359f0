"""What each form of paper has of its own: SPDX, CycloneDX and the summary that the EU AI Act asks for."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from releases import ABOUT, build_corpus, corpus_rows, export, make_run, row, text_of, write_about
from starsmith.core import artifact
from starsmith.core.errors import InputError
from starsmith.core.records import read_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("forms") / "run")


@pytest.fixture(scope="module")
def about(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_about(tmp_path_factory.mktemp("about"))


def test_spdx_is_not_written_without_what_it_has_no_word_for(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        export(run / "corpus", "spdx", tmp_path / "bom.json")

    missing = ("[provider] name", "[release] url", "[release] date")
    assert all(name in refused.value.message for name in missing)
    assert "--about" in refused.value.hint


@pytest.mark.parametrize(("kind", "day"), [("corpus", "[release] built"), ("model", "[sources] built")])
def test_spdx_wants_to_know_when_a_thing_was_made(kind: str, day: str, run: Path, tmp_path: Path) -> None:
    table = ABOUT.index(day.split()[0])
    line = ABOUT.index("built", table)
    about = write_about(tmp_path, ABOUT[:line] + ABOUT[ABOUT.index("\n", line) :])
    shutil.copytree(run, tmp_path / "run")
    for name in ("corpus", "model"):  # of a version that wrote no day
        (tmp_path / "run" / name / "run" / "times.json").write_text('{"seconds": 1.0}')

    with pytest.raises(InputError, match=re.escape(f"knows: {day}")):
        export(tmp_path / "run" / kind, "spdx", tmp_path / "bom.json", "--about", about)


def test_the_day_of_making_comes_from_the_run_record_where_it_has_one(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("corpus", "model"):
        times = tmp_path / "run" / name / "run" / "times.json"
        times.write_text(json.dumps({"seconds": 1.0, "finished": "2026-01-15T10:00:00+02:00"}))
    about = write_about(tmp_path, ABOUT.replace("built = 2026-02-20\n", "").replace("built = 2026-02-05\n", ""))

    export(tmp_path / "run" / "model", "spdx", tmp_path / "bom.json", "--about", about)

    built = {element["builtTime"] for element in graph(tmp_path / "bom.json") if "builtTime" in element}
    assert built == {"2026-01-15T08:00:00Z"}


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:00", "2026-01-15T10:00:00", "soon", "7"])
def test_a_run_record_that_says_no_time_counts_for_nothing(moment: str, run: Path, about: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model" / "run" / "times.json").write_text(json.dumps({"finished": moment}))

    export(tmp_path / "run" / "model", "spdx", tmp_path / "bom.json", "--about", about)

    built = [element["builtTime"] for element in graph(tmp_path / "bom.json") if element["type"] == "ai_AIPackage"]
    assert built == ["2026-02-20T00:00:00Z"]


def graph(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["@graph"]
    return found


def test_spdx_concludes_the_licences_of_all_files_and_declares_the_providers(
    run: Path, about: Path, tmp_path: Path
) -> None:
    export(run / "corpus", "spdx", tmp_path / "bom.json", "--about", about)

    elements = {element.get("spdxId", ""): element for element in graph(tmp_path / "bom.json")}
    said = {
        element["relationshipType"]: elements[element["to"][0]]["simplelicensing_licenseExpression"]
        for element in elements.values()
        if element.get("relationshipType", "").endswith("License")
    }
    assert said == {
        "hasDeclaredLicense": "Apache-2.0",
        "hasConcludedLicense": "(Apache-2.0 OR MIT) AND BSD-3-Clause AND MIT",
    }


def test_a_file_without_a_licence_leaves_the_conclusion_open(about: Path, tmp_path: Path) -> None:
    rows = [*corpus_rows(), row(40, "https://github.com/delta/four.git", "")]
    corpus = build_corpus(tmp_path / "run" / "corpus", rows, licenses={"unlicensed": True})

    export(corpus, "spdx", tmp_path / "bom.json", "--about", about)
    export(corpus, "cyclonedx", tmp_path / "cyclonedx.json")
    export(corpus, "dataset-card", tmp_path / "card.md")

    concluded = [one for one in graph(tmp_path / "bom.json") if one.get("relationshipType") == "hasConcludedLicense"]
    assert [one["to"] for one in concluded] == [
        ["https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"]
    ]
    assert concluded[0]["comment"] == "no licence was found for 1 file"
    assert "licenses" not in json.loads((tmp_path / "cyclonedx.json").read_text())["metadata"]["component"]
    assert "| none found | 1 |" in text_of(tmp_path / "card.md")


def test_cyclonedx_says_what_a_model_depends_on(run: Path, tmp_path: Path) -> None:
    ids = {name: artifact.read(run / name).id for name in ("corpus", "tokens", "tokenizer", "model")}

    export(run / "model", "cyclonedx", tmp_path / "bom.json")

    bom = json.loads((tmp_path / "bom.json").read_text())
    depends = {entry["ref"]: set(entry["dependsOn"]) for entry in bom["dependencies"]}
    assert depends[f"model:{ids['model']}"] == {f"tokens:{ids['tokens']}", f"tokenizer:{ids['tokenizer']}"}
    assert depends[f"tokens:{ids['tokens']}"] == {f"corpus:{ids['corpus']}", f"tokenizer:{ids['tokenizer']}"}
    card = bom["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": f"corpus:{ids['corpus']}"}]
    exact = next(m for m in card["quantitativeAnalysis"]["performanceMetrics"] if m["type"] == "exact_match")
    assert (exact["value"], exact["confidenceInterval"]) == ("0.25", {"lowerBound": "0.1419", "upperBound": "0.4019"})


def test_the_eu_summary_lists_domains_owners_and_opt_outs_by_the_rows(run: Path, about: Path, tmp_path: Path) -> None:
    counts = artifact.read(run / "tokens").counts

    export(run / "model", "eu-summary", tmp_path / "summary.json", "--about", about)

    summary = json.loads((tmp_path / "summary.json").read_text())
    online = summary["data_sources"]["online_sources"]
    trained_on = Counter(file.repository.split("/")[2] for file in read_files(run / "corpus", split="train"))
    assert {row["name"]: row["files"] for row in online["domains"]} == trained_on
    assert summary["general_information"]["data"]["text"]["files"] == trained_on.total()
    assert online["number_of_owners"] == 3
    assert summary["general_information"]["data"]["text"]["tokens"] == counts["train_tokens"]
    assert summary["general_information"]["data"]["text"]["size_range"] == "less than 1 billion tokens"
    assert summary["data_processing"]["reservation_of_rights"]["opt_out_lists"] == 0
    assert summary["data_sources"]["user_data"] == "not given"


def test_the_eu_summary_is_a_page_unless_it_is_called_json(run: Path, tmp_path: Path) -> None:
    export(run / "model", "eu-summary", tmp_path / "summary.md")

    page = text_of(tmp_path / "summary.md")
    for heading in ("## 1. General", "## 2. Data sources", "### 2.3", "## 3. Data processing", "### 3.1", "### 3.2"):
        assert heading in page
    assert "| github.com |" in page
