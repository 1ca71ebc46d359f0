import re

import pytest
from fastapi.testclient import TestClient

from scripted import make_service
from starsmith.serving.app import PAGE, create_app

OWN = sorted(path for path in PAGE.glob("*.*"))


def test_the_page_and_everything_it_names_is_served() -> None:
    client = TestClient(create_app(make_service()))

    html = client.get("/").text
    names = set(re.findall(r'(?:src|href)="([^"#]+)"', html))
    for script in PAGE.glob("*.js"):
        names |= {f"page/{name.removeprefix('./')}" for name in re.findall(r'from "([^"]+)"', script.read_text())}

    assert {"page/app.js", "page/style.css", "page/vendor/codemirror.js"} <= names
    assert all(client.get(f"/{name}").status_code == 200 for name in names)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_part_of_the_page_names_no_other_host_and_has_no_inline_code(path: object) -> None:
    text = PAGE.joinpath(str(path)).read_text().replace("http://www.w3.org/2000/svg", "")

    assert not re.search(r"https?://|//[a-z]+\.", text)
    assert "innerHTML" not in text
    assert not re.search(r"<[^>]+ (style|on\w+)=|<script>|<style>", text)


def test_every_element_that_the_scripts_look_up_is_on_the_page() -> None:
    html = (PAGE / "index.html").read_text()
    scripts = "".join(path.read_text() for path in PAGE.glob("*.js"))

    wanted = set(re.findall(r'(?:element|getElementById)\("([\w-]+)"\)', scripts))

    assert wanted
    assert wanted <= set(re.findall(r'id="([\w-]+)"', html))


def test_the_bundled_editor_comes_with_its_licence_notices() -> None:
    notices = (PAGE / "vendor" / "LICENSE").read_text()

    for package in ("@codemirror/view", "@codemirror/state", "@lezer/python", "style-mod", "w3c-keyname"):
        assert package in notices
    assert notices.count("Permission is hereby granted") >= 10
