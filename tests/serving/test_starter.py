"""The model that comes with the package: small enough, whole, permissive, and answering before anything is trained."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from starsmith.cli.main import cli
from starsmith.core.errors import InputError
from starsmith.corpus.policy import LicensePolicy
from starsmith.model.checkpoint import load_config
from starsmith.serving.starter import starter_directory

LARGEST_BYTES = 12_000_000


def test_it_is_small_and_its_card_says_how_good_it_is() -> None:
    starter = starter_directory()

    card = (starter / "README.md").read_text()

    assert sum(file.stat().st_size for file in starter.rglob("*") if file.is_file()) <= LARGEST_BYTES
    assert f"{load_config(starter).parameters:,}" in card
    bits = re.search(r"bits_per_byte\n +value: ([0-9.]+)", card)
    assert bits is not None
    assert 0 < float(bits[1]) < 8
    assert "exact_match" in card


def test_every_training_file_is_listed_under_a_permissive_licence() -> None:
    rows = pq.read_table(starter_directory() / "training-files.parquet")

    licences = set(rows["license"].to_pylist())

    assert rows.num_rows > 10_000
    assert all(rows["swhid"].to_pylist())
    assert [licence for licence in licences if LicensePolicy().objection(licence)] == []


@pytest.mark.slow
def test_complete_answers_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def read(path):\n    with open(path) as stream:\n        return stream.")

    found = CliRunner().invoke(
        cli, ["complete", "--file", str(tmp_path / "app.py"), "--line", "3", "--column", "23", "--json"]
    )

    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert answer["text"].startswith("read(")  # the least that a model of Python knows
    assert answer["completion_tokens"] > 0


def test_an_installation_without_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no starter model"):
        starter_directory(tmp_path)
