"""The web page in a real browser, headless Chromium, driven over its debugging protocol by puppeteer-core.

puppeteer-core is installed from npm. Without Chromium, node or the registry the tests are skipped.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npm import npm_package
from scripted import FIB, MODEL, PhraseAttributor, ScriptedEngine, make_service, running

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


def test_ghost_text_appears_is_typed_along_and_accepted_and_its_sources_stand_beside_it(chromium: str) -> None:
    engine = ScriptedEngine(FIB)
    service = make_service(engine, attributor=PhraseAttributor())

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
    assert [source in shown["sources"] for source in ("numbers/recursive.py", "3–4", "MIT", "distinctive")] == [
        True
    ] * 4
    assert shown["marked"] == ["fib(n - 1)"]
    assert typed["ghost"] == FIB.removeprefix("return fib(")
    assert typed["asked"] == shown["asked"] == 1
    assert accepted["document"].count(FIB) == 1
    assert service.events["view"] >= 1
    assert service.events["select"] == 1


def test_escape_dismisses_and_the_server_hears_of_it(chromium: str) -> None:
    service = make_service()

    with running(service) as url:
        seen = drive(chromium, url, ["until", "ghost", FIB], ["press", "Escape"], ["until", "state", "dismissed"])

    assert seen["shown"][-1]["ghost"] == ""
    assert FIB not in seen["shown"][-1]["document"]
    assert service.events["dismiss"] == 1


def test_typing_on_hangs_up_on_the_request_before(chromium: str) -> None:
    engine = ScriptedEngine("value " * 100, delay_s=0.05)

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
