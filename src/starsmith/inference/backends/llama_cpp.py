"""Any model that llama.cpp runs, from its GGUF file, as a `TextEngine`: Code Llama, DeepSeek-Coder, Qwen-Coder ...

llama.cpp comes with the `xllamacpp` wheel as a server in this process. It listens on this machine only, and answers
nobody without the secret that is made here. Prompts go to it as ids, of texts that it has encoded itself: so a control
token that stands in a user's file stays text. Hanging up is how a request is ended, which it notices at the next token.
"""

import secrets
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starsmith.core.errors import ConfigError, EngineError, InputError
from starsmith.inference.backends import gguf_file
from starsmith.inference.backends.assembly import Told, Wanted, assemble
from starsmith.inference.backends.event_streams import EventClient, Timeouts, nonsense, parse_json
from starsmith.inference.backends.gguf_file import GgufHead
from starsmith.inference.backends.sessions import Sessions
from starsmith.inference.backends.templates import Around, Template, fit
from starsmith.inference.completion import CompletionRequest, FinishReason
from starsmith.inference.engine import SamplingParams, never
from starsmith.inference.text_engine import TextChunk, TextCompletion, TextToken, Usage, join
from starsmith.tokenizer import fim

MOST_CONTEXT_TOKENS = 8192  # unless told: keys and values of what a model was trained to may not fit into memory
BATCH_TOKENS = 512  # of a prompt read at once; between two such pieces a request that was ended is let go
CACHE_MIB = 512  # for prompts of sessions that have lost their slot; llama.cpp's own choice is 8 GiB
CHARACTERS_PER_TOKEN = 16  # no code has more: text beyond that cannot fit, and need not be encoded
SPARE_BYTES = 256 * 2**20  # for what is computed on the way
QUIET = 1  # llama.cpp's level of logging: errors only
SEEDS = 2**32 - 1  # llama.cpp's seeds are below; the number itself means a random one
LEADING = "☺"  # in front of a suffix, so that SentencePiece does not put a space before it
ENDS: dict[str, FinishReason] = {"limit": "length"}  # every other way to stop is the model's or a stop string's
TIMES = Timeouts(connect_s=5.0, first_token_s=600.0, next_token_s=120.0, check_s=60.0)  # a processor may be slow


@dataclass(frozen=True, kw_only=True)
class LlamaCppConfig:
    """How to run a file."""

    context_tokens: int | None = None  # prompt and completion together; None: as trained, up to MOST_CONTEXT_TOKENS
    parallel: int = 2  # requests at once; each has keys and values for a whole context
    threads: int | None = None  # None: llama.cpp's choice
    template: Template | None = None  # infilling format; None: the one that the file tells
    timeouts: Timeouts = field(default=TIMES)

    def __post_init__(self) -> None:
        if self.parallel < 1 or (self.context_tokens is not None and self.context_tokens < 1):
            seen = f"parallel={self.parallel}, context_tokens={self.context_tokens}"
            raise ConfigError(f"{seen}: both must be at least 1", hint="give 1 or more")


