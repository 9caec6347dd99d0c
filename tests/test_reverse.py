"""The theorem: kernel -> activation -> kernel; the parts of it by hand; degrees, biases and readouts; what is refused."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ntkengine as nk
from ntkengine.design import signs as sign_rules
from ntkengine.errors import AccuracyWarning, InputError, NtkengineError, UnknownNameError
from ntkengine.kernels import DotProductKernel
from tests.oracles import theorem as oracle

ANGLES = np.linspace(0.0, np.pi, 181)


class InRho(DotProductKernel):
    """Σ b_k ρ^k, ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²)."""

    def __init__(self, b, w_std=1.0, b_std=0.0):
        self.b, self.w_std, self.b_std = np.asarray(b, dtype=float), w_std, b_std

    @property
    def name(self):
        return "polynomial in ρ"

    def _values(self, c, complement):
        rho = 1 - self.w_std**2 / (self.w_std**2 + self.b_std**2) * complement
        return np.polynomial.polynomial.polyval(rho, self.b)

    def _series(self, x):
        from flint import arb

        w2, b2 = arb(self.w_std) ** 2, arb(self.b_std) ** 2
        rho = (x * w2 + b2) * (1 / (w2 + b2))
        total = rho * 0
        for b in self.b[::-1]:
            total = total * rho + arb(float(b))
        return total


def round_trip(design):
    """Largest difference of the network's kernel and the target at 181 angles, as a part of K(1)."""
    found, wanted = design.fcn.kernel(design.kind).at_angle(ANGLES), design.target.at_angle(ANGLES)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def deep(name="relu", depth=4, kind="ntk", w_std=2**0.5, b_std=0.1):
    return nk.FCN(name, depth=depth, w_std=w_std, b_std=b_std).kernel(kind)


# --- round trip -------------------------------------------------------------------------------------------------

rules = st.one_of(st.sampled_from(sign_rules.RULES), st.integers(0, 2**32))


@settings(max_examples=60, deadline=None)
@given(
    b=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 10.0)), min_size=1, max_size=31).filter(
        lambda b: max(b) > 0.0
    ),
    kind=st.sampled_from(["ntk", "nngp"]),
    rule=rules,
    q=st.floats(0.04, 34.0),
    biased=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    readout=st.floats(0.1, 5.0),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
@example([0.0] * 30 + [1.0], "ntk", "paper", 1.0, 0.0, 1.0, 0.0)
@example([1.0] * 31, "nngp", "plus", 1.0, 0.0, 1.0, 1.0)
def test_round_trip_of_polynomials(b, kind, rule, q, biased, readout, share):
    w_std, b_std = math.sqrt(q * (1 - biased)), math.sqrt(q * biased)
    target, degree = InRho(b, w_std, b_std), len(b) - 1
    signs = rule if isinstance(rule, str) else np.random.default_rng(rule).choice([-1, 1], degree + 1)
    readout_b_std = math.sqrt(share * b[0]) * (1 - 1e-15)
    design = nk.reverse_engineer(
        target,
        kind,
        degree,
        signs=signs,
        w_std=w_std,
        b_std=b_std,
        readout_w_std=readout,
        readout_b_std=readout_b_std,
    )
    assert round_trip(design) <= 1e-12
    assert design.max_error <= 1e-12 * target(1.0)
    assert design.activation.name == "hermite"
    # the theorem itself
    a = design.coefficients
    rho = oracle.rho(np.cos(ANGLES), w_std, b_std)
    found = oracle.kernel(a, kind, rho, readout, readout_b_std)
    np.testing.assert_allclose(found, target.at_angle(ANGLES), rtol=0, atol=2e-13 * sum(b))
    assert (np.abs(a[1:]) > 0).tolist() == [x > 0 for x in b[1:]]
    if not isinstance(rule, str):
        np.testing.assert_array_equal(np.sign(a[a != 0]), signs[a != 0])


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("w_std", "b_std"), [(1.0, 0.0), (1.3, 0.4), (0.2, 3.0), (5.0, 0.0)])
def test_activation_by_plain_quadrature(kind, w_std, b_std):
    """E[φφ] and E[φ'φ'] of the activation that comes out, by a product rule that knows nothing of Hermite series."""
    target = InRho([0.3, 0.5, 0.0, 1.0, 0.2, 0.4], w_std, b_std)
    design = nk.reverse_engineer(target, kind, w_std=w_std, b_std=b_std, readout_w_std=0.7, readout_b_std=0.5)
    phi, q = design.activation, w_std**2 + b_std**2
    for c in (-1.0, -0.3, 0.0, 0.6, 0.99, 1.0):
        value, slope = oracle.correlations(phi, phi.derivative, oracle.rho(c, w_std, b_std), q)
        found = 0.49 * value + 0.25
        if kind == "ntk":
            found += 0.49 * (w_std**2 * c + b_std**2) * slope
        assert found == pytest.approx(float(target(c)), abs=1e-12)


