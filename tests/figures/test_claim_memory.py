"""What must be held bounds the peaks from below, and what may be held from above; numbers of states, not of bytes."""

import numpy as np
import pytest

from figures import memory

WAYS = list(memory.WAYS)


@pytest.fixture(params=["kept", "fast"])
def drawn(request, kept, data):
    return kept("memory") if request.param == "kept" else data("memory")


def over_steps(drawn, name):
    return drawn["states"][WAYS.index(name)]


def levels(steps, room):
    """The smallest p with room^p >= steps: as often stretches are divided until they are single steps."""
    return np.ceil(np.log(steps) / np.log(room) - 1e-9)


@pytest.mark.parametrize(("name", "least"), [("steps kept", 1), ("stages kept", 7)])
def test_what_is_kept_of_every_step_is_held(drawn, name, least):
    """Of RK45: its state, and six slopes as large."""
    assert np.all(over_steps(drawn, name) >= least * drawn["steps"])


@pytest.mark.parametrize(("name", "least"), [("steps kept", 1), ("stages kept", 7)])
def test_the_printed_constant_is_that_of_a_straight_line(drawn, name, least):
    """What is kept is held once at a time, in an array that has up to an eighth to spare."""
    steps, states, rate = drawn["steps"], over_steps(drawn, name), drawn["per_step"][WAYS.index(name)]
    assert least <= rate <= 9 / 8 * least * 1.05
    assert np.all(abs(np.diff(states) / np.diff(steps) / rate - 1) < 0.1)


def test_P05_solving_back_holds_nothing_of_the_steps(drawn):
    """Peaks differ by what one step is worked out from, at most: seven slopes of z and of a."""
    steps, states = drawn["steps"], over_steps(drawn, "solved back")
    assert steps[-1] > 6 * steps[0]
    assert np.ptp(states) < 14


def test_checkpoints_hold_as_many_states_a_level_and_the_times(drawn):
    """A number in a list and again in an array takes 40 bytes, and a list has an eighth to spare: less than 64."""
    steps, states, room = drawn["steps"], over_steps(drawn, "checkpoints"), drawn["checkpoints"]
    times = 64 * steps / (1e3 * drawn["state_kb"])
    others = 14  # as above: the first spans have steps so long that less is worked out
    assert np.all(states <= states[0] + room * (levels(steps, room) - 1) + times + others)


def test_over_a_thousand_steps_the_ways_lie_far_apart(kept):
    drawn = kept("memory")
    ends = dict(zip(WAYS, drawn["states"][:, -1], strict=True))
    assert drawn["steps"][-1] > 1000
    assert ends["stages kept"] > 5 * ends["steps kept"]
    assert ends["steps kept"] > 10 * max(ends["checkpoints"], ends["solved back"])


def test_E19_every_layer_is_held(drawn):
    """By what undoes f: its output at least, and with the slope of its activation and one of them in the making three.

    By backpropagation for every stage of RK4. The first layer reads two numbers, not the output of another.
    """
    layers = drawn["layers"]
    for name, outputs, least, rate in zip(memory.FLAT, drawn["outputs"], (4, 1), drawn["per_layer"], strict=True):
        assert np.all(outputs >= least * layers), name
        assert least <= rate <= 3 * least, name
        assert np.all(abs(np.diff(outputs) / np.diff(layers)[None, :] / rate - 1)[:, 1:] < 0.05), name


def test_E19_many_more_steps_are_worth_one_layer(drawn):
    """16 states more at the checkpoints, each 2/32 of an output, are one; solving back holds none of them.

    A quarter of an output, 64 kB, is for times and what Python itself takes for a solve.
    """
    fewer, more = drawn["outputs"][:, 0], drawn["outputs"][:, 1]
    states = (drawn["checkpoints"], 0)
    for name, grown, state in zip(memory.FLAT, more - fewer, states, strict=True):
        assert np.all(abs(grown) < state * 2 / drawn["width"] + 0.25), name


def test_the_curves_are_the_data(kept, light):
    drawn = kept("memory")
    left, right = memory.draw(drawn).axes
    for line, states in zip(left.lines, drawn["states"], strict=True):
        assert np.array_equal(line.get_xydata(), np.stack([drawn["steps"], states], axis=1))
    heights = [line.get_ydata() for line in right.lines]
    assert np.array_equal(heights[0], drawn["layers"])
    assert np.array_equal(heights[1:], drawn["outputs"][:, ::-1].reshape(4, -1))


def test_the_peak_sees_what_is_held():
    """The oracle of all the above: of two solves of equal steps the one that keeps states holds that many more."""
    z0, options = np.ones((memory.BATCH, 2)), {"method": "RK4", "step": 1 / 200}
    (less, n), (more, _) = (
        memory.peak(memory.Pendulum(), z0, memory.SWING, 1.0, "discrete", keep, **options)
        for keep in ("times", "steps")
    )
    assert n == 200
    assert more - less > (200 - 2 * 16) * z0.nbytes
