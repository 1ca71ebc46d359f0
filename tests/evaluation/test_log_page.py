import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from starsmith.cli.report import report
from starsmith.core.errors import ArtifactError, InputError
from starsmith.evaluation import log_page
from starsmith.provenance.completion_log import CompletionLog

SWHID = "swh:1:cnt:" + "a" * 40


def match_of(kind: str = "source", license_: str = "MIT", *, blocked: bool = False) -> dict[str, Any]:
    return {"kind": kind, "tokens": 70, "places": 1, "swhids": [SWHID], "licences": [license_], "blocked": blocked}


def record_of(client: str = "alice", matches: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "event": "completion",
        "id": "cmpl-1",
        "choice": 0,
        "client": client,
        "model": {"id": "starsmith-tiny", "artefact": None},
        "policy": "block",
        "matches": list(matches) if matches is not None else None,
        "tainted": [],
        **more,
    }


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Four completions of two clients."""
    opened = CompletionLog.open(tmp_path / "log.jsonl")
    opened.append(record_of(matches=[match_of(), match_of("common")]))
    opened.append(record_of(matches=[match_of(license_="GPL-3.0-only", blocked=True)]))
    opened.append(record_of("<b>bob</b>", matches=None))
    opened.append(record_of("<b>bob</b>", tainted=["r-7"]))
    opened.close()
    return tmp_path / "log.jsonl"


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(report, [str(argument) for argument in arguments])


def test_completions_are_counted_by_kind_licence_client_and_policy(log: Path) -> None:
    summary = log_page.Summary()

    log_page.check(log, each=summary.add)

    assert vars(summary.total) == {"completions": 4, "with_source": 2, "blocked": 1}
    assert summary.looked_at == 3
    assert summary.matches == {"source": 2, "common": 1}
    assert summary.licenses == {"MIT": 1, "GPL-3.0-only": 1}
    assert summary.files == {SWHID: 2}
    assert vars(summary.clients["alice"]) == {"completions": 2, "with_source": 2, "blocked": 1}
    assert list(summary.policies) == ["block"]
    assert summary.tainted == {"r-7": 1}
    (blocked,) = summary.blocked
    assert (blocked.client, blocked.licenses, blocked.tokens) == ("alice", ["GPL-3.0-only"], 70)


def test_the_page_stands_beside_the_log_says_that_it_holds_and_loads_nothing(log: Path) -> None:
    result = run(log)

    page = (log.parent / "log.jsonl.html").read_text()
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(log.parent / "log.jsonl.html")
    assert "The chain holds" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace('http-equiv="Content', "")
    assert "&lt;b&gt;bob" in page
    assert "<b>bob" not in page


def test_a_broken_chain_is_exit_status_1_with_its_line_and_a_page_that_says_so(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1].replace(b"alice", b"carol") + b"".join(lines[2:]))

    result = run(log, "--out", log.parent / "page.html")

    assert isinstance(result.exception, ArtifactError)
    assert "line 3 does not follow line 2" in result.exception.message
    page = (log.parent / "page.html").read_text()
    assert "The chain does not hold" in page
    assert "Line 3" in page


def test_a_cut_end_is_found_against_a_digest_that_was_kept(log: Path) -> None:
    digest = CompletionLog.open(log)
    digest.close()
    whole = run(log, "--last", digest.last)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))

    cut = run(log, "--last", digest.last)

    assert whole.exit_code == 0
    assert isinstance(cut.exception, ArtifactError)
    assert "line 4 is missing" in cut.exception.message


@pytest.mark.parametrize("change", [{"client": 3}, {"matches": 3}, {"matches": [{}]}, {"model": None}, {"event": None}])
def test_a_record_of_another_form_is_told_with_its_line(tmp_path: Path, change: dict[str, Any]) -> None:
    opened = CompletionLog.open(tmp_path / "log")
    opened.append(record_of())
    opened.append({**record_of(), **change})
    opened.close()

    result = run(tmp_path / "log")

    assert isinstance(result.exception, ArtifactError)
    assert "line 2 is no record of a log of completions" in result.exception.message


def test_an_empty_log_has_a_page(tmp_path: Path) -> None:
    CompletionLog.open(tmp_path / "log").close()

    assert run(tmp_path / "log").exit_code == 0
    assert "Nothing was given yet" in (tmp_path / "log.html").read_text()


def test_equal_logs_give_equal_pages(log: Path) -> None:
    first, second = log.parent / "1.html", log.parent / "2.html"

    for out in (first, second):
        assert run(log, "--out", out).exit_code == 0

    assert first.read_bytes() == second.read_bytes()


def test_wrong_arguments_are_told(log: Path, tmp_path: Path) -> None:
    before = log.read_bytes()

    assert run(tmp_path, "--last", "0" * 64).exit_code == 2
    for arguments in ([log, "--last", "xyz"], [log, "--out", log], [tmp_path / "nothing"]):
        assert isinstance(run(*arguments).exception, InputError)
    assert log.read_bytes() == before


def test_a_file_that_is_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(json.dumps({"a": 1}) + "\n")

    result = run(tmp_path / "log")

    assert isinstance(result.exception, ArtifactError)
    assert "line 1 does not begin a log of completions" in result.exception.message
    assert not (tmp_path / "log.html").exists()
