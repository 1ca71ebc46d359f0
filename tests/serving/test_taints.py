import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from scripted import make_service
from starsmith.serving import taints
from starsmith.serving.app import create_app
from starsmith.serving.taints import Taints


@pytest.fixture
def chain(model_directory: Path, index_directory: Path, corpus: Path, tmp_path: Path) -> Path:
    """A copy of a run, to be marked, at another depth, so that links to the originals lead nowhere."""
    for place in [*corpus.parent.iterdir(), model_directory, index_directory]:
        if (place / "manifest.json").is_file():
            shutil.copytree(place, tmp_path / "deep" / "run" / place.name, dirs_exist_ok=True)
    return tmp_path / "deep" / "run"


def mark(place: Path, *requests: str) -> None:
    place.write_text(json.dumps({"requests": [{"id": request} for request in requests]}))


def test_without_marks_nothing_is_tainted(chain: Path) -> None:
    assert Taints.of(chain / "model", chain / "index").read() == ()


@pytest.mark.parametrize("name", ["tainted.json", "tombstones.json"])
@pytest.mark.parametrize("kind", ["model", "tokens", "tokenizer", "corpus", "index"])
def test_a_mark_in_or_beside_anything_in_the_chain_is_seen(chain: Path, kind: str, name: str) -> None:
    mark(chain / kind / name, "r-1")
    mark(chain / f"{kind}.{name}", "r-1", "r-2")

    (found,) = Taints.of(chain / "model", chain / "index").read()

    assert (found.kind, found.requests) == (kind, ("r-1", "r-2"))


def test_an_id_that_no_header_can_carry_is_told_as_far_as_it_can(chain: Path) -> None:
    (chain / "model" / "tainted.json").write_text('{"requests": [{"id": "\\ud800 ü\\n"}]}')

    assert Taints.of(chain / "model").header() == "%3F%20%C3%BC%0A"


def test_a_mark_that_cannot_be_read_is_one_nevertheless(chain: Path) -> None:
    (chain / "corpus" / "tainted.json").write_text("not json")

    (found,) = Taints.of(chain / "model").read()

    assert found.requests == (taints.UNKNOWN,)


def test_a_mark_that_is_set_while_the_server_runs_is_seen(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Taints.of(chain / "model")
    assert watched.read() == ()
    mark(chain / "corpus" / "tainted.json", "r-9")

    assert watched.read() == ()
    monkeypatch.setattr(taints, "RECHECK_S", 0.0)
    assert watched.requests() == ["r-9"]


def test_what_a_header_cannot_carry_is_encoded_and_the_list_bounded(chain: Path) -> None:
    mark(chain / "corpus" / "tainted.json", "a\r\nX: y", "ä", *(f"r{number}" for number in range(30)))

    header = Taints.of(chain / "model").header()

    assert header.startswith("a%0D%0AX:%20y, %C3%A4, r0, ")
    assert header.endswith("and 12 more")


def test_the_server_tells_of_it_wherever_it_speaks_of_the_model(chain: Path) -> None:
    mark(chain / "corpus" / "tainted.json", "r-1")
    client = TestClient(create_app(make_service(taints=Taints.of(chain / "model"))))

    answer = client.post("/v1/completions", json={"prompt": "x"})
    tabby = client.post("/v1/completions", json={"segments": {"prefix": "x"}})
    stream = client.post("/v1/completions", json={"prompt": "x", "stream": True})

    assert [told.headers["x-starsmith-tainted"] for told in (answer, tabby, stream)] == ["r-1"] * 3
    told = [
        answer.json()["choices"][0]["starsmith"]["tainted"],
        client.get("/v1/models").json()["data"][0]["starsmith"]["tainted"],
        client.get("/v1/health").json()["starsmith"]["tainted"],
    ]
    assert [[(taint["kind"], taint["requests"]) for taint in found] for found in told] == [[("corpus", ["r-1"])]] * 3


def test_without_marks_there_is_no_header() -> None:
    answer = TestClient(create_app(make_service(taints=Taints()))).post("/v1/completions", json={"prompt": "x"})

    assert "x-starsmith-tainted" not in answer.headers
    assert "tainted" not in answer.json()["choices"][0]["starsmith"]
