"""`starsmith quantize`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import DIRECTORY, out_option

if TYPE_CHECKING:
    from starsmith.model.quantization import Kind

KINDS = ("w8a8", "int8", "int4")  # of model.quantization, which help need not load


@click.command()
@click.argument("model", type=DIRECTORY)
@click.option("--weights", type=click.Choice(KINDS), default="w8a8", show_default=True, help="How to round them.")
@click.option("--corpus", type=DIRECTORY, help="Measure on its held-out files; by default on those of MODEL's corpus.")
@click.option("--no-report", is_flag=True, help="Measure nothing.")
@click.option(
    "--bytes", "size", type=click.IntRange(1), default=300_000, show_default=True, help="Held-out text scored."
)
@click.option("--infills", type=click.IntRange(1), default=200, show_default=True, help="Holes filled.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@out_option
def quantize(
    model: Path,
    weights: "Kind",
    corpus: Path | None,
    no_report: bool,
    size: int,
    infills: int,
    as_json: bool,
    out: Path,
) -> None:
    """Round MODEL's weights to fewer bits, and say what that costs and gains.

    w8a8: int8 weights and activations, the fastest. int8, int4: weights only; int4 is the smallest.
    """
    from starsmith.model import checkpoint, quantized
    from starsmith.tokenizer.bpe import FILE_NAME

    checkpoint.load_config(model)  # what is no model is said before the files to measure it on are looked for
    held_out = None if no_report else _corpus_of(model, corpus)
    config = quantized.QuantizeConfig(weights=weights)
    quantized.run(config, model=model, tokenizer_file=model / FILE_NAME, out=out)
    found = _cost(model, out, held_out, size, infills) if held_out is not None else None
    if as_json:
        click.echo(json.dumps({"out": str(out), "weights": weights, "cost": found}))
    else:
        click.echo(out)
        if found is not None:
            _show(found, weights)


def _corpus_of(model: Path, corpus: Path | None) -> Path:
    from starsmith.core import ancestry
    from starsmith.core.errors import ArtifactError

    try:
        return corpus or ancestry.ancestor_directory(model, "corpus")
    except ArtifactError as error:
        raise ArtifactError(error.message, hint="give --corpus DIR to measure on, or --no-report") from None


def _cost(model: Path, out: Path, corpus: Path, size: int, infills: int) -> dict[str, Any]:
    from starsmith.evaluation.quantization import LossConfig, cost_of

    return cost_of(model, out, corpus=corpus, config=LossConfig(held_out_bytes=size, infills=infills))


def _show(found: dict[str, Any], weights: str) -> None:
    from starsmith.core.console import table

    exact = found["exact_share"]
    low, high = exact["difference_95"]
    rows = [
        ("bits per byte, held out", found["bits_per_byte"], ""),
        ("infills exact", exact, f"{exact['lost']} lost, {exact['gained']} gained: {low:+.3f} to {high:+.3f}"),
        ("bytes of weights", found["size_bytes"], ""),
        ("prompt tokens a second", found["prefill_tokens_per_s"], ""),
        ("ms a written token", found["decode_ms"], ""),
    ]
    shown = [
        (name, f"{pair['before']:,}", f"{pair['after']:,}", f"{pair['ratio']:.3f}", more) for name, pair, more in rows
    ]
    table(f"weights as {weights}", ("", "before", "after", "ratio", "95 %"), shown, right=("before", "after", "ratio"))
