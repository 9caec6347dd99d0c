"""Figures made from arrays: what is drawn is what was given."""

import numpy as np
from numpy.testing import assert_allclose

from ntkengine import plots

ANGLE = np.linspace(0, np.pi, 31)


def test_network_kernel_draws_both_kernels_twice(tmp_path):
    nngp, ntk = 1 + np.cos(ANGLE), 10 * np.cos(ANGLE) ** 3
    figure = plots.network_kernel(ANGLE, nngp, ntk, "a title with $ and σ_w = √2")
    left, right = figure.axes
    for line, k in zip(left.lines, (ntk, nngp)):
        assert_allclose(line.get_xdata(), np.cos(ANGLE))
        assert_allclose(line.get_ydata(), k)
    for line, k in zip(right.lines, (ntk, nngp)):
        assert_allclose(line.get_xdata(), np.degrees(ANGLE))
        assert_allclose(line.get_ydata(), k / k[0])
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["NTK", "NNGP"]
    for suffix in ("png", "svg", "pdf"):
        assert plots.save(figure, tmp_path / f"k.{suffix}").stat().st_size > 5_000


def test_network_kernel_of_a_zero_kernel_and_a_long_title(tmp_path):
    zero = np.zeros_like(ANGLE)
    figure = plots.network_kernel(ANGLE, zero, zero, "cos(z)+" * 300 + "\nσ_w = 1")
    assert_allclose(figure.axes[1].lines[0].get_ydata(), 0)
    assert figure.get_suptitle().count("\n") == 2
    assert figure.get_suptitle().endswith("…\n$\\sigma_w$ = 1")
    assert plots.save(figure, tmp_path / "k.png").stat().st_size > 5_000
