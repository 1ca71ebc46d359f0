"""The web page in a real browser, headless Chromium, driven over its debugging protocol by puppeteer-core.

puppeteer-core is installed from npm. Without Chromium, node or the registry the tests are skipped.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from indexed import LONG, RECURSIVE, indexed, numbers_index
from npm import npm_package
from scripted import FIB, MODEL, ScriptedEngine, make_service, running
from starsmith.serving.taints import Taints

pytestmark = pytest.mark.slow

VERSION = "24.43.1"
DRIVER = Path(__file__).with_name("drive_page.cjs")


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("SKIPPED: chromium is not installed")
    return browser


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two files."""
    return numbers_index(tmp_path_factory.mktemp("numbers"))


def drive(browser: str, url: str, *steps: list[Any]) -> dict[str, Any]:
    """Open the page and take the steps; what the page shows after each, and what it loaded and complained of."""
    done = subprocess.run(
        ["node", str(DRIVER), browser, str(npm_package("puppeteer-core", VERSION)), url, json.dumps(steps)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_ghost_text_appears_is_typed_along_and_accepted_and_its_sources_stand_beside_it(
    chromium: str, numbers: Path
) -> None:
    engine = ScriptedEngine(FIB)
    service = make_service(engine, **indexed(numbers))

    with running(service) as url:
        seen = drive(
            chromium,
            url,
            ["until", "ghost", FIB],
            ["type", "return fib("],
            ["pause", 500],
            ["press", "Tab"],
            ["until", "state", "accepted"],
        )
    shown, typed, accepted = seen["shown"][0], seen["shown"][2], seen["shown"][4]

    assert shown["ghost"] == shown["completion"] == FIB
    assert shown["model"] == MODEL
    assert shown["health"] == "ready"
    assert [source in shown["sources"] for source in ("numbers/recursive.py", "4", "MIT", "source")] == [True] * 4
    assert (shown["marked"], shown["kinds"]) == (["return fib(n - 1)"], ["source"])
    assert typed["ghost"] == FIB.removeprefix("return fib(")
    assert typed["asked"] == shown["asked"] == 1
    assert accepted["document"].count(FIB) == 1
    assert service.events["view"] >= 1
    assert service.events["select"] == 1


@pytest.mark.parametrize("target", ["#matches button", "#text mark"])
def test_a_click_opens_the_lines_of_the_source_with_the_copy_marked(chromium: str, numbers: Path, target: str) -> None:
    with running(make_service(ScriptedEngine(FIB), **indexed(numbers))) as url:
        seen = drive(
            chromium, url, ["until", "ghost", FIB], ["click", target], ["pause", 500], ["click", "#viewer-close"]
        )
    opened, closed = seen["shown"][2], seen["shown"][3]

    assert opened["matched"] == ["4" + RECURSIVE.splitlines()[3]]
    assert opened["copied"] == ["return fib(n - 1)"]
    assert all(
        part in opened["viewer"] for part in ("numbers/recursive.py", "line 4", "MIT", "swh:1:cnt:", "# numbers")
    )
    assert opened["link"] is None  # the repository is at no host that is known
    assert closed["viewer"] == ""
    assert seen["complaints"] == []


def test_where_only_a_copy_could_follow_the_page_says_that_nothing_was_given(chromium: str, numbers: Path) -> None:
    lines = LONG.splitlines(keepends=True)
    engine = ScriptedEngine("".join(lines[12:]), context_tokens=4_096)
    typed = "".join(lines[:12]).replace("(", "( ")  # with a space the editor adds no closing bracket

    with running(make_service(engine, **indexed(numbers, "block"))) as url:
        seen = drive(
            chromium,
            url,
            ["until", "state", "Tab accepts it"],
            ["press", "Escape"],
            ["paste", typed],
            ["until", "bad", True],
        )

    assert "held back" in seen["shown"][-1]["message"]
    assert "parts/long.py" in seen["shown"][-1]["sources"]
    assert "GPL-3.0-only" in seen["shown"][-1]["sources"]


def test_the_marks_stand_right_behind_characters_that_a_script_counts_twice(chromium: str, numbers: Path) -> None:
    with running(make_service(ScriptedEngine(f"'🦊🦊' or {FIB}"), **indexed(numbers))) as url:
        seen = drive(chromium, url, ["until", "state", "Tab accepts it"])

    assert seen["shown"][0]["marked"] == ["return fib(n - 1)"]


def test_what_was_withdrawn_stands_at_the_top(chromium: str, tmp_path: Path) -> None:
    index = numbers_index(tmp_path)
    (tmp_path / "corpus" / "tainted.json").write_text('{"requests": [{"id": "r-1"}, {"id": "r-2"}]}')

    with running(make_service(taints=Taints.of(index))) as url:
        seen = drive(chromium, url, ["until", "ghost", FIB])

    assert "corpus (request r-1, r-2)" in seen["shown"][0]["tainted"]


def test_escape_dismisses_and_the_server_hears_of_it(chromium: str) -> None:
    service = make_service()

    with running(service) as url:
        seen = drive(chromium, url, ["until", "ghost", FIB], ["press", "Escape"], ["until", "state", "dismissed"])

    assert seen["shown"][-1]["ghost"] == ""
    assert FIB not in seen["shown"][-1]["document"]
    assert service.events["dismiss"] == 1


def test_typing_on_hangs_up_on_the_request_before(chromium: str) -> None:
    engine = ScriptedEngine(" ".join(f"value_{number}" for number in range(100)), delay_s=0.05)

    with running(make_service(engine)) as url:
        seen = drive(
            chromium,
            url,
            ["until", "state", "thinking"],
            ["pause", 500],
            ["type", "zz"],
            ["until", "state", "Tab accepts it"],
        )

    assert seen["shown"][-1]["asked"] == len(engine.prompts) == 2
    assert engine.decoded < 64 * 2 - 20


def test_the_page_loads_nothing_from_elsewhere_and_breaks_no_rule_of_its_policy(chromium: str) -> None:
    with running(make_service()) as url:
        seen = drive(chromium, url, ["until", "ghost", FIB])

    assert all(address.startswith(url) for address in seen["loaded"])
    assert any(address.endswith("codemirror.js") for address in seen["loaded"])
    assert seen["complaints"] == []


def test_without_an_index_and_without_a_suggestion_the_page_says_so(chromium: str) -> None:
    with running(make_service(ScriptedEngine("  "))) as url:
        empty = drive(chromium, url, ["until", "message", "The model suggests nothing at this place."])
    with running(make_service()) as url:
        no_index = drive(chromium, url, ["until", "ghost", FIB])

    assert empty["shown"][-1]["ghost"] == ""
    assert "no index" in no_index["shown"][-1]["sources"]


def test_a_server_with_a_token_asks_for_it_and_lets_in_with_it(chromium: str) -> None:
    with running(make_service(token="secret")) as url:
        seen = drive(chromium, url, ["until", "health", "token needed"], ["token", "secret"], ["until", "ghost", FIB])

    assert seen["shown"][0]["ghost"] == ""
    assert seen["shown"][-1]["health"] == "ready"


def test_a_failing_model_is_told_and_not_hidden(chromium: str) -> None:
    with running(make_service(ScriptedEngine(context_tokens=-10))) as url:
        seen = drive(chromium, url, ["until", "bad", True])

    assert "context" in seen["shown"][-1]["message"]
