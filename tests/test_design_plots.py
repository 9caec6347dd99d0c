"""Figures of designs: what is drawn is what was recorded."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ntkengine import plots
from ntkengine.experiments import kernels
from ntkengine.experiments.design import Plan, Target, run


def lines(ax):
    """Label -> (x, y) of a panel's labelled lines."""
    return {line.get_label(): line.get_data() for line in ax.lines if not line.get_label().startswith("_")}


def test_four_panels_draw_the_record(tmp_path):
    found = run(Plan(Target("sinh(2*c)"), degree=5, verify=True, width=64, members=3)).record
    figure = plots.draw(found)
    v = found.variables
    phi, kernel, error, series = figure.axes
    assert_allclose(phi.lines[0].get_data(), [v["z"].values, v["activation"].values])
    theta = np.degrees(v["angle"].values)
    drawn = lines(kernel)
    assert_allclose(drawn["target"], [theta, v["target_kernel"].values])
    assert_allclose(drawn["design"], [theta, v["designed_kernel"].values])
    (points,) = kernel.containers
    mean = v["empirical_kernel"].values.mean(axis=0)
    assert_allclose(points.lines[0].get_data(), [np.degrees(v["check_angle"].values), mean])
    assert points.get_label() == "3 × width 64\n(± standard error)"
    drawn = lines(error)
    scale = np.abs(v["target_kernel"].values).max()
    gap = np.abs(v["designed_kernel"].values - v["target_kernel"].values) / scale
    assert_allclose(drawn["design"][1], np.maximum(gap, 1e-17))
    assert_allclose(
        drawn["mean of networks"][1], np.maximum(np.abs(mean - v["check_target"].values) / scale, 1e-17)
    )
    drawn = lines(series)
    for name, variable in (("target", "target_coefficient"), ("design", "design_coefficient")):
        b = v[variable].values
        assert_allclose(drawn[name], [np.flatnonzero(b > 0), b[b > 0]])
    assert series.get_yscale() == "log"
    assert figure.get_suptitle().splitlines()[1] == "φ: Hermite series to degree 5, smooth signs"
    for suffix in ("png", "svg", "pdf"):
        assert plots.save(figure, tmp_path / f"d.{suffix}").stat().st_size > 10_000


@pytest.mark.parametrize(
    "plan",
    [
        Plan(Target("c - 0.2*c**3"), project=True),
        Plan(Target("3"), kind="nngp"),
        Plan(Target("abs(c)"), project=True, degree=6),
        Plan(Target("geometric", {"rate": 0.9}), degree=100, b_std=0.1, radial_lift=True),
    ],
    ids=["negative coefficients", "constant", "no series", "many terms"],
)
def test_odd_designs_are_drawn_too(plan):
    found = run(plan).record
    figure = plots.draw(found)
    drawn = lines(figure.axes[3])
    assert ("target, negative" in drawn) == (plan.target.formula == "c - 0.2*c**3")
    assert ("target" in drawn) == (plan.target.formula != "abs(c)")
    assert figure.axes[3].get_xscale() == ("symlog" if plan.degree == 100 else "linear")
    figure.draw_without_rendering()


def test_a_long_formula_with_dollars_has_a_short_title():
    target = Target("+".join(["c**2"] * 60))
    record = run(Plan(target)).record
    record.results["design"]["target"] += " $"
    title = plots.draw(record).get_suptitle()
    assert len(title.splitlines()) == 2
    assert "$" not in title.replace(r"\$", "").replace(r"$\sigma_w$", "")


def test_seven_kernels_and_their_activations(tmp_path):
    found = kernels.run(kernels.Plan(width=32, members=2))
    figure = plots.draw(found)
    assert len(figure.axes) == 8
    v = found.variables
    for i, ax in enumerate(figure.axes[:7]):
        drawn = lines(ax)
        c = np.cos(v["angle"].values)
        assert_allclose(drawn["target"], [c, v["target_kernel"].values[i]])
        assert_allclose(drawn["polynomial, theory"], [c, v["designed_kernel"].values[i]])
        assert ax.get_title().startswith("ABCDEFG"[i])
        assert_allclose(figure.axes[7].lines[i].get_data(), [v["z"].values, v["activation"].values[i]])
    assert plots.save(figure, tmp_path / "k.png").stat().st_size > 20_000


@pytest.mark.parametrize(("formula", "first", "last"), [("exp(-500*(1-c))", 350, 600), ("c**200", 200, 200)])
def test_a_narrow_kernel_is_drawn_where_its_terms_are(formula, first, last):
    record = run(Plan(Target(formula))).record
    b = record.variables["target_coefficient"].values
    assert_allclose(b.sum(), 1.0, rtol=1e-5)
    ax = plots.draw(record).axes[3]
    low, high = ax.get_xlim()
    assert first - 50 < low < first
    assert last < high < last + 50
    assert ax.get_ylim()[0] > 1e-18 * b.max()


def test_a_title_stays_inside_the_figure():
    record = run(Plan(Target(net="relu"), b_std=0.05, degree=4, radial_lift=True)).record
    for name in (record.results["design"]["target"], "c**2+" * 60 + "c"):
        record.results["design"]["target"] = name
        figure = plots.draw(record)
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
        assert box.x0 > 0
        assert box.x1 < figure.bbox.width
        assert r"with $\sigma_w$ = 1, $\sigma_b$ = 0.05; radial lift" in figure.get_suptitle()
