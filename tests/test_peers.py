"""The peers of the work-precision table compute what refode computes, and the table's own arithmetic."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from benchmarks import bench_peers
from benchmarks.peers import cases, refode_, report, timing

TOL = 1e-9  # of every solve here; three digits are left for what a step's error becomes in a gradient
SMALL = {
    "observed": ((2, 8, 6, 2), False, 3, np.array([0.0, 0.3, 1.0])),
    "flow": ((2, 8, 2), True, 3, None),
}


def small(name):
    return cases.problem(name, *SMALL[name], np.random.default_rng(0))


@pytest.mark.parametrize("problem", SMALL)
@pytest.mark.parametrize("library", ["refode", "diffrax", "torchdiffeq", "autograd"])
def test_every_side_has_refodes_loss_and_gradient(library, problem):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install .[peers]")
    case = small(problem)
    want = refode_.reference(case)
    sides = import_module(f"benchmarks.peers.{library}_").sides(case)
    assert sides
    for name, side in sides.items():
        got = side.read(side.at(TOL)())
        assert got.theta.shape == case.theta.shape, name
        assert got.z0.shape == case.z0.shape, name
        assert abs(got.value - want.value) < 1e-6 * abs(want.value), name
        assert cases.error(got, want) < 1e-6, name


@pytest.mark.parametrize("gone", bench_peers.LIBRARIES[1:])
def test_a_library_that_is_not_installed_is_named_and_left_out(gone, monkeypatch, capsys):
    def found(name):
        if name == f"peers.{gone}_":
            raise ModuleNotFoundError(f"No module named {gone!r}", name=gone)
        return name

    monkeypatch.setattr(bench_peers, "import_module", found)
    others = [f"peers.{library}_" for library in bench_peers.LIBRARIES if library != gone]
    assert bench_peers.available(bench_peers.LIBRARIES) == others
    assert capsys.readouterr().out == f"{gone} left out: {gone} is not installed\n"


@pytest.mark.parametrize("problem", SMALL)
def test_the_reference_is_the_slope_of_its_loss(problem):
    """Fourth-order differences, step 1e-3, of a loss good to some 1e-12: 1e-9 by that, and less by their order."""
    case, rng = small(problem), np.random.default_rng(1)
    dtheta, dz0 = rng.normal(size=case.theta.shape), rng.normal(size=case.z0.shape)
    found = refode_.reference(case)

    def loss(x):
        moved = replace(case, theta=case.theta + x * dtheta, z0=case.z0 + x * dz0)
        return refode_.reference(moved).value

    h = 1e-3
    slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    assert found.theta @ dtheta + np.sum(found.z0 * dz0) == pytest.approx(slope, rel=1e-8)


def test_a_problem_too_large_for_lsoda_is_left_out():
    pytest.importorskip("autograd", reason="autograd is not installed: pip install .[peers]")
    autograd_ = import_module("benchmarks.peers.autograd_")
    assert not autograd_.sides(cases.case("L"))
    assert autograd_.sides(cases.case("M"))


ZERO = cases.Answer(1.0, np.ones(2), np.ones(1))


def side_of_error(error):
    """A side whose z0-gradient is off by error(tol), its θ-gradient by half of that."""

    def at(tol):
        return lambda: cases.Answer(1.0, np.ones(2) * (1 + error(tol) / 2), np.ones(1) * (1 + error(tol)))

    return cases.Side(at, lambda answer: answer)


def test_calibration_takes_the_loosest_tolerance_of_its_grid():
    found = timing.calibrate(side_of_error(lambda tol: 10 * tol), ZERO, [1e-6, 1e-4])
    for target in (1e-4, 1e-6):
        assert found[target].error <= target
        assert target / 10 ** (timing.FINE * 1.001) < 10 * found[target].tol <= target * (1 + 1e-9)
        assert found[target].error == pytest.approx(10 * found[target].tol)


def test_calibration_says_what_is_never_reached_and_why():
    bounded = timing.calibrate(side_of_error(lambda tol: max(tol, 1e-5)), ZERO, [1e-4, 1e-6])
    assert not bounded[1e-4].failure
    assert bounded[1e-6].failure == "not reached: error 1.0e-05"

    def refuse(tol):
        raise ArithmeticError("underflow in dt")

    refused = timing.calibrate(cases.Side(refuse, lambda answer: answer), ZERO, [1e-4])
    assert refused[1e-4].failure == "ArithmeticError: underflow in dt"


def test_a_slow_side_sits_out_and_its_ratios_are_of_the_rounds_it_played(monkeypatch):
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    seconds = timing.take_turns({"a": lambda: None, "b": lambda: None}, rounds=7)
    for name in "ab":
        assert np.isfinite(seconds[name]).all(axis=1).sum() == timing.FEWEST
    ours = np.column_stack([[2.0, 4.0, np.nan, 6.0, 8.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    theirs = np.column_stack([[1.0, np.nan, 1.0, 2.0, 2.0], [2.0, np.nan, 4.0, 5.0, 10.0]])
    assert report.ratio(ours, theirs)[:3] == (2.5, 3.0, 3.5)
