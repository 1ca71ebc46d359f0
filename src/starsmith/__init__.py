"""Starsmith: from source repositories to a code model you own and a completion that names its sources."""

__version__ = "0.1.0"
