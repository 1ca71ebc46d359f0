"""The columns of a corpus: what every stage reads (core.records), and what governs, explains and weighs a file."""

import pyarrow as pa

from starsmith.core import records

GOVERNANCE = pa.schema(
    [
        ("kind", pa.string()),  # "code", "notebook", "issue", ...
        ("size_bytes", pa.int64()),  # of the content as its repository has it
        ("stars", pa.int32()),
        ("date", pa.string()),  # of the revision, ISO 8601
        ("cluster", pa.string()),  # SWHID of the file that stands for its exact and near-duplicates; null without any
        ("cluster_size", pa.int32()),  # files that it stands for, itself among them
        ("redactions", pa.int32()),  # values that were replaced in `text`
        ("comment_ratio", pa.float32()),  # share of characters in comments; null where the syntax is not known
        ("average_line", pa.float32()),  # characters
        ("alphabetic_share", pa.float32()),
        ("characters_per_token", pa.float32()),  # per code token: the fertility that any tokenizer is bounded by
        ("is_test", pa.bool_()),
        ("weight", pa.float32()),  # for sampling; 1 is the natural distribution
    ]
)
SCHEMA = pa.schema([*records.SCHEMA, *GOVERNANCE])

# Between the two halves of the work: what the first half knows, and what duplicates are decided by.
STAGED = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in ("split", "cluster", "cluster_size", "redactions", "weight")),
        ("identity", pa.string()),  # equal for exact duplicates
        ("license_rank", pa.int8()),  # 0 permissive, 1 allowed otherwise, 2 none found
        ("keys", pa.list_(pa.uint64())),  # of the similarity sketch; empty for a text of few words
    ]
)
