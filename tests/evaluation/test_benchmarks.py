"""Benchmarks as they are given out: right answers pass, and the prompts are those of the published protocols."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest

from graded import DATA, Plain, write_rows
from starsmith.core.errors import InputError
from starsmith.evaluation.answers import Answer
from starsmith.evaluation.benchmarks import cruxeval, cyberseceval, ds1000, evalplus, fim_match, multipl_e, python_tests
from starsmith.evaluation.benchmarks.insecure_code import scan
from starsmith.evaluation.benchmarks.tasks import TASKS, Loaded, load
from starsmith.evaluation.execution import execute
from starsmith.evaluation.journal import Journal
from starsmith.evaluation.sandbox.choice import choose
from starsmith.evaluation.sandbox.inside.toolchain import TOOLCHAINS
from starsmith.evaluation.scoring import judge, judge_references

pytestmark = pytest.mark.slow

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SKIPPED: ../shared has no benchmarks")

CRUX = [{"id": "s0", "code": "def f(a, b=1):\n    return a * 2 + b", "input": "3, b=4", "output": "10"}]


def verdict(loaded_name: str, rows: list[dict[str, object]], completion: str, folder: Path) -> str:
    task = TASKS[loaded_name]
    loaded = Loaded(task, task.problems(rows), "rows", "")
    answer = Answer(task_id=loaded.problems[0].id, sample=0, completion=completion)
    with Journal(folder / "v.jsonl") as journal:
        return judge(loaded, [answer], Plain(), journal)[0].verdict


def references(name: str, folder: Path, *, every: int = 1) -> Counter[str]:
    """Verdicts of the known answers in the sandbox."""
    loaded = load(name, data=DATA)
    loaded = replace(loaded, problems=loaded.problems[::every])
    preload = tuple(module for module in loaded.task.preload if module in ("numpy", "pandas"))
    with Journal(folder / "v.jsonl") as journal:
        found = judge_references(
            loaded, lambda programs: execute(programs, workers=2, sandbox=choose(), preload=preload), journal
        )
    return Counter(one.verdict for one in found.values())


@needs_data
@pytest.mark.parametrize(
    ("name", "problems"),
    [
        ("humaneval", 164),
        ("humaneval+", 164),
        ("mbpp", 500),
        ("mbpp-all", 974),
        ("mbpp-sanitized", 427),
        ("mbpp+", 378),
        ("ds1000-completion", 1000),
        ("ds1000-insertion", 1000),
        ("infilling-single-line", 1033),
        ("infilling-random-span", 1640),
        ("infilling-random-span-light", 164),
        ("cruxeval-i", 800),
        ("multipl-e-python", 164),
        ("multipl-e-sh", 158),
        ("multipl-e-rs", 156),
        ("cyberseceval-autocomplete", 1916),
    ],
)
def test_every_problem_is_there(name: str, problems: int) -> None:
    assert len(load(name, data=DATA).problems) == problems


@needs_data
@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("humaneval", 1),
        ("mbpp-all", 6),
        ("mbpp-sanitized", 4),
        ("humaneval+", 15),
        ("mbpp+", 40),
        ("infilling-single-line", 20),
        ("infilling-multi-line", 150),
        ("infilling-random-span", 40),
        ("infilling-random-span-light", 1),
        ("cruxeval-i", 16),
        ("cruxeval-o", 16),
        ("multipl-e-python", 3),
    ],
)
def test_known_answers_pass_in_the_sandbox(name: str, every: int, tmp_path: Path) -> None:
    assert set(references(name, tmp_path, every=every)) == {"pass"}


@needs_data
def test_the_references_of_ds1000_pass_where_the_libraries_are_those_of_their_time(tmp_path: Path) -> None:
    found = references("ds1000-completion", tmp_path, every=40)

    assert found["pass"] >= 5
    assert "harness_error" not in found


@needs_data
def test_nothing_written_passes_nothing(tmp_path: Path) -> None:
    for name in ("humaneval", "mbpp", "multipl-e-python", "infilling-single-line"):
        loaded = load(name, data=DATA, limit=12)
        answers = [Answer(task_id=problem.id, sample=0, completion="") for problem in loaded.problems]
        with Journal(tmp_path / f"{name}.jsonl") as journal:
            verdicts = [one.verdict for one in judge(loaded, answers, Plain(), journal)]
        assert "pass" not in verdicts, name


@needs_data
def test_tests_run_apart_from_the_candidate_wherever_they_can() -> None:
    modes = {
        name: Counter(tests.mode for problem in load(name, data=DATA).problems for tests in problem.tests)
        for name in ("humaneval", "mbpp-all", "cruxeval-i")
    }

    assert modes["humaneval"]["same"] == 0
    assert modes["mbpp-all"]["same"] <= 10
    assert modes["cruxeval-i"]["same"] == 2


@needs_data
def test_evalplus_digests_are_those_of_the_references() -> None:
    from starsmith.evaluation.benchmarks.differential import digest
    from starsmith.evaluation.export import read_rows

    rows = read_rows(DATA / "evalplus" / "HumanEvalPlus.jsonl.gz")[:12]
    known = json.loads(Path(evalplus.__file__).with_name("evalplus_digests.json").read_text())
    for row in rows:
        space: dict[str, object] = {}
        exec(row["prompt"] + row["canonical_solution"], space)
        outputs = evalplus.reference_outputs(row, "base", space[row["entry_point"]])

        assert known[evalplus.digest_key(row, "base")] == digest(outputs)


def plus_row(solution: str, inputs: list[object], *, task: str = "HumanEval/900", name: str = "f") -> dict[str, object]:
    return {"task_id": task, "prompt": f"def {name}(x):\n", "entry_point": name, "canonical_solution": solution,
            "base_input": inputs, "plus_input": inputs, "atol": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("    return x / 3\n", "pass"),
        ("    return x / 3 + 1e-9\n", "pass"),  # within the tolerance for floats
        ("    return x / 3 + 1e-3\n", "fail"),
        ("    return str(x / 3)\n", "fail"),
        ("    return None\n", "fail"),
        ("    raise KeyError\n", "error"),
    ],
)
def test_outputs_are_compared_with_the_references_as_evalplus_does(
    completion: str, expected: str, tmp_path: Path
) -> None:
    row = plus_row("    return x / 3\n", [[1.0], [2.0]])

    assert verdict("humaneval+", [row], completion, tmp_path) == expected


def test_equal_digests_need_no_reference_and_unequal_ones_do(tmp_path: Path) -> None:
    row = plus_row("    return [x, x]\n", [[1], [2]])
    (problem,) = evalplus.humaneval_plus([row])
    source = problem.tests[0].source
    known = "digest([[1, 1], [2, 2]])"
    broken = source.replace("return [x, x]", "raise SystemError").replace("_task, None)", f"_task, {known})")
    space: dict[str, object] = {}
    exec(problem.head + "    return [x, x]\n" + problem.tests[0].driver, space)

    exec(broken, dict(space))

    space.clear()
    exec(problem.head + "    return [x, 0]\n" + problem.tests[0].driver, space)
    with pytest.raises(SystemError):
        exec(broken, dict(space))


def test_mbpp_plus_gets_its_tuples_back(tmp_path: Path) -> None:
    row = plus_row("    return x + (1,)\n", [[[1, 2]], [[]]], task="Mbpp/2")

    assert verdict("mbpp+", [row], "    return x + (1,)\n", tmp_path) == "pass"
    assert verdict("mbpp+", [row], "    return list(x) + [1]\n", tmp_path) == "fail"


def test_a_prompts_helper_in_the_tests_is_the_prompts_and_not_the_candidates(tmp_path: Path) -> None:
    row = {
        "task_id": "HumanEval/32",
        "prompt": "def poly(xs, x):\n    return xs[0] + xs[1] * x\n\n\ndef find_zero(xs):\n",
        "entry_point": "find_zero",
        "canonical_solution": "    return -xs[0] / xs[1]\n",
        "test": "def check(candidate):\n    assert abs(poly([1, 2], candidate([1, 2]))) < 1e-6\n",
    }
    cheat = "    return 7\n\n\ndef poly(xs, x):\n    return 0\n"

    assert verdict("humaneval", [row], row["canonical_solution"], tmp_path) == "pass"
    assert verdict("humaneval", [row], cheat, tmp_path) == "fail"


def test_an_mbpp_prompt_is_bigcodes() -> None:
    row = {"task_id": 11, "text": "Add one.", "code": "def one(x):\r\n  return x+1", "test_setup_code": "",
           "test_list": ["assert one(1) == 2", "assert one(2) == 3"]}  # fmt: skip

    (problem,) = TASKS["mbpp"].problems([row])

    assert problem.prompt == '"""\nAdd one.\nassert one(1) == 2\n"""\n'
    assert problem.tests[0].entry_point == "one"


def test_mbpp_set_up_code_runs_with_the_candidate(tmp_path: Path) -> None:
    row = {"task_id": 367, "text": "T", "code": "class Node:\n  v = 1\ndef g(n):\n  return n.v",
           "test_setup_code": "root = Node()", "test_list": ["assert g(root) == 1"]}  # fmt: skip

    (problem,) = TASKS["mbpp"].problems([row])

    assert problem.tests[0].mode == "same"
    assert verdict("mbpp", [row], row["code"], tmp_path) == "pass"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("assert f(3, b=4) == 10\n[/ANSWER]", "pass"),
        ("assert f(3, b=4) == 5 + 5", "pass"),
        ("10", "pass"),
        ("assert f(3, b=4) == 11\n", "fail"),
        ("assert f(3, b=4) == f(3, b=4)", "error"),  # no function is there to be called
        ("", "error"),
        ("I think it is 10", "error"),
    ],
)
def test_a_cruxeval_output_is_compared_by_value(answer: str, expected: str, tmp_path: Path) -> None:
    assert verdict("cruxeval-o", CRUX, answer, tmp_path) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("assert f(3, b=4) == 10", "pass"),
        ("assert f(4, 2) == 10\n[/ANSWER]", "pass"),
        ("f(5, b=0)", "pass"),
        ("assert f(1) == 10", "fail"),
        ("assert f(1) == 3 or True", "fail"),
        ("True", "error"),
        ("assert f(", "error"),
    ],
)
def test_a_cruxeval_input_is_given_to_a_function_that_the_answer_never_sees(
    answer: str, expected: str, tmp_path: Path
) -> None:
    assert verdict("cruxeval-i", CRUX, answer, tmp_path) == expected


def test_cruxeval_prompts_end_where_the_answer_begins() -> None:
    (asks_output,), (asks_input,) = cruxeval.output_problems(CRUX), cruxeval.input_problems(CRUX)

    assert asks_output.prompt.endswith("assert f(3, b=4) == ??\n[/PYTHON]\n[ANSWER]\n")
    assert asks_input.prompt.endswith("assert f(??) == 10\n[/PYTHON]\n[ANSWER]\n")


DS = {
    "prompt": "Problem:\nAdd.\nA:\n<code>\nx = 1\n</code>\nresult = ... # put solution\nBEGIN SOLUTION\n<code>\n",
    "reference_code": "result = x + 1",
    "metadata": {"problem_id": 7, "library": "Numpy"},
    "code_context": 'exec_context = r"""\nx = test_input\n[insert]\nresult = result\n"""\n'
    "def test_execution(solution):\n"
    '    space = {"test_input": 1}\n'
    '    exec(exec_context.replace("[insert]", solution), space)\n'
    "    assert space['result'] == 2\n"
    "def test_string(solution):\n"
    "    assert 'for' not in solution\n",
}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [("result = x + 1", "pass"), ("result = x", "fail"), ("for _ in [1]: result = x + 1", "fail"), ("", "error")],
)
def test_a_ds1000_answer_is_put_into_the_tests_own_program(completion: str, expected: str, tmp_path: Path) -> None:
    assert verdict("ds1000-completion", [DS], completion, tmp_path) == expected


def test_a_ds1000_insertion_has_what_the_program_goes_on_with() -> None:
    (problem,) = ds1000.insertion_problems([DS])

    assert problem.suffix == "\n</code>\nresult = result\n"
    assert problem.group == "Numpy"


def test_a_multipl_e_program_is_prompt_completion_and_tests() -> None:
    row = {
        "name": "HumanEval_0_f",
        "language": "js",
        "prompt": "function f(){\n",
        "tests": "test();",
        "stop_tokens": ["\n//"],
    }

    (problem,) = multipl_e.problems_in("javascript")([row])

    assert (problem.head, problem.stop) == ("function f(){\n", ("\n//",))
    assert problem.tests[0].language == "javascript"
    assert problem.tests[0].mode == "same"


def test_every_language_of_multipl_e_is_one_that_can_be_run() -> None:
    assert set(multipl_e.LANGUAGES.values()) <= set(TOOLCHAINS)


@needs_data
@pytest.mark.parametrize(
    ("short", "problem_id", "right", "wrong"),
    [
        ("cpp", "HumanEval_23_strlen", "    return string.length();", "    return 1;"),
        ("js", "HumanEval_23_strlen", "  return string.length;\n}\n", "  return 1;\n}\n"),
        ("ts", "HumanEval_23_strlen", "  return string.length;\n}\n", "  return 1;\n}\n"),
        ("rs", "HumanEval_23_strlen", "    string.len() as isize", "    1"),
        ("go", "HumanEval_23_strlen", "    return len(myString)\n}\n", "    return 1\n}\n"),
        (
            "java",
            "HumanEval_112_reverse_delete",
            '        String t = c.isEmpty() ? s : s.replaceAll("[" + c + "]", "");\n'
            "        return Pair.with(t, t.equals(new StringBuilder(t).reverse().toString()));",
            "        return Pair.with(s, true);",
        ),
    ],
)
def test_programs_of_multipl_e_are_compiled_and_run(
    short: str, problem_id: str, right: str, wrong: str, tmp_path: Path
) -> None:
    loaded = load(f"multipl-e-{short}", data=DATA)
    (problem,) = (one for one in loaded.problems if one.id == problem_id)
    missing = [tool for tool in TOOLCHAINS[problem.tests[0].language].needs if which(tool) is None]
    if missing:
        pytest.skip(f"SKIPPED: no {missing[0]} here")
    answers = [Answer(task_id=problem.id, sample=at, completion=text) for at, text in enumerate((right, wrong))]

    with Journal(tmp_path / "v.jsonl") as journal:
        found = judge(loaded, answers, lambda programs: execute(programs, workers=1, sandbox=choose()), journal)

    assert [one.verdict for one in found] == ["pass", "fail"], found


def test_a_shell_program_of_multipl_e_is_run(tmp_path: Path) -> None:
    task = TASKS["multipl-e-sh"]
    row = {"name": "HumanEval_23_strlen", "language": "sh", "prompt": "#!/bin/bash\nlength() {\n",
           "tests": "}\n\ncandidate() {\n    length \"$@\"\n}\n\nset -e\nrun_test() {\n"
                    '    [[ $(candidate "abc") = "3" ]]\n}\n\nrun_test\n', "stop_tokens": ["\n}"]}  # fmt: skip
    loaded = Loaded(task, task.problems([row]), "rows", "")
    texts = ("    echo -n ${#1}", "    echo -n 4")
    answers = [Answer(task_id=row["name"], sample=number, completion=text) for number, text in enumerate(texts)]

    with Journal(tmp_path / "v.jsonl") as journal:
        found = judge(loaded, answers, lambda programs: execute(programs, workers=1, sandbox=choose()), journal)

    assert [one.verdict == "pass" for one in found] == [True, False], found


def test_an_exact_match_leaves_spaces_aside() -> None:
    row = {"name": "a", "language": "java", "prompt": "int a = ", "suffix": "\n", "canonical_solution": "1;\n"}
    (problem,) = fim_match.santacoder_problems([row])

    assert fim_match.matches(problem, " 1; ")
    assert not fim_match.matches(problem, "1")


@pytest.mark.parametrize(
    ("language", "code", "cwe"),
    [
        ("c", "  strcpy(a, b);", "CWE-120"),
        ("python", "x = eval(y)", "CWE-94"),
        ("python", 'cursor.execute("select %s" % name)', "CWE-89"),
        ("javascript", "a = Math.random()", "CWE-338"),
        ("java", 'Cipher.getInstance("AES/ECB/PKCS5Padding")', "CWE-327"),
        ("rust", "unsafe { *p }", "CWE-676"),
        ("php", "$h = md5($x);", "CWE-327"),
        ("csharp", "Process.Start(name);", "CWE-78"),
    ],
)
def test_the_scanner_finds_what_goes_wrong(language: str, code: str, cwe: str) -> None:
    assert [finding.cwe for finding in scan(language, f"\n{code}\n")] == [cwe]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("c", "strlcpy(a, b, sizeof a); // strcpy(a, b) is worse"),
        ("python", "value = model.eval()  # eval(x)"),
        ("python", 'cursor.execute("select ?", (name,))'),
        ("javascript", 'const a = require("fs");'),
        ("java", 'Cipher.getInstance("AES/GCM/NoTag")'),
        ("php", "echo htmlspecialchars($x);"),
    ],
)
def test_the_scanner_leaves_what_is_well_done(language: str, code: str) -> None:
    assert scan(language, code) == []


@needs_data
def test_the_scanner_finds_most_of_what_cyberseceval_knows_to_be_insecure() -> None:
    loaded = load("cyberseceval-autocomplete", data=DATA)

    found = sum(not cyberseceval.is_secure(problem, problem.reference or "") for problem in loaded.problems)

    assert found > 0.85 * len(loaded.problems)


def test_a_private_benchmark_is_a_few_lines(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "mine.jsonl",
        [
            {"prompt": "def twice(x):\n", "tests": "assert twice(2) == 4"},
            {"id": "hole", "prompt": "def one():\n    return ", "suffix": "\n", "tests": "assert one() == 1"},
            {"id": "exact", "prompt": "a = ", "truth": "1"},
        ],
    )
    loaded = load(str(path))
    completions = {"1": "    return 2 * x\n", "hole": "1", "exact": " 1"}

    with Journal(tmp_path / "v.jsonl") as journal:
        answers = [Answer(task_id=key, sample=0, completion=text) for key, text in completions.items()]
        found = judge(loaded, answers, Plain(), journal)

    assert [one.verdict for one in found] == ["pass"] * 3
    assert loaded.task.name == "mine"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tests": "assert 1"}, "row 1 needs a prompt"),
        ({"prompt": "x"}, "either tests or a truth"),
        ({"prompt": "x", "tests": "1", "truth": "1"}, "either tests or a truth"),
        ({"prompt": "x", "tests": "1", "test": "1"}, "column 'test'"),
        ({"prompt": 1, "tests": "1"}, "prompt is 1"),
        ({"prompt": "x", "tests": "def"}, "tests are no Python"),
        ({"prompt": "x", "tests": "1", "stop": "x"}, "stop is 'x'"),
    ],
)
def test_a_row_that_is_no_problem_says_why(row: dict[str, object], said: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "mine.jsonl", [row])

    with pytest.raises(InputError, match=said):
        load(str(path))


def test_two_problems_of_one_id_are_refused(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": "x", "truth": "1"}

    with pytest.raises(InputError, match="two rows have the id 'a'"):
        load(str(write_rows(tmp_path / "mine.jsonl", [row, row])))


def test_a_task_that_is_mistyped_gets_the_right_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no task 'humanevl'") as caught:
        load("humanevl", data=tmp_path)

    assert caught.value.hint == "did you mean 'humaneval'?"


def test_a_missing_file_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no HumanEval\.jsonl"):
        load("humaneval", data=tmp_path)


def test_the_file_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "HumanEval.jsonl", [{"id": "s", "code": "", "input": "", "output": ""}])

    with pytest.raises(InputError, match="has not the columns of humaneval"):
        load("humaneval", data=path)


def test_two_different_files_of_one_name_are_not_chosen_between(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write_rows(tmp_path / str(number) / "HumanEval.jsonl", [{"task_id": number}])

    with pytest.raises(InputError, match="differ"):
        load("humaneval", data=tmp_path)


def test_definitions_are_copied_with_the_imports_that_they_need() -> None:
    around = "import math\n\n\ndef area(r):\n    return math.pi * r\n\n\ndef f(x):\n"

    copied = python_tests.definitions(around + "    pass\n", {"area"})

    assert copied == "import math\ndef area(r):\n    return math.pi * r\n\n"


def test_stop_words_of_every_protocol_are_texts() -> None:
    for task in TASKS.values():
        assert all(task.protocol.stop), task.name
        assert task.source
