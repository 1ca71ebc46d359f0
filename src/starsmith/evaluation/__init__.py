"""A checkpoint in, figures that can be checked out."""
