"""Candidate and tests in one process, for tests that hand over functions or objects; no proof against cheating."""

from typing import NoReturn

from starsmith.evaluation.sandbox.inside import candidate, verdict


def run(program: dict[str, str], told: int) -> NoReturn:
    """The tests run in the candidate's names; the token keeps a blind write to all descriptors from being a verdict."""
    end: BaseException | None = None
    token = program["token"]
    try:
        names = candidate.load(program["candidate"])
        exec(compile(program["tests"], "<tests>", "exec", dont_inherit=True), names)  # noqa: S102
    except BaseException as error:  # noqa: BLE001  (whatever the program does is its end)
        end = error
    word, detail = verdict.judge(end)
    verdict.tell(told, word, detail, token)
