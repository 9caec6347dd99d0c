"""Tasks: built-in tables, the split, standardisation, targets and the registry."""

import hashlib
import itertools
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ntkengine import tasks
from ntkengine.errors import DataError, InputError, UnknownNameError
from ntkengine.tasks import base, builtin
from tests.oracles import tasks as oracle

WINE = tasks.registry.get("wine-quality-red")


def wine_is_here():
    return builtin.availability(WINE) == "yes"


needs_wine = pytest.mark.skipif(not wine_is_here(), reason="winequality-red.csv is not on this machine")


def make_table(n=20, d=3, classes=("a", "b", "c"), seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(len(classes), size=n) if classes else rng.normal(size=(n, 1))
    return tasks.Table("made", rng.normal(size=(n, d)), y, tuple(f"f{j}" for j in range(d)), classes, "made")


# --- built-in tables ----------------------------------------------------------------------------------------


def test_names_are_listed_without_importing_the_builtins():
    code = (
        "import sys; from ntkengine import tasks; names = tasks.registry.names();"
        "assert names == ('balance-scale', 'parity', 'tic-tac-toe', 'wine-quality-red'), names;"
        "heavy = {'ntkengine.tasks.builtin', 'pooch', 'requests', 'rich', 'numba'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    env = {"NTKENGINE_PLUGINS": "", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def test_balance_scale_is_the_full_grid_by_its_rule():
    table = tasks.registry.get("balance-scale").table()
    found = {tuple(map(int, x)): table.class_names[y] for x, y in zip(table.X, table.y)}
    assert found == oracle.balance_scale()
    assert len(table.X) == 625
    assert np.bincount(table.y).tolist() == [288, 49, 288]


def test_tic_tac_toe_is_every_final_board():
    table = tasks.registry.get("tic-tac-toe").table()
    found = {tuple(map(int, x)): bool(y) for x, y in zip(table.X, table.y)}
    assert found == oracle.tic_tac_toe()
    assert len(table.X) == 958
    assert np.bincount(table.y).tolist() == [332, 626]
    assert table.class_names == ("negative", "positive")


@pytest.mark.parametrize("bits", [2, 5, 11])
def test_parity_is_the_product_over_all_rows(bits):
    table = tasks.registry.get("parity").table(bits=bits)
    assert {tuple(x) for x in table.X} == set(itertools.product((1.0, -1.0), repeat=bits))
    assert len(table.X) == 2**bits
    np.testing.assert_array_equal(2 * table.y - 1, [math.prod(x) for x in table.X])
    task = tasks.make_task("parity", bits=bits)
    assert not task.standardized
    assert not task.norms_vary
    assert (np.sum(task.X_train**2, axis=1) == bits).all()
    np.testing.assert_array_equal(task.Y_train[:, 0], task.X_train.prod(axis=1))


@pytest.mark.parametrize("bits", [1, 21, 3.0, True, "4"])
def test_parity_bits_out_of_bounds(bits):
    with pytest.raises(InputError, match=r"'bits' of task 'parity' is .* from 2 to 20"):
        tasks.make_task("parity", bits=bits)


@needs_wine
def test_wine_quality_red_against_a_plain_reading():
    path = builtin.locate("wine-quality-red", WINE.file)
    rows = [line.split(";") for line in path.read_text().split("\n")[1:] if line]
    X = np.array([[float(cell) for cell in row[:-1]] for row in rows])
    table = WINE.table()
    np.testing.assert_array_equal(table.X, X)
    assert [table.class_names[i] for i in table.y] == [row[-1] for row in rows]
    assert table.class_names == ("3", "4", "5", "6", "7", "8")
    assert table.feature_names[0] == "fixed acidity"
    assert "Cortez" in table.source
    task = tasks.make_task("wine-quality-red")
    assert (task.X_train.shape, task.Y_train.shape, task.norms_vary) == ((800, 11), (800, 6), True)


@pytest.mark.parametrize("name", [n for n in base.registry.names() if base.registry.get(n).file is None])
def test_stated_shape_is_the_tables(name):
    family = tasks.registry.get(name)
    table = family.table()
    assert family.shape == (*table.X.shape, len(table.class_names))
    assert family.source == table.source


@needs_wine
def test_stated_shape_of_wine():
    table = WINE.table()
    assert WINE.shape == (*table.X.shape, len(table.class_names))


# --- the split ----------------------------------------------------------------------------------------------


def test_split_is_the_same_everywhere():
    assert base._permutation(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert base._permutation(10, 1).tolist() == [9, 2, 4, 7, 5, 0, 8, 6, 3, 1]


@pytest.mark.parametrize(
    ("n", "fraction", "n_train"), [(20, 0.5, 10), (21, 0.5, 11), (23, 0.8, 18), (2, 0.3, 1)]
)
def test_split_follows_the_keys_and_rounds_half_up(n, fraction, n_train):
    table = make_table(n, classes=())
    task = tasks.make_task(table, train_fraction=fraction, seed=7, standardize=False)
    train, test = oracle.split(n, 7, n_train)
    np.testing.assert_array_equal(task.X_train, table.X[train])
    np.testing.assert_array_equal(task.X_test, table.X[test])
    np.testing.assert_array_equal(task.Y_train, table.y[train])
    np.testing.assert_array_equal(task.Y_test, table.y[test])


def test_every_row_is_used_once_and_seeds_differ():
    a, b, c = (tasks.make_task("balance-scale", seed=seed, standardize=False) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.X_train, b.X_train)
    assert not np.array_equal(a.X_train, c.X_train)
    assert len({tuple(x) for x in np.concatenate([a.X_train, a.X_test])}) == 625


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, math.nan, math.inf, "half", None])
def test_train_fraction_outside_the_interval(fraction):
    with pytest.raises(InputError, match=r"train_fraction is .*between 0 and 1"):
        tasks.make_task("parity", train_fraction=fraction)


@pytest.mark.parametrize(("fraction", "n_train"), [(0.01, 0), (0.99, 20)])
def test_an_empty_side_is_an_error_that_counts(fraction, n_train):
    with pytest.raises(
        InputError, match=rf"of 20 rows leaves {n_train} for training, {20 - n_train} for test"
    ):
        tasks.make_task(make_table(20), train_fraction=fraction)


@pytest.mark.parametrize("seed", [-1, 1.0, "0", True, None])
def test_bad_seed(seed):
    with pytest.raises(InputError, match="seed is"):
        tasks.make_task("parity", seed=seed)


# --- standardisation ----------------------------------------------------------------------------------------


def test_standardisation_uses_the_training_rows_only():
    table = make_table(30, 4)
    table.X[:, 1] = 5.0  # constant everywhere
    train, test = oracle.split(30, 2, 15)
    table.X[train, 2] = 0.1  # constant on the training rows
    task = tasks.make_task(table, seed=2)
    fitted = table.X[train].tolist()
    np.testing.assert_allclose(task.X_train, oracle.standardize(fitted, fitted), rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        task.X_test, oracle.standardize(fitted, table.X[test].tolist()), rtol=0, atol=1e-13
    )
    assert (task.X_train[:, 1:3] == 0).all()
    assert (task.X_test[:, 1:3] == 0).all()
    assert task.X_test[:, 0].mean() != 0
    assert task.standardized
    np.testing.assert_array_equal(task.input_scaling.apply(table.X[test]), task.X_test)


@pytest.mark.parametrize("scale", [2.0**-1000, 2.0**900])
def test_standardisation_at_the_ends_of_float64(scale):
    table = make_table(12, 2)
    table.X[:] = np.round(table.X * 2**8)  # so that the scaling below is exact
    expected = tasks.make_task(table)
    scaled = tasks.make_task(replace(table, X=table.X * scale))
    np.testing.assert_allclose(scaled.X_train, expected.X_train, rtol=1e-9)
    assert np.isfinite(scaled.X_test).all()


def test_a_test_value_that_overflows_is_named():
    table = make_table(10, 2)
    table.X[:, 1] *= 1e-200
    _, test = oracle.split(10, 0, 5)
    table.X[test[0], 1] = 1e300
    with pytest.raises(DataError, match="'f1' overflows"):
        tasks.make_task(table)


def test_standardize_default_belongs_to_the_family_and_can_be_overruled():
    assert tasks.make_task("balance-scale").standardized
    assert not tasks.make_task("balance-scale", standardize=False).standardized
    assert tasks.make_task("parity", bits=3, standardize=True).standardized
    assert tasks.make_task(make_table()).standardized
    with pytest.raises(InputError, match="standardize is 'no'"):
        tasks.make_task("parity", standardize="no")


def test_regression_targets_are_scaled_by_the_training_rows_and_come_back():
    table = make_table(20, classes=())
    task = tasks.make_task(table, seed=5)
    train, test = oracle.split(20, 5, 10)
    fitted = table.y[train].tolist()
    np.testing.assert_allclose(task.Y_test, oracle.standardize(fitted, table.y[test].tolist()), atol=1e-13)
    np.testing.assert_allclose(task.target_scaling.undo(task.Y_test), table.y[test], atol=1e-14)
    assert (task.labels_train, task.labels_test, task.metric, task.chance_accuracy) == (
        None,
        None,
        None,
        None,
    )
    assert task.loss == "mse"
    with pytest.raises(InputError, match="is a regression"):
        task.accuracy(task.Y_test)


def test_a_constant_training_target_keeps_the_test_targets():
    table = make_table(6, classes=())
    train, test = oracle.split(6, 0, 3)
    table.y[train] = 2.0
    task = tasks.make_task(table)
    np.testing.assert_array_equal(task.Y_train, 0)
    np.testing.assert_array_equal(task.Y_test, table.y[test] - 2.0)


# --- targets and metric -------------------------------------------------------------------------------------


def test_two_classes_are_one_output_by_sign():
    task = tasks.make_task("tic-tac-toe")
    assert task.n_outputs == 1
    assert task.n_inputs == 9
    np.testing.assert_array_equal(task.Y_train[:, 0], np.where(task.labels_train == 1, 1.0, -1.0))
    assert task.accuracy(0.01 * task.Y_test) == 1.0
    assert task.accuracy(-task.Y_test) == 0.0
    assert task.accuracy(np.zeros_like(task.Y_test)) == pytest.approx(np.mean(task.labels_test == 0))
    assert task.metric == "accuracy"


def test_more_classes_are_one_hot_by_argmax():
    task = tasks.make_task("balance-scale")
    np.testing.assert_array_equal(task.Y_test, np.eye(3)[task.labels_test])
    counts = [int((task.labels_test == k).sum()) for k in range(3)]
    assert task.chance_accuracy == max(counts) / len(task.labels_test)
    constant = np.tile([0.0, 0.0, 1.0], (len(task.Y_test), 1))
    assert task.accuracy(constant) == counts[2] / len(task.labels_test)
    assert task.accuracy(task.Y_train, "train") == 1.0


def test_accuracy_keeps_member_axes_and_counts_nan_as_wrong():
    task = tasks.make_task(make_table(20))
    outputs = np.stack([task.Y_test, -task.Y_test, task.Y_test])
    outputs[2, :4] = np.nan
    np.testing.assert_allclose(task.accuracy(outputs), [1.0, 0.0, 0.6])
    with pytest.raises(InputError, match=r"outputs has shape \(3, 3\); expected \(\.\.\., 10, 3\)"):
        task.accuracy(np.zeros((3, 3)))
    with pytest.raises(InputError, match="split is 'all'"):
        task.accuracy(outputs, "all")


def test_a_class_may_be_on_one_side_only():
    table = make_table(8)
    train, test = oracle.split(8, 0, 4)
    table.y[train], table.y[test] = [0, 1, 0, 1], [2, 2, 0, 1]
    task = tasks.make_task(table)
    assert task.Y_train.shape == (4, 3)
    assert task.Y_train[:, 2].tolist() == [0, 0, 0, 0]
    assert task.Y_test[:, 2].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("change", "varies"), [(0.0, False), (1e-11, False), (1e-8, True)])
