import json
import threading
from pathlib import Path

import pytest

from graded import Reciter, tiny
from starsmith.core.errors import EngineError, InputError
from starsmith.evaluation.generation import Pace, Patience, chat_program, collect, generate
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.writers import code_in
from starsmith.inference.backends.errors import UpstreamError

HASTY = Patience(pause_s=0.0)


def busy(status: int | None = 429) -> UpstreamError:
    return UpstreamError("busy", status=status)


def test_every_problem_gets_its_samples_a_line_each(tmp_path: Path) -> None:
    loaded, writer = tiny(tmp_path, samples=3), Reciter()

    with Journal(tmp_path / "s.jsonl") as journal:
        counts = generate(loaded.task, loaded.problems, writer, journal)

    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert counts.generated == len(rows) == len({row["key"] for row in rows}) == 18
    assert len(set(writer.seeds)) == 18
    assert rows[0]["solution"] == "def add_0(value):\n    return value + 0\n"


def test_nothing_is_drawn_twice_and_a_torn_line_only_once_more(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    with Journal(tmp_path / "s.jsonl") as journal:
        generate(loaded.task, loaded.problems, Reciter(), journal)
        whole = collect(loaded.task, loaded.problems, Reciter(), journal)
    content = (tmp_path / "s.jsonl").read_bytes()
    (tmp_path / "s.jsonl").write_bytes(content[:-20])  # killed in the middle of the last line

    writer = Reciter()
    with Journal(tmp_path / "s.jsonl") as journal:
        counts = generate(loaded.task, loaded.problems, writer, journal)
        again = collect(loaded.task, loaded.problems, writer, journal)

    assert writer.asked == ["add-5"]
    assert counts.kept == 5
    assert again == whole
    assert (tmp_path / "s.jsonl").read_bytes() == content


def test_more_samples_leave_those_that_are_there(tmp_path: Path) -> None:
    few, many, writer = tiny(tmp_path, samples=1), tiny(tmp_path, samples=2), Reciter()
    with Journal(tmp_path / "s.jsonl") as journal:
        generate(few.task, few.problems, Reciter(), journal)

        counts = generate(many.task, many.problems, writer, journal)

    assert (counts.kept, counts.generated) == (6, 6)


def test_the_order_in_which_answers_come_changes_nothing(tmp_path: Path) -> None:
    loaded = tiny(tmp_path, samples=4)
    found = []
    for parallel in (1, 5):
        with Journal(tmp_path / f"{parallel}.jsonl") as journal:
            generate(loaded.task, loaded.problems, Reciter(lambda _, seed: f"    {seed}\n"), journal, parallel=parallel)
            found.append(collect(loaded.task, loaded.problems, Reciter(), journal))

    assert found[0] == found[1]


def test_a_busy_server_is_asked_again_and_the_faults_are_counted(tmp_path: Path) -> None:
    loaded, writer = tiny(tmp_path), Reciter(faults=[busy(429), busy(500), busy(None), busy(429)])

    with Journal(tmp_path / "s.jsonl") as journal:
        counts = generate(loaded.task, loaded.problems, writer, journal, patience=HASTY)

    assert counts.generated == 6
    assert dict(counts.faults) == {"HTTP 429": 2, "HTTP 500": 1, "no answer": 1}


def test_what_a_server_does_not_answer_is_missing_until_the_next_time(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    writer = Reciter(faults=[busy()] * 2)
    with Journal(tmp_path / "s.jsonl") as journal:
        with pytest.raises(EngineError, match="1 of 6 samples could not be drawn: busy") as caught:
            generate(loaded.task, loaded.problems, writer, journal, patience=Patience(tries=2, pause_s=0.0))
        assert "5 are kept" in caught.value.hint

        later = Reciter()
        generate(loaded.task, loaded.problems, later, journal)

    assert later.asked == ["add-0"]


def test_a_server_that_answers_nobody_is_left_alone(tmp_path: Path) -> None:
    loaded = tiny(tmp_path, samples=10)
    writer = Reciter(faults=[busy()] * 1000)

    with Journal(tmp_path / "s.jsonl") as journal, pytest.raises(EngineError, match="3 of 60"):
        generate(loaded.task, loaded.problems, writer, journal, patience=Patience(tries=2, pause_s=0.0, failures=3))

    assert len(writer.asked) == 6


def test_a_wrong_key_is_told_at_once(tmp_path: Path) -> None:
    loaded, writer = tiny(tmp_path), Reciter(faults=[busy(401)])

    with Journal(tmp_path / "s.jsonl") as journal, pytest.raises(UpstreamError, match="busy"):
        generate(loaded.task, loaded.problems, writer, journal)

    assert writer.asked == ["add-0"]


def test_an_error_waits_for_nobodys_pauses(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)
    waiting = threading.Event()

    class Mixed(Reciter):
        def write(self, problem, drawing, seed):  # type: ignore[no-untyped-def]
            if problem.id == "add-0":
                waiting.set()
                raise busy()
            waiting.wait()
            raise InputError("no such model")

    with Journal(tmp_path / "s.jsonl") as journal, pytest.raises(InputError, match="no such model"):
        generate(loaded.task, loaded.problems, Mixed(), journal, parallel=2, patience=Patience(pause_s=1e6))


def test_the_server_says_how_long_to_wait_and_is_not_believed_for_ever() -> None:
    patience = Patience(pause_s=1.0, longest_pause_s=30.0)

    assert [patience.pause(attempt, None) for attempt in range(6)] == [1, 2, 4, 8, 16, 30]
    assert patience.pause(0, 10.0) == 10
    assert patience.pause(0, 9999.0) == 30


def test_an_empty_answer_is_a_sample(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)

    with Journal(tmp_path / "s.jsonl") as journal:
        generate(loaded.task, loaded.problems, Reciter(lambda *_: ""), journal)
        found = collect(loaded.task, loaded.problems, Reciter(), journal)

    assert [answer.completion for answer in found] == [""] * 6


def test_the_answer_is_cut_and_what_was_written_is_kept(tmp_path: Path) -> None:
    loaded = tiny(tmp_path)

    with Journal(tmp_path / "s.jsonl") as journal:
        generate(loaded.task, loaded.problems, Reciter(lambda *_: "    pass\ndef more(): ..."), journal)
        found = collect(loaded.task, loaded.problems, Reciter(), journal)

    assert (found[0].completion, found[0].raw) == ("    pass", "    pass\ndef more(): ...")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Sure:\n```python\ndef f():\n    pass\n```\nDone.", "def f():\n    pass\n"),
        ("```\nx\n```\n```\ny\n```", "x\n"),
        ("```python\ndef f(): # cut off", "def f(): # cut off"),
        ("def f(): pass", "def f(): pass"),
        ("", ""),
    ],
)
def test_a_chat_models_code_is_its_first_block(answer: str, code: str) -> None:
    assert code_in(answer) == code


def test_a_chat_models_body_continues_the_prompt_and_its_function_does_not(tmp_path: Path) -> None:
    problem = tiny(tmp_path).problems[1]

    assert chat_program(problem, "    return value + 1\n") == "def add_1(value):\n    return value + 1\n"
    assert chat_program(problem, "def add_1(v): return v + 1") == "def add_1(v): return v + 1"


def test_the_time_left_is_at_the_speed_so_far() -> None:
    now = [0.0]
    pace = Pace(100, clock=lambda: now[0])

    now[0] = 3.0

    assert pace.step() == "about 5 min left"
    assert [pace.step() for _ in range(99)][-1] == ""
