"""Repositories in, a governed corpus out: every file kept or dropped for a stated reason."""
