"""Finite networks against the numpy oracle: outputs, every gradient by name, trajectories, bits, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ntkengine as nk
from ntkengine.errors import InputError
from ntkengine.finite import sgd
from ntkengine.finite.network import Networks
from ntkengine.finite.sgd import TrainingInterrupted, log_spaced
from tests.oracles import networks as oracle

STDS = {"w_std": 1.3, "b_std": 0.2, "readout_w_std": 0.9, "readout_b_std": 0.4}
NO_BIAS = {"w_std": 2**0.5, "b_std": 0.0, "readout_w_std": 1.0, "readout_b_std": 0.0}
PHI = {"relu": {}, "sin": {"a": 0.5, "b": 6.0, "c": 0.3}, "tanh": {}, "relu_cos": {}}


def fcn(name, depth, stds, **options):
    return nk.FCN(nk.activation(name, **PHI[name]), depth=depth, **stds, **options)


def as_oracle(nets, member):
    return [
        (w[member].astype(np.float64), None if b is None else b[member].astype(np.float64))
        for w, b in nets.parameters()
    ]


def data(n=37, d=5, m=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, m))


@pytest.fixture(params=["rows", "layers"])
def plan(request, monkeypatch):
    monkeypatch.setattr(sgd, "choose_plan", lambda *shape: request.param)
    return request.param


@pytest.mark.parametrize("name", PHI)
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("stds", [STDS, NO_BIAS])
def test_outputs(name, depth, stds):
    x, _ = data()
    nets = fcn(name, depth, stds).init(width=33, n_inputs=5, n_outputs=3, seed=3, members=2, dtype="float64")
    for member in range(2):
        assert_allclose(
            nets.predict(x)[member],
            oracle.forward(as_oracle(nets, member), x, name, stds)[0],
            rtol=1e-11,
            atol=1e-11,
        )


def test_outputs_with_the_radial_lift_and_a_zero_row():
    x, _ = data()
    x[3] = 0
    nets = fcn("sin", 2, STDS, radial_lift=True).init(width=20, n_inputs=5, n_outputs=3, dtype="float64")
    rows, r = oracle.lifted(x)
    expected = r[:, None] * oracle.forward(as_oracle(nets, 0), rows, "sin", STDS)[0]
    assert_allclose(nets.predict(x)[0], expected, rtol=1e-11, atol=1e-12)
    assert_array_equal(nets.predict(x)[0, 3], 0)


def test_oracle_gradients_agree_with_central_differences():
    x, y = data(n=6, d=3, m=2)
    nets = fcn("tanh", 2, STDS).init(width=4, n_inputs=3, n_outputs=2, dtype="float64")
    net = as_oracle(nets, 0)
    delta = 2 / 6 * (oracle.forward(net, x, "tanh", STDS)[0] - y)
    for exact, numeric in zip(
        oracle.gradients(net, x, delta, "tanh", STDS), oracle.numeric_gradients(net, x, y, "tanh", STDS)
    ):
        assert_allclose(exact[0], numeric[0], atol=1e-8)
        assert_allclose(exact[1], numeric[1], atol=1e-8)


@pytest.mark.parametrize("name", PHI)
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("stds", [STDS, NO_BIAS])
def test_every_gradient_by_name(name, depth, stds, plan):
    """One step of known size: Δθ/lr is the gradient, for each W and b."""
    x, y = data(n=150)
    nets = fcn(name, depth, stds).init(
        width=(40, 33, 27, 31)[:depth], n_inputs=5, n_outputs=3, seed=1, dtype="float64"
    )
    before = as_oracle(nets, 0)
    delta = 2 / 150 * (oracle.forward(before, x, name, stds)[0] - y)
    expected = oracle.gradients(before, x, delta, name, stds)
    nk.train(nets, x, y, lr=0.5, epochs=1, centered=False)
    for layer, ((w0, b0), (w1, b1), (gw, gb)) in enumerate(zip(before, as_oracle(nets, 0), expected)):
        scale = np.abs(gw).max()
        assert_allclose((w0 - w1) / 0.5, gw, atol=1e-12 * max(scale, 1), err_msg=f"W{layer + 1}")
        if gb is not None:
            assert_allclose(
                (b0 - b1) / 0.5, gb, atol=1e-12 * max(np.abs(gb).max(), 1), err_msg=f"b{layer + 1}"
            )


def batches_of(n, batch, epochs, seed, member):
    """The documented order: PCG64 seeded by SeedSequence(seed, spawn_key=(member, 1, epoch))."""
    found = []
    for epoch in range(epochs):
        stream = np.random.SeedSequence(seed, spawn_key=(member, 1, epoch))
        order = np.random.Generator(np.random.PCG64(stream)).permutation(n)
        found += [order[i : i + batch] for i in range(0, n, batch)]
    return found


@pytest.mark.parametrize(("batch", "lift"), [(None, False), (None, True), (16, False), (7, True)])
@pytest.mark.parametrize("depth", [1, 3])
def test_ten_losses_of_a_trajectory(batch, lift, depth, plan):
    x, y = data(n=50)
    net = fcn("tanh", depth, STDS, radial_lift=lift)
    nets = net.init(width=24, n_inputs=5, n_outputs=3, seed=2, members=3, dtype="float64")
    start = as_oracle(nets, 1)
    rows, r = oracle.lifted(x) if lift else (x, np.ones(50))
    history = nk.train(
        nets, x, y, lr=0.02, epochs=10, batch_size=batch, centered=False, snapshots=range(11), seed=9
    )
    batches = batches_of(50, batch, 10, 9, 1) if batch else [np.arange(50)] * 10
    _, trained = oracle.sgd(start, rows, y, "tanh", STDS, 0.02, batches, lift=r)
    if not batch:
        losses, _ = oracle.sgd(start, rows, y, "tanh", STDS, 0.02, batches, lift=r)
        assert_allclose(history.train_loss[1, :10], losses, rtol=1e-11)
    assert_allclose(
        history.train_loss[1, 10],
        oracle.loss(r[:, None] * oracle.forward(trained, rows, "tanh", STDS)[0], y),
        rtol=1e-10,
    )
    for (w, b), (w1, b1) in zip(trained, as_oracle(nets, 1)):
        assert_allclose(w1, w, rtol=1e-9, atol=1e-11)
        assert_allclose(b1, b, rtol=1e-9, atol=1e-11)


def test_float32_follows_float64(plan):
    x, y = data(n=60)
    results = []
    for dtype in ("float64", "float32"):
        nets = fcn("relu", 2, NO_BIAS).init(width=64, n_inputs=5, n_outputs=3, seed=5, dtype=dtype)
        results.append(nk.train(nets, x, y, lr=0.1, epochs=20, snapshots=range(21)).train_loss)
    assert_allclose(results[1], results[0], rtol=2e-4)


def test_initial_parameters_are_the_same_numbers_in_both_precisions():
    one = fcn("relu", 2, STDS).init(width=16, n_inputs=4, seed=7, members=3, dtype="float64")
    two = fcn("relu", 2, STDS).init(width=16, n_inputs=4, seed=7, members=3, dtype="float32")
    assert_array_equal(one.theta.astype(np.float32), two.theta)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [None, 32])
def test_bits_do_not_depend_on_threads(members, batch, plan):
    x, y = data(n=300)
    results = []
    for threads in (1, 2, 4):
        nets = fcn("relu_cos", 2, STDS).init(width=48, n_inputs=5, n_outputs=3, seed=1, members=members)
        history = nk.train(
            nets, x, y, lr=0.01, epochs=4, batch_size=batch, threads=threads, X_test=x[:9], Y_test=y[:9]
        )
        results.append((nets.theta.copy(), history.train_loss, history.test_loss))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [None, 32])
def test_a_member_among_many_equals_the_member_alone(batch, plan):
    x, y = data(n=100)
    many = fcn("relu", 2, STDS).init(width=40, n_inputs=5, n_outputs=3, seed=11, members=6)
    nk.train(many, x, y, lr=0.05, epochs=5, batch_size=batch, seed=4)
    alone = fcn("relu", 2, STDS).init(width=40, n_inputs=5, n_outputs=3, seed=11, members=[3])
    nk.train(alone, x, y, lr=0.05, epochs=5, batch_size=batch, seed=4)
    assert_array_equal(many.theta[3], alone.theta[0])


def test_the_plans_agree(monkeypatch):
    x, y = data(n=90)
    results = []
    for name in ("rows", "layers"):
        monkeypatch.setattr(sgd, "choose_plan", lambda *shape, name=name: name)
        nets = fcn("tanh", 3, STDS).init(width=(70, 600, 20), n_inputs=5, n_outputs=3, dtype="float64")
        nk.train(nets, x, y, lr=0.05, epochs=5)
        results.append(nets.theta.copy())
    assert_allclose(results[0], results[1], rtol=1e-9, atol=1e-11)


def test_plan_depends_on_the_shape_alone():
    wide = fcn("relu", 1, STDS).init(width=5000, n_inputs=50)
    small = fcn("relu", 4, STDS).init(width=128, n_inputs=11)
    deep = fcn("relu", 4, STDS).init(width=512, n_inputs=11)
    assert [sgd.choose_plan(nets.fan, nets.n_parameters, 4) for nets in (wide, small, deep)] == [
        "rows",
        "rows",
        "layers",
    ]


def test_centered_training_is_training_on_shifted_targets():
    x, y = data(n=40)
    centered = fcn("relu", 2, STDS).init(width=30, n_inputs=5, n_outputs=3, dtype="float64")
    offset = centered.predict(x)[0]
    history = nk.train(centered, x, y, lr=0.05, epochs=6, snapshots=range(7))
    plain = fcn("relu", 2, STDS).init(width=30, n_inputs=5, n_outputs=3, dtype="float64")
    nk.train(plain, x, y + offset, lr=0.05, epochs=6, centered=False)
    assert_allclose(centered.theta, plain.theta, rtol=1e-12, atol=1e-13)
    assert_allclose(history.train_loss[0, 0], (y**2).sum(1).mean(), rtol=1e-12)
    assert_allclose(centered.predict(x, centered=True)[0], plain.predict(x)[0] - offset, atol=1e-12)


def test_accuracy_of_one_output_and_of_several():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    labels = np.array([0, 1, 2, 3])
    nets = fcn("relu", 1, NO_BIAS).init(width=64, n_inputs=2, n_outputs=4)
    outputs = nets.predict(x)
    history = nk.train(nets, x, np.eye(4)[labels], lr=0.1, epochs=0, metric="accuracy", centered=False)
    assert history.train_accuracy[0, 0] == (outputs[0].argmax(1) == labels).mean()
    one = fcn("relu", 1, NO_BIAS).init(width=64, n_inputs=2)
    sign = np.sign(one.predict(x)[0, :, 0])
    assert (
        nk.train(one, x, sign, lr=0.1, epochs=0, metric="accuracy", centered=False).train_accuracy[0, 0] == 1
    )
    assert (
        nk.train(one, x, -sign, lr=0.1, epochs=0, metric="accuracy", centered=False).train_accuracy[0, 0] == 0
    )


def test_a_diverging_member_stops_and_the_others_go_on(plan):
    x, y = data(n=20, m=1)
    net = fcn("relu", 1, NO_BIAS)
    nets = net.init(width=8, n_inputs=5, members=3, dtype="float64")
    nets.theta[1] *= 1e60  # this member's loss is ~1e240 and overflows within a few steps
    reference = net.init(width=8, n_inputs=5, members=[2], dtype="float64")
    history = nk.train(nets, x, y, lr=0.05, epochs=30, centered=False)
    nk.train(reference, x, y, lr=0.05, epochs=30, centered=False)
    assert history.diverged_at[0] == 0
    assert history.diverged_at[2] == 0
    assert 1 <= history.diverged_at[1] <= 5
    assert_array_equal(nets.theta[2], reference.theta[0])
    assert np.isfinite(history.train_loss[[0, 2]]).all()
    assert np.isnan(history.train_loss[1, -1])


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_divergence_is_dated_to_the_step(plan, epochs):
    """Parameters of 1e60 double their exponent every step or so: the oracle says which loss is the first not to be finite.

    The step that made it so is named; the first, if the loss is not finite to begin with.
    """
    x, y = data(n=20, m=1)
    nets = fcn("relu", 1, NO_BIAS).init(width=8, n_inputs=5, dtype="float64")
    nets.theta *= 1e30
    with np.errstate(all="ignore"):
        losses, after = oracle.sgd(as_oracle(nets, 0), x, y, "relu", NO_BIAS, 0.1, [np.arange(20)] * epochs)
        losses.append(oracle.loss(oracle.forward(after, x, "relu", NO_BIAS)[0], y))
    bad = np.flatnonzero(~np.isfinite(losses))
    history = nk.train(nets, x, y, lr=0.1, epochs=epochs, centered=False)
    expected = 0 if bad.size == 0 else max(int(bad[0]), 1)
    assert history.diverged_at[0] == expected
    assert epochs < 40 or expected > 0
    if expected:
        assert np.isnan(history.train_loss[0, -1])


def test_interrupting_keeps_the_snapshots():
    x, y = data()
    nets = fcn("relu", 1, NO_BIAS).init(width=16, n_inputs=5, n_outputs=3)

    def stop(done, total):
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as caught:
        nk.train(nets, x, y, lr=0.01, epochs=50, snapshots=range(51), progress=stop)
    history = caught.value.history
    assert history.interrupted
    assert 4 <= history.epochs.size < 51
    assert history.train_loss.shape == (1, history.epochs.size)
    assert np.isfinite(history.train_loss).all()


def test_threads_are_restored_after_an_error():
    import numba
    from threadpoolctl import threadpool_info

    x, y = data()
    nets = fcn("relu", 1, NO_BIAS).init(width=16, n_inputs=5, n_outputs=3)
    numba.set_num_threads(3)
    before = [p["num_threads"] for p in threadpool_info()]

    def stop(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nk.train(nets, x, y, lr=0.01, epochs=5, threads=2, progress=stop)
    assert numba.get_num_threads() == 3
    assert [p["num_threads"] for p in threadpool_info()] == before
    numba.set_num_threads(4)


def test_log_spaced():
    marks = log_spaced(1024, 64)
    assert marks[0] == 0
    assert marks[-1] == 1024
    assert (np.diff(marks) > 0).all()
    assert_array_equal(log_spaced(0), [0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, "lr must be"),
        ({"lr": -1.0}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": "fast"}, "lr must be"),
        ({"epochs": -1}, "epochs must be"),
        ({"epochs": 1.5}, "epochs must be"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 38}, "batch_size 38 exceeds the 37"),
        ({"loss": "hinge"}, "loss"),
        ({"metric": "auc"}, "metric"),
        ({"device": "cuda"}, "device"),
        ({"threads": 0}, "threads must be"),
        ({"threads": -1}, "threads must be"),
        ({"snapshots": [99]}, "snapshots"),
        ({"X_test": np.zeros((2, 5))}, "X_test and Y_test"),
        ({"X_test": np.zeros((2, 4)), "Y_test": np.zeros((2, 3))}, "4 columns"),
    ],
)
def test_bad_options(options, words):
    x, y = data()
    nets = fcn("relu", 1, NO_BIAS).init(width=16, n_inputs=5, n_outputs=3)
    before = nets.theta.copy()
    with pytest.raises(InputError, match=words):
        nk.train(nets, x, y, **{"lr": 0.1, "epochs": 2, **options})
    assert_array_equal(nets.theta, before)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((3, 4)), np.zeros((3, 3)), "4 columns"),
        (np.zeros(3), np.zeros((3, 3)), "shape"),
        (np.zeros((3, 5)), np.zeros((4, 3)), "Y has shape"),
        (np.zeros((3, 5)), np.zeros((3, 2)), "Y has shape"),
        (np.full((3, 5), np.nan), np.zeros((3, 3)), r"X\[0, 0\] is nan"),
        (np.zeros((3, 5)), np.full((3, 3), np.inf), r"Y\[0, 0\] is inf"),
        (np.array([["a"] * 5]), np.zeros((1, 3)), "real numbers"),
        (np.zeros((0, 5)), np.zeros((0, 3)), "n ≥ 1"),
    ],
)
def test_bad_data(x, y, words):
    nets = fcn("relu", 1, NO_BIAS).init(width=16, n_inputs=5, n_outputs=3)
    with pytest.raises(InputError, match=words):
        nk.train(nets, x, y, lr=0.1, epochs=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "width must be an integer ≥ 1, not 0"),
        ({"width": 1.5}, "width must be an integer"),
        ({"width": (3, 4)}, "depth 1"),
        ({"members": 0}, "members"),
        ({"members": []}, "members"),
        ({"members": [-1]}, "member"),
        ({"members": [2, 2]}, "none twice"),
        ({"members": "ab"}, "members"),
        ({"dtype": "foo"}, "dtype"),
        ({"n_inputs": 0}, "n_inputs"),
        ({"n_outputs": 0}, "n_outputs"),
        ({"seed": -1}, "seed"),
        ({"dtype": "int32"}, "dtype"),
        ({"width": 10**12}, "GiB"),
    ],
)
def test_bad_initialisation(options, words):
    with pytest.raises(InputError, match=words):
        fcn("relu", 1, NO_BIAS).init(**{"width": 4, "n_inputs": 2, **options})


def test_training_that_does_not_fit_is_refused_before_allocating(monkeypatch):
    x, y = data()
    nets = fcn("relu", 2, NO_BIAS).init(width=300, n_inputs=5, n_outputs=3, members=2)
    monkeypatch.setattr(sgd, "available_bytes", lambda: 10**6)
    with pytest.raises(
        InputError, match=r"2 networks of 92,400 parameters on 37 rows, 37 a step, needs about 0\.0 GiB"
    ):
        nk.train(nets, x, y, lr=0.1, epochs=1)


def test_networks_from_parameters():
    net = fcn("relu", 1, STDS)
    nets = net.init(width=6, n_inputs=3, n_outputs=2, dtype="float64")
    copy = Networks.from_parameters(net, as_oracle(nets, 0), dtype="float64")
    assert_array_equal(copy.theta, nets.theta)
    with pytest.raises(InputError, match="a bias is needed"):
        Networks.from_parameters(net, [(np.zeros((3, 6)), None), (np.zeros((6, 2)), np.zeros(2))])
    with pytest.raises(InputError, match=r"W of layer 2 has shape \(5, 2\)"):
        Networks.from_parameters(net, [(np.zeros((3, 6)), np.zeros(6)), (np.zeros((5, 2)), np.zeros(2))])
