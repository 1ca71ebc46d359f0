"""Which training files a piece of code goes back to, and whether a chain of artefacts still holds."""
