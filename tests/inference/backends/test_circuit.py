"""When an upstream is asked again after a fault."""

from starsmith.inference.backends.circuit import FIRST_WAIT_S, LONGEST_ASKED_S, LONGEST_WAIT_S, Circuit


def test_a_fault_closes_the_way_for_longer_each_time_up_to_a_bound() -> None:
    circuit, now, waits = Circuit(), 100.0, []

    for _ in range(12):
        circuit.fail(now)
        waits.append(circuit.opens_at - now)
        assert not circuit.lets_pass(circuit.opens_at - 0.001)
        assert circuit.lets_pass(circuit.opens_at)
        now = circuit.opens_at

    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_one_request_at_a_time_tries_an_upstream_that_was_at_fault() -> None:
    circuit = Circuit()
    circuit.fail(0.0)

    assert circuit.begin()
    assert not circuit.lets_pass(1000.0)
    circuit.end_trial()
    assert circuit.lets_pass(1000.0)


def test_a_success_forgets_all_faults() -> None:
    circuit = Circuit()
    for _ in range(5):
        circuit.fail(0.0)

    circuit.succeed()
    assert circuit.healthy
    assert circuit.lets_pass(0.0)
    assert not circuit.begin()
    circuit.fail(0.0)

    assert circuit.opens_at == FIRST_WAIT_S


def test_an_upstream_may_ask_for_more_time_but_not_for_ever() -> None:
    circuit = Circuit()

    circuit.fail(0.0, asked_s=20.0)
    assert circuit.opens_at == 20.0
    circuit.fail(0.0, asked_s=1e9)

    assert circuit.opens_at == LONGEST_ASKED_S
