"""`starsmith plan`: what a training run costs, before anyone pays for it; or what a budget buys."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from starsmith.cli.options import FILE, load_config

if TYPE_CHECKING:
    from starsmith.training.budget import Cluster, Plan, Workload
    from starsmith.training.scaling import Advice, Study

Row = tuple[str, str, str]
COLUMNS = ("", "figure", "how it comes about")
A_LITTLE, FARTHEST = 1.1, 1e4  # times the largest run of a study: within it, and more than its law can tell
SAME_SIZE = 0.2  # by which a shape may differ from the size that it is shown for


@click.command()
@click.argument("recipe", type=FILE, required=False)
@click.option("--gpus", type=int, default=8, show_default=True, metavar="N", help="How many GPUs.")
@click.option("--gpu", default="h100", show_default=True, metavar="KIND", help="a100-80gb, h100, h200, b200, l40s ...")
@click.option("--mfu", type=float, help="Useful share of the GPUs' bfloat16 peak; without it, 0.4 is assumed.")
@click.option("--price", type=float, metavar="MONEY", help="Of one GPU for one hour, to have the cost.")
@click.option("--flops", type=float, metavar="C", help="Instead of RECIPE: operations to spend.")
@click.option("--days", type=float, metavar="D", help="Instead of RECIPE: days on these GPUs to spend.")
@click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a setting of RECIPE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plan(
    recipe: Path | None,
    gpus: int,
    gpu: str,
    mfu: float | None,
    price: float | None,
    flops: float | None,
    days: float | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what training RECIPE takes: operations, memory of each GPU, days, cost.

    Without RECIPE, and with --flops or --days: which size and how many tokens suit that budget.
    """
    from starsmith.training.budget import ASSUMED_MFU, Cluster
    from starsmith.training.gpus import find_gpu

    if sum(value is not None for value in (recipe, flops, days)) != 1:
        raise click.UsageError("give one of RECIPE, --flops and --days")
    cluster = Cluster(gpu=find_gpu(gpu), gpus=gpus, mfu=ASSUMED_MFU if mfu is None else mfu, price=price)
    if recipe is None:
        _plan_budget(cluster, flops, days, as_json=as_json)
    else:
        _plan_recipe(recipe, overrides, cluster, assumed=mfu is None, as_json=as_json)


def _plan_recipe(recipe: Path, overrides: tuple[str, ...], cluster: "Cluster", *, assumed: bool, as_json: bool) -> None:
    from starsmith.core.console import table
    from starsmith.tokenizer.train import TokenizerConfig
    from starsmith.training import budget
    from starsmith.training.config import PretrainConfig

    vocabulary = load_config("tokenizer", TokenizerConfig, recipe, overrides)
    config = load_config("pretrain", PretrainConfig, recipe, overrides)
    work = budget.workload(config, vocab_size=vocabulary.vocab_size)
    found = budget.plan(work, cluster)
    if as_json:
        click.echo(json.dumps(_as_json(work, cluster, found), indent=1))
        return
    where = f"{recipe.name} on {cluster.gpus} x {cluster.gpu.name}"
    table(f"Work: {where}", COLUMNS, _work_rows(work, found), right=("figure",))
    table("Memory of each GPU", COLUMNS, _memory_rows(work, cluster, found), right=("figure",))
    table("Time", COLUMNS, _time_rows(work, cluster, found, assumed=assumed), right=("figure",))
    for line in _verdict(work, cluster, found):
        click.echo(line)


def _work_rows(work: "Workload", found: "Plan") -> list[Row]:
    model = work.model
    window = min(model.sliding_window or work.context_tokens, work.context_tokens)
    heads = f"{model.num_attention_heads} heads, {model.num_key_value_heads} for keys and values"
    return [
        ("parameters", _short(model.parameters), f"{model.parameters:,}: {model.num_hidden_layers} layers of "
         f"{model.hidden_size}, {heads}"),
        ("tokens", _short(found.tokens), f"{found.tokens / model.parameters:,.0f} a parameter"),
        ("batch", _short(work.step_tokens), f"{work.rows} rows of {work.row_tokens:,} tokens; "
         f"{found.rows_per_gpu} a step on each GPU{_together(work)}"),
        ("steps", f"{found.steps:,}", "tokens / batch"),
        ("operations", f"{found.flops:.2e}", "6 N D + attention: N weights in products, D tokens"),
        ("  of matrices", f"{found.matrix_flops:.2e}", f"6 x {model.matrix_parameters:,} x tokens"),
        ("  of attention", f"{found.attention_flops / found.flops:.0%}", "12 x layers x width x positions seen, if all "
         f"documents filled the context of {work.context_tokens:,}; window {window:,}"),
        *([("  of Muon", f"{found.orthogonalization_flops / found.flops:.1%}",
            "on top: Newton-Schulz steps, shared by the GPUs")] if work.muon else []),
    ]  # fmt: skip


