"""StarCoder2 in plain PyTorch, with Hugging Face's tensor names, equal to transformers' logits.

Pre-norm blocks with LayerNorm, grouped-query attention, rotary positions and a GELU MLP, biases everywhere
(Lozhkov et al. 2024, arXiv 2402.19173, section 6.1).

Shapes: B batch, T new positions, S positions seen, H hidden, A heads, G key/value heads, D head width, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from starsmith.model.config import ModelConfig
from starsmith.model.kv_cache import KVCache


class Transformer(nn.Module):
    """Token ids to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.apply(self._initialize)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "c_proj.weight")):  # GPT-2: keeps the sum over layers at one scale
                parameter.data.div_((2 * config.num_hidden_layers) ** 0.5)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the output head the embedding again where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self, input_ids: Tensor, *, lengths: Sequence[int] | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """(B, T) ids to (B, T, V) logits; see `hidden`."""
        logits: Tensor = self.lm_head(self.hidden(input_ids, lengths=lengths, cache=cache))
        return logits

    def hidden(
        self, input_ids: Tensor, *, lengths: Sequence[int] | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """(B, T) ids to (B, T, H) normalised states.

        lengths  for training, with B = 1: lengths of the documents packed one after the other, their sum T. No
                 document sees another, and positions begin anew with each.
        cache    for generation: the ids follow the positions that are in it, and are added to it.
        """
        return self.model(input_ids, lengths, cache)  # type: ignore[no-any-return]

    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class _Body(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(self, input_ids: Tensor, lengths: Sequence[int] | None, cache: KVCache | None) -> Tensor:
        x: Tensor = self.dropout(self.embed_tokens(input_ids))
        rotation = self._rotation(x, lengths, cache.length if cache is not None else 0)
        for layer in self.layers:
            x = layer(x, rotation, lengths, cache)
        if cache is not None:
            cache.advance(input_ids.size(1))
        normed: Tensor = self.norm(x)
        return normed

    def _rotation(self, x: Tensor, lengths: Sequence[int] | None, past: int) -> tuple[Tensor, Tensor]:
        """(T, D) cosines and sines of the positions, computed in float32 whatever the model's type."""
        width = self.config.head_dim
        exponents = torch.arange(0, width, 2, dtype=torch.int64, device=x.device).float() / width
        frequencies = 1.0 / (self.config.rope_theta**exponents)
        positions = torch.arange(past, past + x.size(1), device=x.device)
        if lengths is not None:
            starts = torch.tensor([0, *lengths[:-1]], device=x.device).cumsum(0)
            positions = positions - starts.repeat_interleave(torch.tensor(lengths, device=x.device))
        with torch.autocast(x.device.type, enabled=False):
            angles = positions.float()[:, None] * frequencies[None, :]
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class _Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.self_attn = _Attention(config, index)
        self.mlp = _MLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], lengths: Sequence[int] | None, cache: KVCache | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation, lengths, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.use_bias)
        self.c_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.use_bias)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh")))
        return out


class _Attention(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.config, self.index = config, index
        heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, heads, bias=config.use_bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_heads, bias=config.use_bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_heads, bias=config.use_bias)
        self.o_proj = nn.Linear(heads, config.hidden_size, bias=config.use_bias)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], lengths: Sequence[int] | None, cache: KVCache | None
    ) -> Tensor:
        shape = (x.size(0), x.size(1), -1, self.config.head_dim)
        q_BATD = _rotate(self.q_proj(x).view(shape).transpose(1, 2), rotation)
        k_BGTD = _rotate(self.k_proj(x).view(shape).transpose(1, 2), rotation)
        v_BGTD = self.v_proj(x).view(shape).transpose(1, 2)
        if cache is not None:
            k_BGTD, v_BGTD = cache.append(self.index, k_BGTD, v_BGTD)
        if lengths is None:
            out_BATD = self._attend(q_BATD, k_BGTD, v_BGTD)
        else:
            out_BATD = self._attend_packed(q_BATD, k_BGTD, v_BGTD, lengths)
        out: Tensor = self.dropout(self.o_proj(out_BATD.transpose(1, 2).reshape(x.shape)))
        return out

    def _attend(self, q_BATD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
        """Causal attention of the last T of S positions, within the sliding window."""
        new, seen = q_BATD.size(2), k_BGSD.size(2)
        if new == 1 and not torch.is_grad_enabled():
            return self._attend_once(q_BATD, k_BGSD, v_BGSD)
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        k_BASD, v_BASD = k_BGSD.repeat_interleave(groups, 1), v_BGSD.repeat_interleave(groups, 1)
        causal = new == seen and not self._window_matters(seen)
        mask = None if causal else self._mask(new, seen, q_BATD.device)
        return functional.scaled_dot_product_attention(
            q_BATD,
            k_BASD,
            v_BASD,
            attn_mask=mask,
            is_causal=causal,
            dropout_p=self.config.attention_dropout if self.training else 0.0,
        )

    def _attend_once(self, q_BATD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> Tensor:
        """One new position: plain products, several times faster on a CPU than the general kernel."""
        if self.config.sliding_window is not None:
            k_BGSD, v_BGSD = k_BGSD[:, :, -self.config.sliding_window :], v_BGSD[:, :, -self.config.sliding_window :]
        q_BGAD = q_BATD.reshape(q_BATD.size(0), self.config.num_key_value_heads, -1, self.config.head_dim)
        scores = (q_BGAD @ k_BGSD.mT).float() * self.config.head_dim**-0.5
        out_BGAD: Tensor = scores.softmax(-1).to(v_BGSD.dtype) @ v_BGSD
        return out_BGAD.reshape(q_BATD.shape)

    def _attend_packed(self, q_BATD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, lengths: Sequence[int]) -> Tensor:
        """Each document by itself: half the time of one masked call on a CPU. Those of one length go together."""
        parts: list[Tensor] = [q_BATD] * len(lengths)
        splits = [torch.split(tensor, list(lengths), dim=2) for tensor in (q_BATD, k_BGTD, v_BGTD)]
        for members in _by_length(lengths):
            q, k, v = (torch.cat([split[member] for member in members]) for split in splits)
            for member, out in zip(members, torch.split(self._attend(q, k, v), 1), strict=True):
                parts[member] = out
        return torch.cat(parts, dim=2)

    def _window_matters(self, seen: int) -> bool:
        return self.config.sliding_window is not None and seen > self.config.sliding_window

    def _mask(self, new: int, seen: int, device: torch.device) -> Tensor:
        """(T, S) True where a position may look: at itself and the window - 1 before it (0 <= i - j < window)."""
        i = torch.arange(seen - new, seen, device=device)[:, None]
        j = torch.arange(seen, device=device)[None, :]
        allowed = j <= i
        if self.config.sliding_window is not None:
            allowed &= i - j < self.config.sliding_window
        return allowed


def _rotate(x_BATD: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864), first half against second half as Hugging Face does."""
    cos, sin = rotation
    first, second = x_BATD.chunk(2, dim=-1)
    return x_BATD * cos + torch.cat((-second, first), dim=-1) * sin


def _by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of the documents, grouped by equal length."""
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        groups.setdefault(length, []).append(position)
    yield from groups.values()
