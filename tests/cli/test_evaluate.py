"""The commands, against servers that are well, busy or silent, and programs in the real sandbox."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from graded import DATA, ROWS, WRONG, write_rows
from scripted import wait_for
from starsmith.cli.evaluate import evaluate
from starsmith.core import artifact
from starsmith.core.errors import EngineError, InputError
from starsmith.evaluation import score_stage
from starsmith.evaluation.benchmarks.tasks import load
from starsmith.evaluation.generation import Patience
from starsmith.evaluation.score_stage import Asking, Conditions
from starsmith.evaluation.writers import open_writer
from starsmith.model import checkpoint
from starsmith.tokenizer.bpe import Tokenizer
from tiny_models import random_model
from upstreams import MODEL, Talk, Upstream, upstream

pytestmark = pytest.mark.slow

RIGHT = {row["prompt"]: row["reference"] for row in ROWS}


@pytest.fixture
def benchmark_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "additions.jsonl", ROWS)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate, [str(one) for one in arguments], catch_exceptions=False)


def recite(talk: Talk) -> None:
    """The right answer to every prompt but one."""
    prompt = talk.body["prompt"]
    talk.head().say(WRONG if "add_3" in prompt else RIGHT[prompt], "stop").done()


def scores_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_a_server_is_measured_from_prompts_to_a_score(benchmark_file: Path, tmp_path: Path) -> None:
    with upstream(recite) as server:
        result = run(server.url, "--task", benchmark_file, "--out", tmp_path / "out", "--set", "protocol.samples=2")

    assert result.exit_code == 0
    assert "83.3 %" in result.stdout
    assert len(server.asked) == 12
    assert server.bodies[0]["temperature"] == 0
    found = scores_of(tmp_path / "out")
    assert found["verdicts"] == {"fail": 2, "pass": 10}
    assert found["per_problem"]["base"]["add-3"] == [2, 0]
    assert artifact.verify(tmp_path / "out") == []
    assert not (tmp_path / "out.journal").exists()


def test_the_same_command_again_asks_for_nothing_and_gives_the_same(benchmark_file: Path, tmp_path: Path) -> None:
    with upstream(recite) as server:
        for _ in range(2):
            run(server.url, "--task", benchmark_file, "--out", tmp_path / "out")
            ids = artifact.read(tmp_path / "out").id
        first = ids

    assert len(server.asked) == 6
    assert artifact.read(tmp_path / "out").id == first


def test_a_chat_model_is_asked_and_its_code_taken_out(benchmark_file: Path, tmp_path: Path) -> None:
    def chat(talk: Talk) -> None:
        prompt = talk.body["messages"][0]["content"]
        text = f"Here:\n```python\n{prompt}{RIGHT[prompt]}```\n"
        talk.json({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    with upstream(chat) as server:
        result = run(server.url, "--chat", "--task", benchmark_file, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.bodies[0]["model"] == MODEL
    assert scores_of(tmp_path / "out")["verdicts"] == {"pass": 6}
    assert scores_of(tmp_path / "out")["deviations"] == {"chat": {"published": False, "used": True}}


def test_a_suffix_is_sent_where_there_is_one(tmp_path: Path) -> None:
    rows = [{"id": "hole", "prompt": "def one():\n    return ", "suffix": "\n", "tests": "assert one() == 1"}]

    with upstream(lambda talk: talk.head().say("1", "stop").done()) as server:
        result = run(server.url, "--task", write_rows(tmp_path / "holes.jsonl", rows), "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert (server.bodies[0]["prompt"], server.bodies[0]["suffix"]) == ("def one():\n    return ", "\n")
    assert scores_of(tmp_path / "out")["verdicts"] == {"pass": 1}


def test_a_busy_server_is_asked_again_and_what_was_drawn_stays(benchmark_file: Path, tmp_path: Path) -> None:
    answered: set[str] = set()

    def busy(talk: Talk) -> None:
        prompt = talk.body["prompt"]
        if prompt not in answered:
            answered.add(prompt)
            talk.json({"error": {"message": "slow down"}}, 429 if "add_1" in prompt else 500, Retry_After="0")
        else:
            recite(talk)

    with upstream(busy) as server:
        result = run(server.url, "--task", benchmark_file, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert "asked again 1 times: HTTP 429" in result.stderr
    assert "asked again 5 times: HTTP 500" in result.stderr
    assert scores_of(tmp_path / "out")["verdicts"] == {"fail": 1, "pass": 5}


def test_a_server_that_hangs_is_given_up_and_gone_on_with_later(benchmark_file: Path, tmp_path: Path) -> None:
    loaded, out = load(str(benchmark_file)), tmp_path / "out"
    asking = Asking(parallel=2, patience=Patience(tries=2, pause_s=0.0))
    with upstream() as server:
        server.answer = lambda talk: server.hang(talk) if "add_4" in talk.body["prompt"] else recite(talk)
        writer = open_writer(f"{server.url}#model={MODEL}&first_token_s=0.3")
        with pytest.raises(EngineError, match="1 of 6 samples could not be drawn"):
            score_stage.evaluate(loaded, writer, out=out, conditions=Conditions(), asking=asking)
        assert not out.exists()
        assert len((tmp_path / "out.journal" / "samples.jsonl").read_text().splitlines()) == 5

        server.answer = recite
        server.asked.clear()
        results = score_stage.evaluate(loaded, writer, out=out, conditions=Conditions(), asking=asking)
        writer.close()

    assert [talk.body["prompt"] for talk in server.asked] == ["def add_4(value):\n"]
    assert results["verdicts"] == {"fail": 1, "pass": 5}


def test_samples_are_drawn_on_one_machine_and_scored_on_another(benchmark_file: Path, tmp_path: Path) -> None:
    with upstream(recite) as server:
        run("generate", server.url, "--task", benchmark_file, "--out", tmp_path / "samples.jsonl")

    result = run("score", benchmark_file, tmp_path / "samples.jsonl", "--out", tmp_path / "out", "--json")

    assert json.loads(result.stdout)["verdicts"] == {"fail": 1, "pass": 5}


@pytest.mark.parametrize("moment", ["1 samples", "9 samples", "18 samples", "2 verdicts"])
def test_killed_at_any_moment_and_taken_up_again_it_gives_the_same(
    moment: str, benchmark_file: Path, tmp_path: Path
) -> None:
    def command(server: Upstream, out: Path) -> list[str]:
        code = "from starsmith.cli.main import main; main()"
        url = f"{server.url}#model={MODEL}"
        rest = ["--task", str(benchmark_file), "--out", str(out), "--set", "protocol.samples=3", "--parallel", "2"]
        return [sys.executable, "-c", code, "evaluate", url, *rest]

    number, name = moment.split()
    watched, drawn = (tmp_path / "killed.journal" / f"{one}.jsonl" for one in (name, "samples"))
    with upstream(recite) as server:
        subprocess.run(command(server, tmp_path / "whole"), check=True, capture_output=True)
        process = subprocess.Popen(
            command(server, tmp_path / "killed"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_for(lambda: lines_of(watched) >= int(number), seconds=60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = lines_of(drawn)
        again = subprocess.run(command(server, tmp_path / "killed"), check=True, capture_output=True, text=True)

    assert f"{kept} samples were there already" in again.stderr
    assert artifact.read(tmp_path / "killed").id == artifact.read(tmp_path / "whole").id


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_scoring_loads_no_model_code(benchmark_file: Path, tmp_path: Path) -> None:
    samples = write_rows(tmp_path / "s.jsonl", [{"task_id": "add-1", "completion": "    return value + 1"}])
    code = (
        "import sys; from starsmith.cli.evaluate import evaluate\n"
        f"evaluate(['score', {str(benchmark_file)!r}, {str(samples)!r}, '--out', {str(tmp_path / 'out')!r}],"
        " standalone_mode=False)\n"
        "print(sorted({'torch', 'transformers', 'starsmith.inference'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert found.stdout.splitlines()[-1] == "[]"


def test_two_scores_are_compared_and_drawn(benchmark_file: Path, tmp_path: Path) -> None:
    for name, wrong in (("a", 0), ("b", 2)):
        rows = [
            {"task_id": row["id"], "completion": WRONG if number == wrong else row["reference"]}
            for number, row in enumerate(ROWS)
        ]
        run("score", benchmark_file, write_rows(tmp_path / f"{name}.jsonl", rows), "--out", tmp_path / name)

    result = run("compare", tmp_path / "a", tmp_path / "b", "--page", tmp_path / "page.html")
    as_json = json.loads(run("compare", tmp_path / "a", tmp_path / "b" / "eval_results.json", "--json").stdout)

    assert "gained: add-0" in result.stdout
    assert "lost: add-2" in result.stdout
    assert as_json["difference"] == 0
    assert as_json["p"] == 1
    assert "add-2 (100 → 0 %)" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("form", ["bigcode", "lm-eval", "model-index"])
def test_scores_are_written_in_other_tools_formats(form: str, benchmark_file: Path, tmp_path: Path) -> None:
    samples = write_rows(tmp_path / "s.jsonl", [{"task_id": row["id"], "completion": row["reference"]} for row in ROWS])
    run("score", benchmark_file, samples, "--out", tmp_path / "out")

    result = run("convert", tmp_path / "out", "--to", form, "--out", tmp_path / "file")

    assert result.exit_code == 0
    assert {"bigcode": "def add_5", "lm-eval": '"pass@1,create_test": 1.0', "model-index": "value: 100.00"}[form] in (
        tmp_path / "file"
    ).read_text()


def test_a_checkpoint_is_measured_and_named_as_the_parent(
    benchmark_file: Path, tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    from starsmith.core.config import build
    from starsmith.training import pretrain

    values = {"model": {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1}, "data": {"context_tokens": 64},
              "batch_tokens": 256, "micro_batch_tokens": 256, "steps": 2}  # fmt: skip
    config = build(pretrain.PretrainConfig, values, where="test")
    pretrain.run(config, tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "model")
    options = ("--set", "protocol.max_tokens=48", "--set", "protocol.temperature=0.8")

    ids = []
    for name in ("one", "two"):
        result = run(tmp_path / "model", "--task", benchmark_file, "--out", tmp_path / name, *options)
        assert result.exit_code == 0
        ids.append(artifact.read(tmp_path / name).id)

    manifest = artifact.read(tmp_path / "one")
    assert ids[0] == ids[1]
    assert [(parent.role, parent.id) for parent in manifest.parents] == [
        ("model", artifact.read(tmp_path / "model").id)
    ]
    assert scores_of(tmp_path / "one")["samples"] == 6
    assert manifest.config["protocol"]["temperature"] == 0.8


def test_held_out_files_are_filled_by_a_server(corpus: Path, tmp_path: Path) -> None:
    with upstream(lambda talk: talk.head().say("alpha", "stop").done()) as server:
        result = run(
            server.url, "--task", "held-out-fim", "--corpus", corpus, "--limit", "4", "--out", tmp_path / "out"
        )

    assert result.exit_code == 0
    assert "suffix" in server.bodies[0]
    assert scores_of(tmp_path / "out")["sandbox"]["kind"] == "none needed"
    assert set(scores_of(tmp_path / "out")["scores"]["exact"]) == {"exact@1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://127.0.0.1:1/v1", "--task", "humanevl"), "no task 'humanevl'"),
        (("nowhere", "--task", "additions.jsonl"), "does not exist"),
        (("nowhere", "--chat", "--task", "FILE"), "is no address"),
        (("score", "FILE", "missing.jsonl"), "missing.jsonl does not exist"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    arguments: tuple[str, ...], said: str, benchmark_file: Path, tmp_path: Path
) -> None:
    from starsmith.core.errors import StarsmithError

    words = [str(benchmark_file) if word == "FILE" else word for word in arguments]

    with pytest.raises(StarsmithError) as caught:
        run(*words, "--out", tmp_path / "out")

    assert said in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_setting_that_does_not_exist_is_named(benchmark_file: Path, tmp_path: Path) -> None:
    from starsmith.core.errors import ConfigError

    with pytest.raises(ConfigError, match="temprature") as caught:
        run(
            "http://127.0.0.1:1/v1", "--task", benchmark_file, "--out", tmp_path / "o", "--set", "protocol.temprature=1"
        )

    assert "temperature" in caught.value.hint


def test_a_directory_of_something_else_is_no_scores(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scores"):
        run("compare", tmp_path, tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="SKIPPED: ../shared has no benchmarks")
def test_humanevals_own_answers_score_100(tmp_path: Path) -> None:
    problems = load("humaneval", data=DATA).problems
    samples = write_rows(
        tmp_path / "s.jsonl", [{"task_id": problem.id, "completion": problem.reference} for problem in problems]
    )

    result = run("score", "humaneval", samples, "--data", DATA, "--out", tmp_path / "out", "--json")

    assert json.loads(result.stdout)["scores"]["base"]["pass@1"]["value"] == 1.0


def test_a_checkpoint_writes_several_answers_at_a_time_as_it_does_one(
    benchmark_file: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    model = random_model(vocab_size=Tokenizer.load(tokenizer_directory).vocab_size)
    checkpoint.save(model, tokenizer_directory / "tokenizer.json", tmp_path / "model")
    rest = ["--task", benchmark_file, "--set", "protocol.samples=4", "--set", "protocol.max_tokens=12"]
    rest += ["--set", "protocol.temperature=1.0"]

    for parallel in (1, 5):
        run("generate", tmp_path / "model", *rest, "--out", tmp_path / f"{parallel}.jsonl", "--parallel", parallel)

    one, five = (sorted((tmp_path / f"{parallel}.jsonl").read_text().splitlines()) for parallel in (1, 5))
    assert one == five
    assert len(set(one)) > 4