def test_norms_vary_beyond_rounding(change, varies):
    train, test = oracle.split(10, 0, 5)
    table = make_table(10)
    table.X[:] = np.sign(table.X)
    table.X[test[1], 0] *= 2  # the test rows decide nothing
    table.X[train[2], 0] *= 1 + change
    assert tasks.make_task(table, standardize=False).norms_vary is varies
    table.X[:] = 0
    assert not tasks.make_task(table).norms_vary


def test_fingerprint_is_of_the_table():
    table = make_table(9)
    expected = hashlib.sha256(table.X.astype("<f8").tobytes() + table.y.astype("<i8").tobytes()).hexdigest()
    assert tasks.make_task(table, seed=1).fingerprint == expected
    assert tasks.make_task(table, seed=2, train_fraction=0.2).fingerprint == expected
    table.X[0, 0] += 1e-15
    assert table.fingerprint != expected


def test_task_arrays_are_contiguous_float64_and_apart_from_the_table():
    table = make_table(10)
    before = table.X.copy()
    task = tasks.make_task(table, standardize=False)
    for array in (task.X_train, task.X_test, task.Y_train, task.Y_test):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        array += 1
    np.testing.assert_array_equal(table.X, before)


# --- names, tables and families -----------------------------------------------------------------------------


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"unknown task 'balance-scal'. Did you mean 'balance-scale'\?"
    ):
        tasks.make_task("balance-scal")
    with pytest.raises(InputError, match=r"load_csv\('a/b.csv'\)"):
        tasks.make_task("a/b.csv")
    with pytest.raises(InputError, match="not 3"):
        tasks.make_task(3)
    with pytest.raises(InputError, match=r"'parity' has no parameter 'bit'; its parameters: bits"):
        tasks.make_task("parity", bit=3)
    with pytest.raises(InputError, match="a table has no parameters, but bits"):
        tasks.make_task(make_table(), bits=3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"X": np.zeros(3)}, "X has 1 dimensions"),
        ({"X": [["a", "b"]]}, "X is not an array of real numbers"),
        ({"X": np.zeros((1, 3))}, "at least 2 rows"),
        ({"X": np.full((4, 3), np.nan)}, r"X\[0, 0\] is nan"),
        ({"feature_names": ("a",)}, "1 feature names are given for 3 features"),
        ({"class_names": ("a",)}, "one class only"),
        ({"class_names": ("a", "a")}, "names must differ"),
        ({"y": [0, 1, 2, 0]}, r"y\[2\] is 2; class indices go from 0 to 1"),
        ({"y": [0.0, 1.0, 1.0, 0.0]}, "integers, the class indices"),
        ({"y": [0, 1]}, r"expected \(4,\) integers"),
        ({"class_names": ()}, "y has 1 dimensions"),
        ({"class_names": (), "y": np.zeros((3, 1))}, r"expected \(4, m\)"),
    ],
)
def test_a_table_checks_itself(changes, text):
    good = {
        "X": np.zeros((4, 3)),
        "y": [0, 1, 1, 0],
        "feature_names": ("a", "b", "c"),
        "class_names": ("p", "q"),
    }
    tasks.Table("good", **good)
    with pytest.raises(DataError, match="table 'bad': .*" + text):
        tasks.Table("bad", **{**good, **changes})


def test_a_family_must_return_a_table():
    family = tasks.TaskFamily("odd", lambda: [[1, 2]])
    with pytest.raises(DataError, match="'odd' returned list"):
        family.table()
    with pytest.raises(TypeError, match=r"expected an ntkengine.tasks.TaskFamily, found int"):
        base._check("odd", 3)
