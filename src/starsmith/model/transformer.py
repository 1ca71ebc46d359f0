"""StarCoder2 in plain PyTorch, with Hugging Face's tensor names, equal to transformers' logits.

Pre-norm blocks with LayerNorm, grouped-query attention, rotary positions and a GELU MLP, biases everywhere
(Lozhkov et al. 2024, arXiv 2402.19173, section 6.1).

Shapes: B batch, T new positions, S positions seen, H hidden, A heads, G key/value heads, D head width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from starsmith.model import attention
from starsmith.model.attention import Packing
from starsmith.model.config import ModelConfig
from starsmith.model.kv_cache import ChunkCache

Rotation = tuple[Tensor, Tensor]  # cosines and sines of the positions, (T, D) each


class Transformer(nn.Module):
    """Token ids to logits.

    checkpoint_layers  in training keep only each layer's input and compute the rest again for the gradients: a third
                       more work, a small part of the memory (Chen et al. 2016, arXiv 1604.06174)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False
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
        self, input_ids: Tensor, *, lengths: Sequence[int] | None = None, cache: ChunkCache | None = None
    ) -> Tensor:
        """(B, T) ids to (B, T, V) logits; see `hidden`."""
        logits: Tensor = self.lm_head(self.hidden(input_ids, lengths=lengths, cache=cache))
        return logits

    def hidden(
        self, input_ids: Tensor, *, lengths: Sequence[int] | None = None, cache: ChunkCache | None = None
    ) -> Tensor:
        """(B, T) ids to (B, T, H) normalised states.

        lengths  for training, with B = 1: lengths of the documents packed one after the other, their sum T. No
                 document sees another, and positions begin anew with each.
        cache    for generation, with B = 1: the ids are chunks of sequences whose earlier positions are in the cache.
        """
        return self.model(input_ids, lengths, cache, self.checkpoint_layers)  # type: ignore[no-any-return]

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

    def forward(
        self, input_ids: Tensor, lengths: Sequence[int] | None, cache: ChunkCache | None, checkpoint_layers: bool
    ) -> Tensor:
        x: Tensor = self.dropout(self.embed_tokens(input_ids))
        rotation = self._rotation(x, lengths, cache)
        packing = self._packing(x, lengths) if lengths is not None else None
        for layer in self.layers:
            if checkpoint_layers and cache is None and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, packing, cache, use_reentrant=False)
            else:
                x = layer(x, rotation, packing, cache)
        normed: Tensor = self.norm(x)
        return normed

    def _packing(self, x: Tensor, lengths: Sequence[int]) -> Packing:
        dropout = self.config.attention_dropout if self.training else 0.0
        way = attention.way_for(x, head_dim=self.config.head_dim, dropout=dropout)
        return attention.pack(lengths, way, window=self.config.sliding_window, device=x.device)

    def _rotation(self, x: Tensor, lengths: Sequence[int] | None, cache: ChunkCache | None) -> Rotation:
        """(T, D) cosines and sines of the positions."""
        positions = torch.arange(x.size(1), device=x.device) if cache is None else cache.positions
        if lengths is not None:
            starts = torch.tensor([0, *lengths[:-1]], device=x.device).cumsum(0)
            positions = positions - starts.repeat_interleave(torch.tensor(lengths, device=x.device))
        angles = rotary_angles(self.config, positions)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class _Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.self_attn = _Attention(config, index)
        self.mlp = _MLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)

    def forward(self, x: Tensor, rotation: Rotation, packing: Packing | None, cache: ChunkCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation, packing, cache)
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

    def forward(self, x: Tensor, rotation: Rotation, packing: Packing | None, cache: ChunkCache | None) -> Tensor:
        shape = (x.size(0), x.size(1), -1, self.config.head_dim)  # with tensor parallelism a rank has some heads
        q_BATD = _rotate(self.q_proj(x).view(shape).transpose(1, 2), rotation)
        k_BGTD = _rotate(self.k_proj(x).view(shape).transpose(1, 2), rotation)
        v_BGTD = self.v_proj(x).view(shape).transpose(1, 2)
        window = self.config.sliding_window
        dropout = self.config.attention_dropout if self.training else 0.0
        if cache is not None:
            out_BATD = cache.attend(self.index, q_BATD, k_BGTD, v_BGTD, window=window)
        elif packing is None:
            out_BATD = attention.attend(q_BATD, k_BGTD, v_BGTD, window=window, dropout=dropout)
        else:
            out_BATD = attention.attend_packed(q_BATD, k_BGTD, v_BGTD, packing, window=window, dropout=dropout)
        out: Tensor = self.dropout(self.o_proj(out_BATD.transpose(1, 2).flatten(2)))
        return out


def rotary_angles(config: ModelConfig, positions: Tensor) -> Tensor:
    """(T,) positions to (T, D / 2) angles, computed in float32 whatever the model's type."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=positions.device).float()
    frequencies = 1.0 / (config.rope_theta ** (exponents / config.head_dim))
    with torch.autocast(positions.device.type, enabled=False):
        return positions.float()[:, None] * frequencies[None, :]


def _rotate(x_BATD: Tensor, rotation: Rotation) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864), first half against second half as Hugging Face does."""
    cos, sin = rotation
    first, second = x_BATD.chunk(2, dim=-1)
    return x_BATD * cos + torch.cat((-second, first), dim=-1) * sin