def _memory_rows(work: "Workload", cluster: "Cluster", found: "Plan") -> list[Row]:
    from starsmith.training.budget import GIB, USABLE_SHARE

    memory = found.memory
    shards = cluster.gpus // work.tensor // work.replicas
    over = f"over {shards} GPUs" if shards > 1 else "on one GPU"
    activations = "inputs of the layers: activation checkpointing" if work.checkpointing else "all that autograd keeps"
    explained = {
        "weights": f"float32, 4 bytes a parameter, {over}",
        "gradients": f"float32, {over}",
        "optimizer": f"{'Muon: one moment, of the rest two' if work.muon else 'AdamW: two moments'}, {over}",
        "average": "moving average of the weights",
        "working_weights": f"{work.precision}, what is whole at a time",
        "activations": f"{activations}, of {work.row_tokens:,} tokens",
        "workspace": "one layer's backward pass" + (", and its forward pass again" if work.checkpointing else ""),
        "logits": "in pieces, and the gradients of the loss",
    }
    rows = [
        (name.replace("_", " "), f"{size / GIB:.2f} GiB", explained[name])
        for name, size in vars(memory).items()
        if size
    ]
    usable = f"{USABLE_SHARE:.0%} of {cluster.gpu.memory_gib} GiB is {found.usable_bytes / GIB:.1f}"
    total = ("total", f"{memory.total / GIB:.2f} GiB", f"{usable}: {'fits' if found.fits else 'DOES NOT FIT'}")
    return [*rows, total]


def _time_rows(work: "Workload", cluster: "Cluster", found: "Plan", *, assumed: bool) -> list[Row]:
    from starsmith.training.gpus import peak_of

    peak = peak_of(cluster.gpu, work.precision) / 1e12
    origin = "assumed, not measured: see below" if assumed else "as given"
    speed = found.tokens / found.seconds
    hours = cluster.gpus * found.seconds / 3600
    rows = [
        ("MFU", f"{cluster.mfu:.0%}", f"{origin}; of {peak:,.0f} TFLOP/s dense ({cluster.gpu.source})"),
        ("speed", f"{_short(speed)}/s", f"tokens; {speed / cluster.gpus:,.0f} a second on each GPU"),
        ("step", f"{found.seconds / found.steps:.2f} s", ""),
        ("network", f"{found.network_bytes_per_second / 1e9:.0f} GB/s", "into each GPU, or sharding slows the run"),
        ("days", f"{found.days:,.1f}", "without stops, evaluations and saved states"),
        ("GPU-hours", f"{hours:,.0f}", ""),
    ]
    if found.cost is not None:
        rows.append(("cost", f"{found.cost:,.0f}", f"at {cluster.price:g} a GPU-hour"))
    return rows


def _verdict(work: "Workload", cluster: "Cluster", found: "Plan") -> list[str]:
    """What to do next."""
    lines = [
        "An MFU is measured, not promised: run 50 steps, read it in run/metrics.jsonl, then plan with --mfu.",
        "(torchtitan published 33 to 39 % for Llama 3.1 8B in bfloat16 on 8 and 128 H100s.) Memory is an upper bound",
        "for compiled layers.",
    ]
    if not found.fits and found.remedies:
        lines += ["It does not fit. Any one of these would:", *(f"  {remedy}" for remedy in found.remedies)]
    elif not found.fits:
        lines += [
            "It does not fit, and nothing that was tried would do: shorter rows, checkpointing, more or larger GPUs."
        ]
    elif work.checkpointing and _fits_without(work, cluster):
        lines += [
            "It fits without checkpointing too, which saves a quarter of the real work (MFU does not count the layers'",
            "second forward pass): --set pretrain.activation_checkpointing=false",
        ]
    return lines


def _fits_without(work: "Workload", cluster: "Cluster") -> bool:
    from dataclasses import replace

    from starsmith.training.budget import plan as planned

    return planned(replace(work, checkpointing=False), cluster).fits


