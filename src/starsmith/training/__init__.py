"""Token shards in, a checkpoint out."""
