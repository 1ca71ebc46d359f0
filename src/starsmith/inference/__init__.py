"""A checkpoint and a prompt in, tokens out."""
