"""Compiled code for steps of a few tokens, which PyTorch's operations are too coarse for."""