@pytest.mark.parametrize("degree", [5, 12, 20, 33, 60])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(
    "target", ["sinh(2*c)", "exp(c)", "laplace", deep(), deep("erf", 4), deep("relu", 2, "nngp")], ids=str
)
def test_series_that_are_cut_miss_their_tail(target, kind, degree):
    design = nk.reverse_engineer(target, kind, degree, signs="paper")
    scale = float(design.target(1.0))
    assert design.degree == degree
    assert round_trip(design) * scale <= max(design.tail, 0.0) + 1e-12 * scale
    lost = float(design.target(1.0)) - float(np.asarray(design.series).sum())
    assert design.tail == pytest.approx(lost, abs=1e-13 * scale)
    # at c = 1 all that is left out is missing
    found = float(design.fcn.kernel(kind)(1.0))
    assert scale - found == pytest.approx(design.tail, abs=1e-12 * scale)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_degree_none_takes_what_the_series_needs(kind):
    for target, most in [("c**4 + c", 4), ("exp(c)", 20), ("sinh(2*c)", 25), ("c", 1), ("geometric", 60)]:
        design = nk.reverse_engineer(target, kind)
        assert design.degree <= most
        assert round_trip(design) <= 2e-13
    long = nk.reverse_engineer("laplace", kind)
    assert long.degree == 128
    assert 'degree="all"' in long.report()
    assert long.tail > 0.01


FALLING = [
    *(nk.kernel("gaussian", gamma=gamma) for gamma in (30.0, 33.0, 50.0, 54.0, 1000.0)),
    *(nk.kernel("geometric", rate=rate) for rate in (0.75, 0.8, 0.9, 0.96, 0.97)),
    nk.kernel("exp(exp(exp(c)))"),
    deep("erf"),
    deep("tanh", 2),
]


@pytest.mark.parametrize("target", FALLING, ids=str)
def test_degree_none_completes_every_series_that_ends_by_degree_8191(target):
    design = nk.reverse_engineer(target, "nngp", signs="paper")
    assert round_trip(design) <= 2e-13
    assert abs(design.tail) <= 1e-13 * target(1.0)
    b = np.asarray(target.taylor(2 * design.degree + 100))[design.degree :]  # and no sooner
    assert b.sum() > 0.8e-13 * target(1.0)


def test_advice_of_degree_none():
    for target in (nk.kernel("geometric", rate=0.9999), "tan(1.5707*c)", "1/(1.00001-c**2)"):
        with pytest.raises(InputError, match=r"degree is None.* less steep at \|c\| = 1, or a degree$"):
            nk.reverse_engineer(target)
    narrow = nk.kernel("gaussian", gamma=1e4)
    with pytest.raises(InputError, match=r"leave out all .* degree 8191 all; .* less steep at \|c\| = 1$"):
        nk.reverse_engineer(narrow)
    for degree in (8191, "all"):
        with pytest.raises(InputError, match=r"no term up to degree 819\d; take a kernel that is less steep"):
            nk.reverse_engineer(narrow, degree=degree)
    steep = nk.kernel("laplace", length=0.1)
    with pytest.raises(InputError, match=r'or a degree, or degree="all"$'):
        nk.reverse_engineer(steep)
    with pytest.warns(AccuracyWarning, match="that of its derivative"):
        assert nk.reverse_engineer(steep, degree="all").degree > 8000


