"""Sessions: one person in one file, and a context that stays while that person types."""

import pytest
from fastapi import Request

from starsmith.serving.clients import ANYONE, ONE_CLIENT, Client
from starsmith.serving.sessions import StickyContexts, session_of
from starsmith.tokenizer.fim import Repository


def request_from(host: str, port: int = 1) -> Request:
    return Request({"type": "http", "client": (host, port), "headers": []})


OLD, NEW = Repository("r", "a.py", (("old.py", "old"),)), Repository("r", "a.py", (("new.py", "new"),))


def test_a_person_has_one_session_in_a_file_from_whatever_connection() -> None:
    ann = Client(name="ann")

    one = session_of(request_from("10.0.0.1", 1), ann, user=None, place="a.py")
    other = session_of(request_from("10.0.0.2", 2), ann, user="x", place="a.py")

    assert one == other


@pytest.mark.parametrize("name", [ANYONE, ONE_CLIENT])
def test_strangers_behind_one_address_are_not_taken_for_one_person(name: str) -> None:
    sessions = {
        session_of(request_from("10.0.0.1", port), Client(name=name), user=None, place="a.py") for port in (1, 2)
    }

    assert len(sessions) == 2


def test_this_machine_is_one_person() -> None:
    sessions = {
        session_of(request_from("127.0.0.1", port), Client(name=ANYONE), user=None, place="a.py") for port in (1, 2)
    }

    assert len(sessions) == 1


def test_a_user_cannot_pass_for_a_client_of_the_same_name() -> None:
    client = session_of(request_from("h"), Client(name="ann"), user=None, place="a.py")
    user = session_of(request_from("h"), Client(name=ANYONE), user="ann", place="a.py")

    assert client != user


@pytest.mark.parametrize(
    ("prefix", "suffix", "repository", "kept"),
    [
        ("x = 12", "y", NEW, OLD),
        ("x", "y", NEW, OLD),
        ("x = 12", "z", NEW, NEW),
        ("x = " + "1" * 2_000, "y", NEW, NEW),
        ("x = 12", "y", Repository("r", "b.py"), Repository("r", "b.py")),
    ],
)
def test_a_context_stays_while_the_cursor_goes_on_in_its_place(
    prefix: str, suffix: str, repository: Repository, kept: Repository
) -> None:
    contexts = StickyContexts()
    contexts.settle("s", "x = 1", "y", OLD)

    assert contexts.settle("s", prefix, suffix, repository) == kept


def test_the_context_of_the_session_used_least_lately_is_forgotten() -> None:
    contexts = StickyContexts(sessions=1)
    contexts.settle("s", "x", "y", OLD)
    contexts.settle("t", "x", "y", OLD)

    assert contexts.settle("s", "x", "y", NEW) == NEW
