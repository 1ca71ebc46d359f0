"""An engine in, the protocols of editors, SDKs and browsers out."""
