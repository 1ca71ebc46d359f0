"""What is named on the command line becomes a Service: a model directory of ours, or a backend."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsmith.core import artifact
from starsmith.core.errors import InputError
from starsmith.inference import drafting
from starsmith.inference.completion import Completer
from starsmith.inference.drafting import Deferred, RepositoryDrafts
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.fingerprints import DOCUMENTS
from starsmith.serving.attribution import Permissive, Policy, Rules, none_permissive
from starsmith.serving.cards import (
    ModelCard,
    check_model_id,
    default_model_id,
    foreign_model_id,
    read_card,
    server_model_id,
)
from starsmith.serving.service import Service, check_policies
from starsmith.serving.taints import Taints
from starsmith.serving.worker import Worker
from starsmith.tokenizer.bpe import Tokenizer

if TYPE_CHECKING:
    from starsmith.inference.loading import Weights

PARALLEL = 16  # requests that our engine has at once, in batches; more of them wait
PARALLEL_UPSTREAM = 128  # at a backend, which has a queue of its own; each costs a thread that waits here


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How our own engine is set up; a backend sets up itself."""

    weights: "Weights" = "auto"  # the form that they are computed in; auto: as they are stored
    kv_tokens: int | None = None  # room for the keys and values of so many; None: of two contexts
    repositories: Sequence[Path] = ()  # folders of code to guess ahead from


AS_STORED = Loading()


@dataclass(frozen=True, kw_only=True)
class _Index:
    """An opened index and what is done with what it finds; without one, nobody looks."""

    attributor: Attributor | None = None
    id: str | None = None
    rules: Rules = field(default_factory=lambda: Rules(policy="off"))


def open_service(
    model: Path,
    *,
    index: Path | None = None,
    model_id: str | None = None,
    policy: Policy | None = None,
    permissive: Permissive = none_permissive,
    loading: Loading = AS_STORED,
) -> Service:
    """Load a model directory, and the index if there is one. Who may ask, and the log, are `Service.guarded`'s.

    policy      of attribution, for clients that have none of their own; None: annotate if there is an index
    permissive  whether an SPDX expression is, for the policy block-nonpermissive
    """
    import torch

    from starsmith.inference.local import load_engine

    name = check_model_id(model_id) if model_id else default_model_id(model)
    found = _open_index(index, policy, permissive)
    check_folders(loading.repositories)
    engine = load_engine(model, loading.weights, kv_tokens=loading.kv_tokens)
    tokenizer = Tokenizer.load(model)
    drafting.prepare()
    folders = loading.repositories
    lookup = Deferred(lambda: RepositoryDrafts.read(tokenizer, folders)) if folders else None
    return Service(
        card=replace(read_card(model, name), device="cuda" if torch.cuda.is_available() else "cpu"),
        engine=engine,
        tokenizer=tokenizer,
        completer=Completer(engine, tokenizer, drafting=True, lookup=lookup),
        attributor=found.attributor,
        index_id=found.id,
        rules=found.rules,
        taints=Taints.of(model, *([index] if index else [])),
        worker=Worker(parallel=PARALLEL),
        close_engine=engine.close,
    )


def open_backend_service(
    targets: Sequence[str],
    *,
    index: Path | None = None,
    model_id: str | None = None,
    policy: Policy | None = None,
    permissive: Permissive = none_permissive,
) -> Service:
    """Open GGUF files and addresses, see `inference.backends.targets`; the rest is as for `open_service`."""
    from starsmith.inference.backends.balancer import Balancer
    from starsmith.inference.backends.targets import open_backend

    given = check_model_id(model_id) if model_id else None
    found = _open_index(index, policy, permissive)
    backend = open_backend(targets)
    if isinstance(backend, Balancer):
        card = ModelCard(id=given or _name_of(targets[0]), device="remote", backend=backend.name)
        upstreams = backend.health
    else:
        card = ModelCard(
            id=given or foreign_model_id(backend.name),
            created=int(backend.head.path.stat().st_mtime),
            backend="llama.cpp",
            context_tokens=backend.context_tokens,
        )
        upstreams = list  # it is in this process: who can ask after it knows how it does
    return Service(
        card=card,
        completer=backend,
        attributor=found.attributor,
        index_id=found.id,
        rules=found.rules,
        taints=Taints.of(*([index] if index else [])),
        worker=Worker(parallel=PARALLEL_UPSTREAM),
        upstreams=upstreams,
        close_engine=backend.close,
    )


def check_folders(folders: Sequence[Path]) -> None:
    """Refuse a folder of code that is none."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder", hint="give the folder of a repository with --repository")


def licenses_of(index: Path) -> set[str]:
    """Every licence of the documents in an index."""
    import pyarrow.parquet as pq

    return set(pq.read_table(index / DOCUMENTS, columns=["license"])["license"].unique().to_pylist())


def _open_index(index: Path | None, policy: Policy | None, permissive: Permissive) -> _Index:
    attributor = None if index is None else Attributor.open(index)
    check_policies([policy] if policy else [], attributor)
    if index is None:
        return _Index()
    everything = all(permissive(license_) for license_ in licenses_of(index))
    rules = Rules(policy=policy or "annotate", permissive=permissive, all_permissive=everything)
    return _Index(attributor=attributor, id=artifact.read(index).id, rules=rules)


def _name_of(target: str) -> str:
    """The id of the model behind several targets, or behind one that is not in this process: the first one's."""
    from starsmith.inference.backends.targets import SCHEMES, upstream_of

    if not target.lower().startswith(SCHEMES):
        return foreign_model_id(Path(target.partition("#")[0]).stem)
    upstream = upstream_of(target)
    return foreign_model_id(upstream.model) if upstream.model else server_model_id(upstream.url)
