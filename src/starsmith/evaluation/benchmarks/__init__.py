"""One file for each benchmark: how its rows become problems, and the protocol of its published scores."""
