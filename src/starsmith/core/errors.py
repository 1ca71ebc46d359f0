"""The errors a user can cause and mend; anything else that is raised is a bug and keeps its traceback.

StarsmithError            message: where, what was seen, what was wanted; hint: what to do next
 ├─ ConfigError           a recipe or `--set` names or types something wrong
 ├─ InputError            a path, folder or file given by the user cannot be used
 ├─ EngineError           a model, ours or an upstream's, cannot answer a request
 └─ ArtifactError         an artefact is missing, corrupt or of another kind
     └─ CheckpointError   a model directory that cannot be loaded as StarCoder2
"""


class StarsmithError(Exception):
    """Shown as two lines, `error: message` and ` hint: hint`, with exit status 1."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(StarsmithError):
    """A setting that does not exist, has the wrong type or contradicts another."""


class InputError(StarsmithError):
    """Something the user pointed at that is missing, empty or unreadable."""


class EngineError(StarsmithError):
    """A request that a model cannot answer, through no fault of whoever asks; the next one may go well."""


class ArtifactError(StarsmithError):
    """An artefact directory that is missing, incomplete, altered or of the wrong kind."""


class CheckpointError(ArtifactError):
    """A model directory whose configuration or tensors are not what StarCoder2 needs."""