class LlamaCppBackend:
    """One GGUF file."""

    def __init__(self, path: Path, config: LlamaCppConfig | None = None) -> None:
        config = config or LlamaCppConfig()
        self.head = gguf_file.read(path)
        self.name = self.head.name
        self.template = config.template or self.head.template
        trained = min(self.head.context_tokens or MOST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS)
        self.context_tokens = config.context_tokens or trained
        check_memory(self.head, self.context_tokens * config.parallel)
        self._controls = self.head.controls(self.template) if self.template else None
        self._sessions = Sessions()
        secret = secrets.token_urlsafe()
        self._server = _start(self.head, self.context_tokens, config, secret)
        self._client = EventClient(
            self._server.listening_address,
            name=f"llama.cpp with {self.name}",
            headers={"Authorization": f"Bearer {secret}"},
            timeouts=config.timeouts,
        )
        try:
            self._opening = self._encode("", begin=True)  # the ids that every prompt of this model begins with
            self._leading = len(self._encode(LEADING))
        except EngineError:
            self.close()
            raise

    def stream(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> Generator[TextChunk]:
        """See `TextEngine.stream`."""

        def ask(ended: Callable[[], bool]) -> Generator[Told]:
            body = {"prompt": self.prompt_ids(request), "stop": stops, **sampling_fields(request.params)}
            # As text they are seen among the stops, which is not where llama.cpp itself ends for all of them.
            with closing(self._client.events("/completion", {**body, "preserved_tokens": ends}, ended)) as events:
                for data in events:
                    yield parse_event(data, self._client.name)

        ends = self.template.ends if self.template else ()
        stops = [*request.stop, *ends]
        ended = self._sessions.enter(request.session, cancelled)
        return assemble(ask, Wanted(request, ends, self._client.name), ended)

    def complete(self, request: CompletionRequest, cancelled: Callable[[], bool] = never) -> TextCompletion:
        """See `TextEngine.complete`."""
        return join(self.stream(request, cancelled))

    def prompt_ids(self, request: CompletionRequest) -> list[int]:
        """The ids after which the model writes; what does not fit beside max_tokens is left out far from the cursor."""
        room = max(self.context_tokens - request.params.max_tokens, self.context_tokens // 2) - len(self._opening)
        if request.suffix is not None:
            return self._infill(request, request.suffix, room)
        if isinstance(request.prefix, str):
            shown = request.prefix[-room * CHARACTERS_PER_TOKEN :]
            ids = self._encode(shown, special_tokens=request.special_tokens)
        else:
            ids = list(request.prefix)
        return [*self._opening, *ids[-room:]] or [self.head.end_token]

    def check(self) -> None:
        """Raise UpstreamError if llama.cpp does not answer."""
        self._client.call("GET", "/health")

    def close(self) -> None:
        """Stop llama.cpp, and give its memory back."""
        self._client.close()
        self._server = None

    def _infill(self, request: CompletionRequest, suffix: str, room: int) -> list[int]:
        if self.template is None or self._controls is None:
            raise InputError(f"{self.name} has no infilling format that is known", hint="complete without a suffix")
        if not isinstance(request.prefix, str):
            raise InputError("ids and a suffix: the ids are not of our vocabulary", hint="give the text before it")
        before, typed = fim.split_prefix(request.prefix, request.layout)
        most = max(room, 1) * CHARACTERS_PER_TOKEN
        around = Around(
            self._encode(before[-most:]), self._encode_inside(suffix[:most]), self._encode_inside(typed[-most:])
        )
        around = fit(around, room - sum(map(len, self._controls)))
        parts = self.template.arrange(around, self._controls, request.layout)
        return [*self._opening, *(token for part in parts for token in part)]

    def _encode_inside(self, text: str) -> list[int]:
        """Ids of a text that stands behind a control token."""
        return self._encode(LEADING + text)[self._leading :] if text else []

    def _encode(self, text: str, *, special_tokens: bool = False, begin: bool = False) -> list[int]:
        body = {"content": text, "add_special": begin, "parse_special": special_tokens}
        answer = self._client.call("POST", "/tokenize", body)
        try:
            return [int(token) for token in answer["tokens"]]
        except (TypeError, KeyError, ValueError):
            raise nonsense(self._client.name, answer) from None


def check_memory(head: GgufHead, tokens: int) -> None:
    """Refuse what would not fit: the system ends a process that takes too much, and everything in it."""
    needed = head.weights_bytes + head.kv_bytes(tokens) + SPARE_BYTES
    free = _free_bytes()
    if free is not None and needed > free:
        seen = f"{head.path} with {tokens:,} tokens of context needs {needed / 2**30:.1f} GiB"
        raise EngineError(f"{seen}, and {free / 2**30:.1f} GiB are free", hint="give a smaller context or file")


def _free_bytes() -> int | None:
    """Memory that could be had without swapping, where the system tells."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("MemAvailable:")]
        return int(line.split()[1]) * 1024
    return None


def _start(head: GgufHead, context_tokens: int, config: LlamaCppConfig, secret: str) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        hint = "pip install 'starsmith[llama-cpp]'"
        raise ConfigError(f"{head.path} needs llama.cpp, which is not installed: {error}", hint=hint) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(head.path)
    params.n_ctx, params.n_parallel = context_tokens * config.parallel, config.parallel
    params.n_batch = BATCH_TOKENS
    params.fit_params = params.warmup = params.ui = params.endpoint_slots = False
    params.cache_ram_mib, params.verbosity = CACHE_MIB, QUIET
    params.hostnames, params.port, params.api_keys, params.offline = ["127.0.0.1"], 0, [secret], True
    if config.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config.threads
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, MemoryError):  # it has said why on stderr
        kind = head.architecture or "unknown"
        hint = "see its own message above; it may be too old for this model, or short of memory"
        raise EngineError(f"llama.cpp cannot load {head.path} (architecture {kind})", hint=hint) from None


def sampling_fields(params: SamplingParams) -> dict[str, Any]:
    """What chooses tokens, in our order, and none of what llama.cpp would do beside it."""
    fields = {
        "n_predict": params.max_tokens,
        "samplers": ["temperature", "top_k", "top_p"],
        "temperature": params.temperature,
        "top_k": params.top_k or 0,
        "top_p": params.top_p,
        "cache_prompt": True,
        "return_tokens": True,
        "stream": True,
    }
    if params.seed is not None:
        fields["seed"] = params.seed % SEEDS
    if params.top_logprobs is not None:
        fields["n_probs"] = max(params.top_logprobs, 1)  # with 0 it would tell nothing of the chosen one
    return fields


def parse_event(data: str, name: str) -> Told:
    """One event of llama.cpp's own `/completion`."""
    value = parse_json(data, name)
    try:
        text, ids = str(value["content"]), [int(token) for token in value["tokens"]]
        tokens = tuple(map(_token_of, value.get("completion_probabilities") or ()))
        if not tokens and ids:  # a character's last token shows it
            tokens = (*(TextToken("", number) for number in ids[:-1]), TextToken(text, ids[-1]))
        if not value["stop"]:
            return Told(text=text, tokens=tokens)
        usage = Usage(
            prompt_tokens=int(value["tokens_evaluated"]),
            completion_tokens=int(value["tokens_predicted"]),
            cached_tokens=int(value["timings"]["cache_n"]),
        )
        return Told(text=text, tokens=tokens, finish=ENDS.get(value["stop_type"], "stop"), usage=usage)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise nonsense(name, data) from None


def _token_of(entry: dict[str, Any]) -> TextToken:
    others = tuple((str(other["token"]), float(other["logprob"])) for other in entry["top_logprobs"])
    return TextToken(str(entry["token"]), int(entry["id"]), float(entry["logprob"]), others)
