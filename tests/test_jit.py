"""The compiled ground floor: BLAS on parts of arrays, tiles by address, threads, and the machine-code cache."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_info

import ntkengine as nk
from ntkengine import _cache, _jit
from ntkengine._simd import LANES, power_sums
from ntkengine.infinite import _series


@_jit.strict
def call_gemm(ta, tb, m, n, k, alpha, a, ia, lda, b, ib, ldb, beta, c, ic, ldc):
    return _jit.gemm(ta, tb, m, n, k, alpha, (a, ia), lda, (b, ib), ldb, beta, (c, ic), ldc)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(3, 5, 7), (1, 4, 2), (6, 1, 3), (2, 3, 1), (70, 65, 130)])
def test_gemm_on_a_part_of_larger_arrays(dtype, ta, tb, m, n, k):
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((200, 210)).astype(dtype) for _ in range(3))
    part_a = a[4 : 4 + (k if ta else m), 9 : 9 + (m if ta else k)]
    part_b = b[2 : 2 + (n if tb else k), 5 : 5 + (k if tb else n)]
    expected = c.astype(np.float64)
    product = (part_a.T if ta else part_a).astype(np.float64) @ (part_b.T if tb else part_b)
    expected[7 : 7 + m, 11 : 11 + n] = 1.5 * product + 0.25 * expected[7 : 7 + m, 11 : 11 + n]
    with _jit.blas_single_thread():
        status = call_gemm(
            ta, tb, m, n, k, dtype(1.5), a.ravel(), 4 * 210 + 9, 210, b.ravel(), 2 * 210 + 5, 210,
            dtype(0.25), c.reshape(-1), 7 * 210 + 11, 210,
        )  # fmt: skip
    assert status == 0
    assert_allclose(
        c, expected, rtol=1e-4 if dtype is np.float32 else 1e-12, atol=2e-5 if dtype is np.float32 else 1e-13
    )


def test_tile_writes_its_run_and_nothing_else():
    phi = nk.activation("sin", a=2.0, b=3.0)
    z, out, slope = np.linspace(-1, 1, 9), np.full(9, 7.0), np.full(9, 7.0)

    @_jit.strict
    def part(address, z, p, out, slope):
        _jit.call_tile(address, 4, z[2:6], p, out[2:6], slope[2:6])

    part(phi.tile("float64").address, z, phi.tile_parameters("float64"), out, slope)
    assert_allclose(out[2:6], 2 * np.sin(3 * z[2:6]), rtol=1e-13)
    assert_allclose(slope[2:6], 6 * np.cos(3 * z[2:6]), rtol=1e-13)
    assert_array_equal(out[[0, 1, 6, 7, 8]], 7)


def made_up_dual(s, t, a, b, delta, eta, p):
    return p[0] * s + t, p[1] * a * b, delta - eta


@pytest.mark.parametrize("n", [1, 5, _jit.DUAL_STRIDE])
def test_dual_tile_fills_its_rows_and_nothing_else(n):
    rng = np.random.default_rng(1)
    tile = _jit.compile_dual(made_up_dual, 2, None)
    work, row, params = (
        rng.standard_normal((7, _jit.DUAL_STRIDE)),
        rng.standard_normal(2),
        np.array([2.0, -3.0]),
    )
    before = work.copy()

    @_jit.strict
    def call(address, n, work, params, row):
        _jit.call_tile(address, n, work, params, row, row)

    call(tile.address, n, work, params, row)
    t, b, delta, eta = before[:4, :n]
    assert_allclose(work[4, :n], 2 * row[0] + t, rtol=1e-15)
    assert_allclose(work[5, :n], -3 * row[1] * b, rtol=1e-15)
    assert_allclose(work[6, :n], delta - eta, rtol=1e-15)
    assert_array_equal(work[:4], before[:4])
    assert_array_equal(work[4:, n:], before[4:, n:])


def test_dual_tile_of_an_activation_is_its_dual():
    relu = nk.activation("relu")
    work, row = np.empty((7, _jit.DUAL_STRIDE)), np.array([1.5, 1.5 / 2**0.5])
    theta = np.linspace(0, np.pi, _jit.DUAL_STRIDE)
    work[:4] = np.array([2.0, 2**0.5, 0, 0])[:, None]
    work[2], work[3] = 1 - np.cos(theta), 1 + np.cos(theta)

    @_jit.strict
    def call(address, work, params, row):
        _jit.call_tile(address, work.shape[1], work, params, row, row)

    call(relu.dual_tile().address, work, relu.tile_parameters("float64"), row)
    product = 3.0  # st
    value = product * (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)
    assert_allclose(work[4], 1.5 - value, rtol=0, atol=3e-15)
    assert_allclose(work[5], 1.5 + value, rtol=0, atol=3e-15)
    assert_allclose(work[6], (np.pi - theta) / (2 * np.pi), rtol=0, atol=3e-15)


@_jit.strict
def call_power_sums(row, columns, count, first, x, value, slope):
    power_sums(row, columns, count, first, x, value, slope)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 200])
def test_power_sums_against_polyval(count):
    """Value and derivative of LANES polynomials; what lies beside them is left alone."""
    rng = np.random.default_rng(count)
    n, first = 3 * LANES, LANES
    row, columns = rng.standard_normal(count + 2), rng.standard_normal((count + 2, n))
    x = rng.uniform(-1, 1, n)
    x[first], x[first + 1] = 1.0, -1.0
    value, slope = np.full(n, 7.0), np.full(n, 7.0)
    call_power_sums(row, columns, count, first, x, value, slope)
    for j in range(n):
        if not first <= j < first + LANES:
            assert value[j] == slope[j] == 7.0
            continue
        c = (row * columns[:, j])[:count] if count else np.zeros(1)
        derivative = np.polynomial.polynomial.polyder(c)
        scale = (
            np.polynomial.polynomial.polyval(abs(x[j]), abs(c)),
            np.polynomial.polynomial.polyval(abs(x[j]), abs(derivative)),
        )
        assert abs(value[j] - np.polynomial.polynomial.polyval(x[j], c)) <= 1e-15 * (count + 1) * scale[0]
        assert (
            abs(slope[j] - np.polynomial.polynomial.polyval(x[j], derivative))
            <= 1e-15 * (count + 1) * scale[1]
        )


def test_plain_row_sums_as_many_terms_as_each_run_asks_for():
    rng = np.random.default_rng(0)
    lengths = np.array([40, 0, 7, 1])
    n = LANES * lengths.size
    row, columns, x = rng.standard_normal(40), rng.standard_normal((40, n)), rng.uniform(-1, 1, n)
    value, slope = np.full(n, 7.0), np.full(n, 7.0)
    _series.plain_row(row, columns, lengths, x, value, slope)
    k = np.arange(40.0)
    for run, length in enumerate(lengths):
        part = slice(run * LANES, (run + 1) * LANES)
        powers = x[part] ** k[:length, None]
        terms = row[:length, None] * columns[:length, part]
        assert_allclose(value[part], (terms * powers).sum(axis=0), rtol=0, atol=1e-13)
        assert_allclose(
            slope[part], (k[1:length, None] * terms[1:] * powers[:-1]).sum(axis=0), rtol=0, atol=1e-12
        )


def test_power_sums_take_no_other_arrays():
    arrays = [np.zeros(4), np.zeros((4, LANES)), *(np.zeros(LANES) for _ in range(3))]
    for wrong in (0, 1, 3):
        given = list(arrays)
        given[wrong] = given[wrong].astype(np.float32)
        with pytest.raises(numba.TypingError):
            call_power_sums(given[0], given[1], 4, 0, *given[2:])


def test_threads_are_set_and_restored():
    before = numba.get_num_threads(), [p["num_threads"] for p in threadpool_info()]
    with _jit.threads(2) as count:
        assert count == 2
        assert numba.get_num_threads() == 2
        assert {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"} == {1}
    with pytest.raises(ValueError, match="stop"), _jit.threads(1):
        raise ValueError("stop")
    assert (numba.get_num_threads(), [p["num_threads"] for p in threadpool_info()]) == before
    with _jit.threads(10**6) as count:
        assert count == numba.config.NUMBA_NUM_THREADS


CHILD = """
import ntkengine as nk
from ntkengine import _cache, _jit
from ntkengine._simd import LANES, power_sums
from ntkengine.infinite import _series
phi = nk.activation("tanh")
print(repr(float(phi(0.3))), phi.tile("float64").cache_hits, _cache.cache_directory())
"""


def child(**environment):
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert done.stderr == ""
    return done.stdout.split(" ", 2)


def test_cache_serves_the_next_process(tmp_path):
    value, hits, folder = child(NTKENGINE_CACHE_DIR=str(tmp_path))
    assert hits == "0"
    assert _cache.source_hash() in folder
    again = child(NTKENGINE_CACHE_DIR=str(tmp_path))
    assert again[:2] == [value, "1"]
    for path in tmp_path.rglob("*.nbc"):  # a damaged cache is compiled anew, silently
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert child(NTKENGINE_CACHE_DIR=str(tmp_path))[:2] == [value, "0"]


def test_no_cache_where_none_is_wanted_or_possible(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("", str(tmp_path / "file")):
        _, hits, folder = child(NTKENGINE_CACHE_DIR=place)
        assert (hits, folder.strip()) == ("0", "None")


def test_options_are_part_of_the_key():
    """One function compiled serial and parallel must not be handed the other's code."""

    def total(x):
        s = 0.0
        for i in range(x.size):
            s += x[i]
        return s

    one, two = _cache.MachineCodeCache(total, Path("."), "a"), _cache.MachineCodeCache(total, Path("."), "b")
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    assert one._index_key((), codegen) != two._index_key((), codegen)


def test_compile_clock_counts_compilation_once():
    before = _jit.compile_clock.seconds

    @_jit.strict
    def inner(x):
        return x + 1

    @_jit.strict
    def outer(x):
        return inner(x) * 2

    outer(1.0)
    spent = _jit.compile_clock.seconds - before
    assert 0 < spent < 30
    outer(2.0)
    assert _jit.compile_clock.seconds - before == spent