def _as_json(work: "Workload", cluster: "Cluster", found: "Plan") -> dict[str, Any]:
    return {
        "gpu": cluster.gpu.name,
        "gpus": cluster.gpus,
        "mfu": cluster.mfu,
        "parameters": work.model.parameters,
        "step_tokens": work.step_tokens,
        "flops": found.flops,
        **asdict(found),
        "memory_bytes": found.memory.total,
        "fits": found.fits,
        "days": found.days,
    }


def _plan_budget(cluster: "Cluster", flops: float | None, days: float | None, *, as_json: bool) -> None:
    from starsmith.core.console import table
    from starsmith.core.errors import InputError
    from starsmith.training import scaling
    from starsmith.training.budget import SECONDS_A_DAY

    if flops is None:
        assert days is not None
        flops = cluster.flops("bfloat16") * days * SECONDS_A_DAY
    if not 0 < flops < scaling.LARGEST_BUDGET:
        raise InputError(f"a budget of {flops:g} operations is none", hint="give, for example, --flops 1e21")
    study = scaling.own_study()
    advice = None if study is None else study.advise(flops)
    if as_json:
        click.echo(json.dumps({"flops": flops, "advice": None if advice is None else asdict(advice)}, indent=1))
        return
    seconds = flops / cluster.flops("bfloat16")
    time = f"{seconds / SECONDS_A_DAY:,.2g} days of {cluster.gpus} x {cluster.gpu.name} at {cluster.mfu:.0%}"
    rows = [("budget", f"{flops:.2e}", f"operations: {time} of the peak")]
    rows += [*_advice_rows(study, advice), *_rule_rows(flops)]
    table("What the budget buys", COLUMNS, rows, right=("figure",))
    if study is None:
        click.echo("No scaling study has been recorded, so there is no law of our own to suggest a size by.")
        click.echo("Run one: python benchmarks/scaling.py --record")
    click.echo("These sizes have the lowest loss for the training alone. A model that many use is trained smaller and")
    click.echo("longer, for each completion costs less: StarCoder2-3B read 1,000 tokens for each parameter.")


def _advice_rows(study: "Study | None", advice: "Advice | None") -> list[Row]:
    if study is None or advice is None:
        return []
    runs = f"the study's largest run ({study.largest:.1e}; {len(study.runs)} runs, {study.date})"
    if advice.beyond > FARTHEST:
        return [("size, by our study", "-", f"too far: {advice.beyond:.0e} times beyond {runs}")]
    low, high = (_short(size) for size in advice.parameters_interval)
    far = f"EXTRAPOLATED {advice.beyond:.3g} times beyond" if advice.beyond > A_LITTLE else "within"
    return [
        ("size, by our study", _short(advice.parameters), f"95 % of resampled fits: {low} to {high}"),
        ("tokens", _short(advice.tokens), f"{advice.tokens / advice.parameters:.3g} a parameter"),
        ("loss", f"{advice.loss:.3f}", f"{study.unit} on held-out files of the study's corpus"),
        ("", "", f"{far} {runs}"),
    ]


def _rule_rows(flops: float) -> list[Row]:
    from starsmith.training.scaling import RULE_TOKENS_PER_PARAMETER, shape_for

    size = (flops / 6 / RULE_TOKENS_PER_PARAMETER) ** 0.5
    rule = f"{RULE_TOKENS_PER_PARAMETER} tokens a parameter, on web text (Hoffmann et al. 2022)"
    rows = [("size, by rule of thumb", _short(size), rule), ("tokens", _short(flops / 6 / size), "")]
    shape = shape_for(size)
    if abs(shape.matrix_parameters / size - 1) < SAME_SIZE:  # not where StarCoder2's vocabulary alone is larger
        rows.append(("a shape of this size", "", f"hidden_size = {shape.hidden_size}, layers = "
                     f"{shape.num_hidden_layers}, heads = {shape.num_attention_heads}, "
                     f"kv_heads = {shape.num_key_value_heads}"))  # fmt: skip
    return rows


def _together(work: "Workload") -> str:
    return f" or each {work.tensor} that share the layers" if work.tensor > 1 else ""


def _short(number: float) -> str:
    """3.03 B, 15.96 B: up to four digits and a letter for the thousands."""
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g} {letter}"
    return f"{number:.3g}"
