"""What goes wrong with one request is told to that one, and the engine answers the others."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from plain_runner import PlainRunner, asked, written
from starsmith.core.errors import EngineError, InputError
from starsmith.inference.local import LocalEngine
from starsmith.inference.runner import Chunk
from starsmith.inference.scheduler import Limits

SHORT = [1, 2, 3]


def test_a_request_that_never_fits_the_blocks_is_refused_and_one_that_just_does_is_answered() -> None:
    with LocalEngine(PlainRunner(blocks=4)) as engine:
        with pytest.raises(InputError, match=r"need 5 blocks .* has 4") as refused:
            engine.generate(asked(SHORT, max_tokens=63))

        assert "--kv-tokens" in refused.value.hint
        assert len(written(engine, SHORT, max_tokens=62)) == 62


class Failing(PlainRunner):
    """Has no numbers for token 9, and no memory for token 8."""

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        if any(8 in chunk.ids for chunk in chunks):
            raise MemoryError("32 GiB")
        logits = super().forward(chunks)
        return [row if 9 not in chunk.ids else row * torch.nan for row, chunk in zip(logits, chunks, strict=True)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_end_that_request_alone(temperature: float) -> None:
    with LocalEngine(Failing(), limits=Limits(prompt_tokens=16)) as engine:
        with pytest.raises(EngineError, match="not finite"):
            written(engine, [*[1] * 16, 9], temperature=temperature)  # a block is in the cache by then
        with pytest.raises(EngineError, match="not finite"):
            engine.score([1, 9, 1])

        assert len(written(engine, SHORT, max_tokens=1, temperature=temperature)) == 1
        assert engine.stats.failed == 2
        assert engine.stats.cached_blocks == 1  # nothing of those that failed


def test_a_runner_that_fails_ends_the_requests_of_that_step_and_the_engine_goes_on() -> None:
    with LocalEngine(Failing()) as engine:
        with pytest.raises(EngineError, match="MemoryError: 32 GiB"):
            written(engine, [8, 8])

        assert len(written(engine, SHORT, max_tokens=1)) == 1


class Forgetful(PlainRunner):
    def copy_block(self, source: int, target: int) -> None:
        raise RuntimeError("device lost")

    def close(self) -> None: ...


def test_a_failed_copy_forgets_everything_and_the_engine_goes_on() -> None:
    with LocalEngine(Forgetful()) as engine:
        written(engine, SHORT, max_tokens=10)
        with pytest.raises(EngineError, match="device lost"):
            written(engine, SHORT, max_tokens=10)

        assert len(written(engine, SHORT, max_tokens=10)) == 10
