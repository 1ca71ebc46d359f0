"""The StarCoder2 architecture in plain PyTorch, and its checkpoints in the Hugging Face format."""
