"""The error of every gradient follows the tolerance; the reference and the counts are checked another way."""

from dataclasses import replace

import numpy as np
import pytest

from figures import _demo, gradient_error_vs_tol
from refode.finite_difference import complex_solve, directional_complex_step

TOL = 1e-13  # of the reference


@pytest.fixture
def drawn(data):
    return data("gradient_error_vs_tol")


def test_P23_the_reference_is_the_gradient_that_complex_step_finds(drawn):
    demo = _demo.plane(0)
    directions = np.random.default_rng(1).standard_normal((4, len(drawn["exact"])))

    def loss(at):
        return demo.loss(complex_solve(demo.field, at[:2], at[2:], demo.times, rtol=TOL, atol=TOL)[-1])

    at = np.append(demo.z0, demo.theta)
    seen = np.array([directional_complex_step(loss, at, along) for along in directions])
    growth = np.exp(2 * demo.measured["growth"])  # on the way forth and back
    assert np.linalg.norm(directions @ drawn["exact"] - seen) <= TOL * growth * np.linalg.norm(seen)
    # the finest error that is drawn is still one of its own solve, not of the reference
    assert drawn["error"].min() > 5 * TOL


def test_P19_P23_the_error_falls_in_proportion_to_the_tolerance(drawn):
    """A Runge-Kutta pair whose estimate and whose error are both O(h^p) steps by h ~ tol^(1/p): the slope is 1 + O(h).

    LSODA estimates O(h^(q + 1)) a step and errs by O(h^q) in all: its slope is q / (q + 1), with q from 3 to 12.
    """
    tail = np.log10(drawn["error"][:, -3] / drawn["error"][:, -1]) / np.log10(drawn["tol"][-3] / drawn["tol"][-1])
    for (_, solver, *_), slope, name in zip(
        gradient_error_vs_tol.RUNS.values(), tail, gradient_error_vs_tol.RUNS, strict=True
    ):
        low, high = (3 / 4, 1.0) if solver == "LSODA" else (1.0, 1.0)
        assert low - 0.15 <= slope <= high + 0.15, name
    assert np.all(np.diff(drawn["error"]) < 0)
    assert drawn["lowest"] == drawn["slopes"].min()
    assert drawn["highest"] == drawn["slopes"].max()
    # the sum over the steps of what each may err, the tolerance, grown on the way forth and back
    growth = np.exp(2 * _demo.plane(0).measured["growth"])
    assert np.all(drawn["error"] <= drawn["cost"] * drawn["tol"] * growth)
    assert np.all(drawn["error"] <= 10 * drawn["tol"])  # the narrow band that the picture shows
    assert np.all(drawn["error"] >= 0.1 * drawn["tol"])


class Counting:
    """A field that counts its evaluations, VJPs and JVPs."""

    def __init__(self, field):
        self.field, self.n, self.m, self.count = field, field.n, field.m, 0

    def __call__(self, *at):
        self.count += 1
        return self.field(*at)

    def vjp(self, *at):
        self.count += 1
        return self.field.vjp(*at)

    def jvp(self, *at):
        self.count += 1
        return self.field.jvp(*at)


@pytest.mark.parametrize("name", gradient_error_vs_tol.RUNS)
def test_the_cost_is_the_number_of_calls(drawn, name):
    way, solver, *_ = gradient_error_vs_tol.RUNS[name]
    demo = _demo.plane(0)
    counting = Counting(demo.field)
    _, cost = gradient_error_vs_tol._gradient(replace(demo, field=counting), way, solver, drawn["tol"][0])
    assert cost == drawn["cost"][list(gradient_error_vs_tol.RUNS).index(name), 0]
    # LSODA asks for the forward solve's Jacobian too, which this field makes of VJPs and the figure does not count
    assert counting.count == cost or (solver == "LSODA" and counting.count > cost)


def test_E18_only_forward_sensitivities_pay_for_every_parameter(drawn):
    by_name = dict(zip(gradient_error_vs_tol.RUNS, drawn["cost"], strict=True))
    assert np.all(by_name["forward"] > drawn["parameters"] / 4 * by_name["backsolve, RK45"])
    assert np.all(by_name["interpolating"] < by_name["backsolve, RK45"])  # z is not solved again
