"""Names of the columns in the tables of int64, sizes and addresses, by which a step is told what to do.

Numba keeps a type's name with the code that it keeps, and a table of numbers has none that a later version could lack.
A STRIDE is bytes from one row to the next, and LAYERS to KV_BYTES are as in the model's configuration.
"""

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]
Floats = NDArray[np.float32]
Levels = NDArray[np.int8]

# The plan, for all threads. The model's sizes; EPSILON is the bits of a float32, KV_BYTES those of a number in the pool
# (4 is float32, 2 is bfloat16), WINDOW positions that a token sees at most.
LAYERS, HEADS, KV_HEADS, HEAD_DIM, WINDOW, EPSILON, POOL_BLOCKS, BLOCK_TOKENS, KV_BYTES = range(9)
# Where its tables are, the row of the embedding, the rotations (float32), the pool, and the inner loops for attention,
# for 1 to MOST heads.
PRODUCTS, MATRICES, EMBEDDING, COSINES, SINES, KEYS, VALUES, SCORE_LOOPS, MIX_LOOPS = range(9, 18)
# What is read in the step: TOKENS ids, each with its position, the slot in the pool for its keys and values, and where
# in TABLES, the blocks of all sequences, those of its own begin; and the WANTED_TOKENS of which logits are wanted.
TOKENS, IDS, POSITIONS, SLOTS, STARTS, TABLES, WANTED_TOKENS, WANTED = range(18, 26)
# What the threads write for one another: queries, keys and values; what attention makes of them; and counters, a row of
# COUNTERS for each product, all 0 when the step begins.
PROJECTED, ATTENDED, DRAWN = range(26, 29)
PLAN = 29

# A product: the rows at SOURCE are prepared, multiplied with COUNT matrices from MATRIX on, and put beside each other
# at OUT, with what is at ADDED added (0: nothing). NORM is the address of a norm's weights, its biases behind them.
HOW, SOURCE, SOURCE_STRIDE, NORM, WIDTH, MATRIX, COUNT, OUT, OUT_STRIDE, ADDED, ADDED_STRIDE = range(11)
PRODUCT = 11
NORMALIZE, ATTEND, GELU, FINISH = range(4)  # HOW; FINISH is NORMALIZE, of the tokens of which logits are wanted
PRODUCTS_OF_A_LAYER, MATRICES_OF_A_LAYER = 4, 6

# A matrix. LOOPS and what is behind it are the addresses of the inner loops, for 1 to MOST tokens; SUMS are those of
# the rows, times SHIFT what the loop `i8` adds to a product too much (0: nothing).
KIND, WEIGHTS, SCALES, SUMS, BIAS, OUTPUTS, INPUTS, LOOPS = range(8)
MOST = 4  # activation rows at once: with ROWS, half of the 32 registers
ROWS = 4  # weight rows at once: enough sums under way to hide the latency of one
MATRIX_COLUMNS = LOOPS + MOST
F32, BF16, INT8, W8A8, INT4 = range(5)  # KIND: int8 and int4 are by weight only, w8a8 rounds the activations, too
GROUP = 64  # weights that share one scale where they have 4 bits; also the bytes in a vector
SHIFT = 128  # added to signed bytes to make them unsigned

PORTION = 32  # weight rows that a thread draws at once; the last portion may have almost twice as many

# What one thread has to itself: prepared rows in float32 and in int8 (levels) with a scale for each, eight times the
# sum of each group of levels, sums of a portion (MOST tokens after MOST tokens), and scores (MOST x positions).
OWN_ROWS, OWN_ROW_STRIDE, OWN_LEVELS, OWN_LEVEL_STRIDE, OWN_SCALES, OWN_GROUPS, OWN_GROUP_STRIDE = range(7)
OWN_SUMS, OWN_SCORES, OWN_SCORE_STRIDE = range(7, 10)
# Where the processor has tiles, the levels in their order, and the loops that bring them into it and multiply PORTION
# weight rows (0: there are none, and a loop of the matrix multiplies).
OWN_PACKED, PACK_LOOP, TILE_LOOP = range(10, 13)
OWN = 13
FEWEST_TILED = 2  # rows for which tiles are faster

COUNTERS = 8  # of a product: one for each matrix, then these
DRAW_HEADS, MEET_BEFORE, MEET_STORED, MEET_ATTENDED = range(4, 8)
