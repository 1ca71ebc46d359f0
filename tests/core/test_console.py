"""What a person sees when stderr and stdout are no terminal."""

import pytest

from starsmith.core import console


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_progress_is_a_line_every_few_seconds_and_one_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress("reading", total=4000, unit="files") as advance:
        for second in range(25):
            clock.now_s = float(second)
            advance(100, f"file {second}")

    assert capsys.readouterr().err.splitlines() == [
        "  reading: 1,100 of 4,000 files, 10 s, file 10",
        "  reading: 2,100 of 4,000 files, 20 s, file 20",
        "  reading: 2,500 files, done, 24 s",
    ]


def test_progress_without_a_total_or_unit_counts(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("reading") as advance:
        clock.now_s = 11.0
        advance()

    assert capsys.readouterr().err.splitlines() == ["  reading: 1, 11 s", "  reading: 1, done, 11 s"]


def read_and_fail() -> None:
    with console.progress("reading", total=2) as advance:
        advance()
        raise ValueError("broken file")


def test_work_that_fails_is_not_called_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken file"):
        read_and_fail()

    assert "done" not in capsys.readouterr().err


def test_notes_and_progress_go_to_stderr_and_tables_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("a note")
    with console.progress("reading"):
        pass
    console.table("Results", ("stage", "files"), [("corpus", 12)], right=("files",))

    seen = capsys.readouterr()
    assert seen.err.startswith("a note\n  reading: 0, done")
    assert "corpus" in seen.out
    assert "corpus" not in seen.err
    assert "reading" not in seen.out


def test_a_table_without_a_terminal_has_no_escape_codes_and_takes_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table("Results", ("what", "number"), [("[bold]x[/bold]", 5), ("y", 1234)], right=("number",))

    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[bold]x[/bold]" in out
    lines = [line for line in out.splitlines() if line.endswith(("5 │", "1234 │"))]
    assert len(lines) == 2
    assert len({len(line) for line in lines}) == 1


def test_no_part_of_a_long_cell_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "".join(chr(ord("a") + number % 26) for number in range(300))

    console.table("Results", ("what",), [(cell,)])

    out = capsys.readouterr().out
    assert "".join(character for character in out.split("what")[1] if character.isalpha()) == cell
