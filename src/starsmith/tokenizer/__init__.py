"""Text to token ids and back, and the one place that knows the fill-in-the-middle format."""