def test_biases_of_the_network_itself_and_others():
    """The NTK of ReLU with σ_b is a series in ρ for that σ_b/σ_w, and for smaller ones."""
    target = deep(b_std=0.3)
    for w_std, b_std in [(2**0.5, 0.3), (1.0, 0.3 / 2**0.5), (1.0, 0.1), (1.0, 0.0), (0.9, 0.05)]:
        design = nk.reverse_engineer(target, degree=20, w_std=w_std, b_std=b_std)
        assert round_trip(design) * target(1.0) <= design.tail + 1e-12 * target(1.0)
        assert (design.fcn.w_std, design.fcn.b_std) == (w_std, b_std)
    with pytest.raises(InputError, match="b_std"):
        nk.reverse_engineer(target, degree=20, w_std=1.0, b_std=0.5)
    # in ρ of the network's own biases less is left out than in c
    own = nk.reverse_engineer(target, degree=20, w_std=2**0.5, b_std=0.3)
    assert own.tail != nk.reverse_engineer(target, degree=20).tail


@pytest.mark.parametrize("name", ["erf", "sin", "gelu", "relu", "leaky_relu"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_one_layer_networks_come_back_up_to_signs(name, kind):
    """The kernel of one hidden layer of φ gives |a_k(φ)|: with φ's own signs, φ itself."""
    phi = nk.activation(name)
    target = nk.FCN(phi, w_std=1.0, b_std=0.0, readout_w_std=1.3, readout_b_std=0.4).kernel(kind)
    own = phi.hermite(16)
    design = nk.reverse_engineer(
        target, kind, 16, signs=np.where(own < 0, -1, 1), readout_w_std=1.3, readout_b_std=0.4
    )
    np.testing.assert_allclose(design.coefficients, own, atol=1e-7)
    np.testing.assert_allclose(design.activation.hermite(16), design.coefficients, atol=1e-13)


def test_constant_part_less_the_bias_of_the_readout():
    plain = nk.reverse_engineer("exp(c)", "nngp")
    biased = nk.reverse_engineer("exp(c)", "nngp", readout_b_std=0.6)
    assert biased.coefficients[0] == pytest.approx(math.sqrt(1 - 0.36))
    np.testing.assert_allclose(biased.coefficients[1:], plain.coefficients[1:])
    assert round_trip(biased) <= 1e-12
    whole = nk.reverse_engineer("exp(c)", "nngp", readout_b_std=1.0)  # all of it: exp(c) = 1 + ...
    assert whole.coefficients[0] == 0
    assert round_trip(whole) <= 1e-12
    for degree in (5, None, "all"):
        with pytest.raises(InputError, match=r"readout_b_std is 1.01.*at most 1$"):
            nk.reverse_engineer("exp(c)", "ntk", degree, readout_b_std=1.01)
    with pytest.raises(InputError, match=r"constant part b_0 = 0; choose readout_b_std of at most 0$"):
        nk.reverse_engineer("c**3", readout_b_std=0.1)


def test_published_polynomials():
    """[RE] Fig. 1 D, E, G: c³, c⁴ + c and cosh 2c as NTKs."""
    for target, wanted in [
        ("c**3", [0, 0, 0, 0.5]),
        ("c**4 + c", [0, 0.707, 0, 0, 0.447]),
        ("cosh(2*c)", [1.0, 0, 0.816, 0, 0.365]),
    ]:
        found = np.abs(nk.reverse_engineer(target, degree=len(wanted) - 1).coefficients)
        np.testing.assert_allclose(found, wanted, atol=5e-4)


def test_a_kernel_is_a_sum_of_kernels():
    one, two = nk.kernel("exp(c)"), nk.kernel("c**3")
    both = nk.reverse_engineer(2.0 * one + two * two, "nngp")
    b = np.asarray(2.0 * one.taylor(both.degree)) + np.asarray((two * two).taylor(both.degree))
    np.testing.assert_allclose(both.coefficients**2, b, rtol=1e-13)


# --- bad input --------------------------------------------------------------------------------------------------

NEGATIVE = [
    ("c**2 - 0.25*c**3", r"coefficient of degree 3 of its power series in c is -0.25,"),
    ("cos(2*c)", r"coefficient of degree 2 .* is -2 \(and 2 others up to degree 12\)"),
    ("1 - c", "coefficient of degree 1 .* is -1,"),
    ("exp(-c)", "coefficient of degree 1 .* is -1 "),
]


@pytest.mark.parametrize(("target", "text"), NEGATIVE)
def test_negative_coefficients(target, text):
    with pytest.raises(InputError, match=text) as caught:
        nk.reverse_engineer(target, degree=12)
    assert "project=True" in str(caught.value)


def test_negative_only_because_of_the_biases():
    nk.reverse_engineer("c**2")
    with pytest.raises(InputError, match=r"degree 1 of its power series in ρ = .*, b_std = 0.5 is -0.625"):
        nk.reverse_engineer("c**2", b_std=0.5)


@pytest.mark.parametrize("target", ["c**2 - 0.25*c**3", "cos(2*c)", "abs(c)", "exp(c) - 1.5*c"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_projection_is_the_nearest_positive_definite_kernel(target, kind):
    """Of all Σ b_k c^k, b_k >= 0, none is nearer in the mean over angles: moving along any c^k, or shrinking, is no gain."""
    design = nk.reverse_engineer(target, kind, 12, project=True)
    theta = (np.arange(4000) + 0.5) * np.pi / 4000
    found = design.kernel.at_angle(theta)
    miss = found - design.target.at_angle(theta)
    assert design.distance == pytest.approx(math.sqrt((miss**2).mean()), rel=1e-6)
    assert design.distance > 0.01
    for k in range(13):
        assert (miss * np.cos(theta) ** k).mean() > -1e-7
    assert abs((miss * found).mean()) < 1e-7
    assert f"{design.distance:.3e} away" in design.report()


def test_projection_changes_nothing_where_there_is_nothing_to_do():
    plain, projected = nk.reverse_engineer("sinh(2*c)"), nk.reverse_engineer("sinh(2*c)", project=True)
    np.testing.assert_array_equal(plain.coefficients, projected.coefficients)
    assert projected.distance == 0.0
    assert "projected" not in projected.report()


BAD = [
    ({"k": "1/(1 - c)"}, "no finite real value at c = 1"),
    ({"k": "1/(2*c - 1)**2"}, "no finite real value at c = 0.5"),
    ({"k": "sqrt(c)"}, "no finite real value at c = -1"),
    ({"k": "log(c)"}, "no finite real value at c = -1"),
    ({"k": "abs(c)"}, "not analytic"),
    ({"k": "max(c, 0)"}, "not analytic"),
    ({"k": "1/(1.5 - 2*c**2)"}, "no finite|analytic"),
    ({"k": "sqrt(1.2 + 2*c + c**2)"}, "degree|analytic"),
    ({"k": "0"}, "0 everywhere"),
    ({"k": "0*c"}, "0 everywhere"),
    ({"k": "c", "degree": -1}, r"degree must be an integer ≥ 0, None or \"all\", not -1"),
    ({"k": "c", "degree": 2.5}, "degree must be an integer .*, not 2.5"),
    ({"k": "c", "degree": math.nan}, "degree must be an integer .*, not nan"),
    ({"k": "c", "degree": True}, "degree must be an integer .*, not True"),
    ({"k": "c", "degree": "most"}, "degree is 'most'"),
    ({"k": "c", "degree": [3]}, "degree must be an integer"),
    ({"k": "c", "degree": 8192}, "8191 at most"),
    ({"k": "c", "project": "no"}, "project must be True or False, not 'no'"),
    ({"k": "c", "project": 0.5}, "project must be True or False, not 0.5"),
    *(({"k": "c", name: True}, f"^{name} ") for name in ("w_std", "b_std", "readout_w_std", "readout_b_std")),
    ({"k": "c", "kind": "nnpg"}, "kind is 'nnpg'"),
    ({"k": "c", "kind": None}, "kind is None"),
    ({"k": 3.0}, "not by 3.0"),
    ({"k": None}, "not by None"),
    ({"k": np.cos}, "not by <ufunc"),
    ({"k": nk.activation("relu")}, "not by relu"),
    ({"k": "c + z"}, "z"),
    ({"k": "c", "w_std": 0}, "w_std is 0"),
    ({"k": "c", "w_std": math.nan}, "w_std is nan"),
    ({"k": "c", "w_std": "1"}, "w_std is '1'"),
    ({"k": "c", "b_std": -0.1}, "b_std is -0.1"),
    ({"k": "c", "b_std": math.inf}, "b_std is inf"),
    ({"k": "c", "readout_w_std": 0.0}, "readout_w_std is 0.0"),
    ({"k": "c", "readout_b_std": math.nan}, "readout_b_std is nan"),
    ({"k": "c", "radial_lift": "yes"}, "radial_lift must be True or False"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[str(a) for a, _ in BAD])
def test_bad_input(arguments, text):
    with pytest.raises(InputError, match=text):
        nk.reverse_engineer(**arguments)


def test_unknown_family():
    with pytest.raises(UnknownNameError, match="gaussian"):
        nk.reverse_engineer("gausian")


class NoSeries(DotProductKernel):
    """A kernel that has values and no more."""

    name = "mine"

    def _values(self, c, complement):
        return np.exp(c)


def test_a_kernel_without_continuation():
    with pytest.raises(InputError, match="'mine' has no analytic continuation"):
        nk.reverse_engineer(NoSeries())
    design = nk.reverse_engineer(NoSeries(), degree=15, project=True)  # the nearest kernel needs values only
    assert design.distance < 1e-9
    assert round_trip(design) < 1e-9


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000).map(lambda n: n / 1000), min_size=1, max_size=8),
    st.sampled_from(["ntk", "nngp"]),
)
def test_any_polynomial_gives_a_design_or_names_the_first_negative_degree(b, kind):
    target = InRho(b)
    first = [k for k, x in enumerate(b) if x < 0]
    if first and -min(b) > 1e-13 * max(map(abs, b)):
        wrong = next(k for k in first if -b[k] > 1e-14 * max(map(abs, b)))
        with pytest.raises(NtkengineError, match=f"degree {wrong} "):
            nk.reverse_engineer(target, kind, len(b) - 1)
    elif not first and max(b) > 0:
        assert round_trip(nk.reverse_engineer(target, kind, len(b) - 1)) <= 1e-12


# --- the record -------------------------------------------------------------------------------------------------


def test_report():
    design = nk.reverse_engineer(
        "exp(c)", "ntk", 6, w_std=1.2, b_std=0.1, readout_b_std=0.5, radial_lift=True
    )
    text = design.report()
    lines = dict(line.split("  ", 1) for line in text.splitlines())
    assert lines["target"].strip() == "exp(c)"
    assert lines["signs"].strip() == "smooth"
    assert lines["degree"].strip().startswith(f"6; the terms left out hold {design.tail / np.e:.2e} of K(1)")
    assert (
        lines["network"].strip() == "1 hidden layer, NTK, w_std 1.2, b_std 0.1, readout 1, 0.5, radial lift"
    )
    assert f"{design.max_error:.4e}" in lines["largest error"]
    assert design.squared_error == pytest.approx(((design.values - design.target_values) ** 2).sum())
    assert design.rms_error == pytest.approx(math.sqrt(design.squared_error / 181))
    np.testing.assert_allclose(design.angles, ANGLES)


def test_moments_are_those_of_phi():
    design = nk.reverse_engineer("exp(c)", "nngp")
    far = sign_rules.reach(4096)
    x, w = np.polynomial.legendre.leggauss(400)
    z, p = far * x, far * w * np.exp(-((far * x) ** 2) / 2) / math.sqrt(2 * math.pi)
    phi = design.activation(z)
    assert design.moments.second == pytest.approx(float(p @ phi**2), rel=1e-10)
    assert design.moments.fourth == pytest.approx(float(p @ phi**4), rel=1e-10)
    assert design.neuron_variance == pytest.approx(float(p @ phi**4) / float(p @ phi**2) ** 2 - 1, rel=1e-9)
    assert design.moments.kurtosis == pytest.approx(design.moments.fourth / design.moments.second**2)
    assert design.moments.largest == pytest.approx(np.abs(phi).max(), rel=1e-2)


def test_report_of_what_networks_do_not_see():
    """c^k as NNGP kernel: E[h_k²; |z| <= R] by Gauss's rule, and most networks have that share of K(1)."""
    far = sign_rules.reach(4096)
    x, w = np.polynomial.legendre.leggauss(400)
    p = far * w * np.exp(-((far * x) ** 2) / 2) / math.sqrt(2 * math.pi)
    for degree in (10, 30):
        design = nk.reverse_engineer(f"c**{degree}", "nngp", readout_w_std=0.7)
        h = np.polynomial.hermite_e.hermeval(far * x, np.eye(degree + 1)[-1]) / math.sqrt(
            math.factorial(degree)
        )
        seen = float(p @ h**2)
        assert design.moments.visited == pytest.approx(seen, rel=1e-9)
        lines = dict(line.split("  ", 1) for line in design.report().splitlines())
        assert f"see {seen:.1%} of K(1)" in lines["visited"]
        assert f"{seen * math.sqrt(design.neuron_variance / 4096):.2%} of K(1)" in lines["scatter"]
    design = nk.reverse_engineer("c**10")
    found = design.verify(width=4096, members=64, seed=3).curves[:, 0]
    assert design.moments.visited == pytest.approx(0.41, abs=0.01)
    assert np.median(found) == pytest.approx(design.moments.visited, rel=0.1)
    shifted = nk.reverse_engineer("c**10 + 9", readout_b_std=3.0)
    assert shifted.moments.visited == pytest.approx(design.moments.visited, rel=1e-9)
    assert "of K(1) − ω_b²" in shifted.report()
    plain = nk.reverse_engineer("exp(c)")
    assert 0.999 < plain.moments.visited <= 1
    assert "visited" not in plain.report()
    assert nk.reverse_engineer("4", "nngp", readout_b_std=2.0).moments.visited == 1.0


def test_designs_can_be_pickled_and_trained():
    for degree in (8, "all"):
        design = nk.reverse_engineer("exp(c)", degree=degree)
        phi = pickle.loads(pickle.dumps(design.activation))
        assert phi == design.activation
        nets = design.fcn.init(width=64, n_inputs=3, members=2)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 1))
        loss = nk.train(nets, x, y, lr=0.1, epochs=20).train_loss
        assert (loss[:, -1] < loss[:, 0]).all()


def test_the_repr_of_a_design_is_one_line():
    text = repr(nk.reverse_engineer("c**3 + c"))
    assert "\n" not in text
    assert "c**3 + c" in text
    assert "hermite" in text
