"""CRUXEval (Gu et al. 2024): what does this function return for an input (O), and which input gives this output (I)?

An answer is an expression somebody else wrote, so it runs in the sandbox, and it is compared outside of its process:
for O its value with the output; for I the arguments go to the function, which the answer never sees.
"""

import ast
from collections.abc import Sequence

from starsmith.evaluation.benchmarks.python_tests import parse
from starsmith.evaluation.problem import Problem, Protocol, Row, Task, Tests, cut_at

END = "[/ANSWER]"
ANSWER = "_answer"
NO_ANSWER = f"def {ANSWER}():\n    raise ValueError('no answer')\n"
PROTOCOL = Protocol(samples=20, temperature=0.2, top_p=0.95, max_tokens=256, stop=(END,))
SOURCE = "Lozhkov et al. 2024: few-shot prompts of CRUXEval without chain of thought, temperature 0.2"

# Prompts of facebookresearch/cruxeval (MIT licence), word for word: another wording is another benchmark.
ASK_OUTPUT = """You are given a Python function and an assertion containing an input to the function. Complete the \
assertion with a literal (no unsimplified expressions, no function calls) containing the output when executing the \
provided code on the given input, even if the function is incorrect or incomplete. Do NOT output any extra \
information. Provide the full assertion with the correct output in [ANSWER] and [/ANSWER] tags, following the examples.

[PYTHON]
def f(n):
    return n
assert f(17) == ??
[/PYTHON]
[ANSWER]
assert f(17) == 17
[/ANSWER]

[PYTHON]
def f(s):
    return s + "a"
assert f("x9j") == ??
[/PYTHON]
[ANSWER]
assert f("x9j") == "x9ja"
[/ANSWER]

[PYTHON]
{code}
assert f({input}) == ??
[/PYTHON]
[ANSWER]
"""
ASK_INPUT = """You will be given a function f and an output in the form f(??) == output. Find any input such that \
executing f on the input leads to the given output. There may be multiple answers, but you should only output one. In \
[ANSWER] and [/ANSWER] tags, complete the assertion with one such input that will produce the output when executing \
the function.

[PYTHON]
def f(my_list):
    count = 0
    for i in my_list:
        if len(i) % 2 == 0:
            count += 1
    return count
assert f(??) == 3
[/PYTHON]
[ANSWER]
assert f(["mq", "px", "zy"]) == 3
[/ANSWER]

[PYTHON]
def f(s1, s2):
    return s1 + s2
assert f(??) == "banana"
[/PYTHON]
[ANSWER]
assert f("ba", "nana") == "banana"
[/ANSWER]

[PYTHON]
{code}
assert f(??) == {output}
[/PYTHON]
[ANSWER]
"""


def output_problems(rows: Sequence[Row]) -> list[Problem]:
    """What comes out."""
    return [
        Problem(
            id=row["id"],
            prompt=ASK_OUTPUT.replace("{code}", row["code"]).replace("{input}", row["input"]),
            tests=(Tests(source=f"assert {ANSWER}() == ({row['output']})\n", entry_point=ANSWER),),
            reference=f"assert f({row['input']}) == {row['output']}",
        )
        for row in rows
    ]


def input_problems(rows: Sequence[Row]) -> list[Problem]:
    """What went in."""
    return [
        Problem(
            id=row["id"],
            prompt=ASK_INPUT.replace("{code}", row["code"]).replace("{output}", row["output"]),
            head=row["code"] + "\n\n",  # one task's input is made of variables that its code defines
            tests=(
                Tests(
                    source=f"{row['code']}\n\n_places, _names = {ANSWER}()\n"
                    f"assert f(*_places, **_names) == ({row['output']})\n",
                    entry_point=ANSWER,
                    mode="same" if "lambda" in row["input"] else "split",  # a function cannot cross; two tasks want one
                ),
            ),
            reference=f"assert f({row['input']}) == {row['output']}",
        )
        for row in rows
    ]


def answer_of(text: str) -> str:
    """The assertion in an answer, whatever stands around it."""
    return cut_at(text, (END,)).rpartition("[ANSWER]")[2].strip()


def output_candidate(problem: Problem, completion: str) -> str:  # noqa: ARG001 a task's candidate has both
    """A function that returns the value right of `==`, or the whole answer where it is no assertion."""
    answer = answer_of(completion)
    tree = parse(answer)
    statement = tree.body[0] if tree and len(tree.body) == 1 else None
    if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
        answer = ast.get_source_segment(answer, statement.test.comparators[-1]) or ""
    if not answer:
        return NO_ANSWER
    return f"def {ANSWER}():\n    return (\n{answer}\n)\n"


def input_candidate(problem: Problem, completion: str) -> str:
    """A function that returns the arguments of the call of f, places and names apart."""
    answer = answer_of(completion)
    tree = parse(answer)
    calls = [node for node in ast.walk(tree) if _calls_f(node)] if tree else []
    if not calls:
        return NO_ANSWER
    arguments = (ast.get_source_segment(answer, calls[0]) or "").partition("(")[2]
    call = f"(lambda *places, **names: (places, names))({arguments}"
    return f"{problem.head}def {ANSWER}():\n    return {call}\n"


def _calls_f(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f"


OUTPUT = Task(
    name="cruxeval-o",
    title="CRUXEval, output",
    files=("cruxeval.jsonl",),
    problems=output_problems,
    protocol=PROTOCOL,
    source=SOURCE,
    candidate=output_candidate,
)
INPUT = Task(
    name="cruxeval-i",
    title="CRUXEval, input",
    files=("cruxeval.jsonl",),
    problems=input_problems,
    protocol=PROTOCOL,
    source=SOURCE,
    candidate=input_candidate,
)
