"""Series in the Hermite polynomials of variance v, and designs at any variance: exact there, and as long as they need to be."""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import ntkengine as nk
from ntkengine.activations import activation
from ntkengine.design.export import export, read_json
from ntkengine.errors import InputError
from ntkengine.kernels import DotProductKernel
from tests.exports import design as exportable
from tests.oracles import activations as activation_oracle
from tests.oracles import theorem as oracle

ANGLES = np.linspace(0.0, np.pi, 181)
VARIANCES = [1e-20, 0.04, 0.9, 2.5, 34.0, 1e12]


class InRho(DotProductKernel):
    """Σ b_k ρ^k, ρ = (σ_w² c + σ_b²)/(σ_w² + σ_b²), of some degrees."""

    name = "polynomial in ρ"

    def __init__(self, b, w_std=1.0, b_std=0.0):
        self.b, self.share = dict(b), w_std**2 / (w_std**2 + b_std**2)
        self.stds = w_std, b_std

    def _values(self, c, complement):
        rho = 1 - self.share * complement
        return sum(b * rho**k for k, b in self.b.items())

    def _series(self, x):
        from flint import arb

        w2, b2 = (arb(std) ** 2 for std in self.stds)
        rho = (x * w2 + b2) * (1 / (w2 + b2))
        return sum((rho**k * b for k, b in self.b.items()), x * 0)


def missed(design):
    """Largest difference of the network's kernel and the target at 181 angles, as a part of K(1)."""
    found, wanted = design.fcn.kernel(design.kind).at_angle(ANGLES), design.target.at_angle(ANGLES)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


# --- the family -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 40])
def test_values_are_those_of_the_scaled_argument(size, dtype):
    c = np.random.default_rng(size).normal(size=size) / np.arange(1, size + 1)
    for v in VARIANCES:
        x = np.linspace(-1.9, 1.9, 101)
        z = (math.sqrt(v) * x).astype(dtype)
        x = z.astype(float) / math.sqrt(v)
        value, slope = activation("hermite", coefficients=c, variance=v).both(z)
        rounding = np.finfo(dtype).eps * (size + 4) ** 1.5 * np.abs(c).sum()
        np.testing.assert_allclose(value, activation_oracle._hermite_sum(x, *c), rtol=0, atol=3 * rounding)
        wanted = activation_oracle._hermite_slope(x, *c)
        np.testing.assert_allclose(slope * math.sqrt(v), wanted, rtol=0, atol=3 * size * rounding)


@pytest.mark.parametrize("v", VARIANCES)
def test_coefficients_at_their_variance_are_the_parameters(v):
    """And elsewhere those of Σ c_k h_k(√(q/v) z), by quadrature."""
    c = np.random.default_rng(1).normal(size=200) / np.arange(1, 201)
    phi = activation("hermite", coefficients=c, variance=v)
    for q in (v, v * (1 + 2e-16), v * (1 - 2e-16)):
        np.testing.assert_array_equal(phi.hermite(199, q), c)
    short = activation("hermite", coefficients=c[:12], variance=v)
    wanted = activation_oracle.hermite_coefficients("hermite", tuple(c[:12]), 1.7, 20)
    np.testing.assert_allclose(short.hermite(20, 1.7 * v), wanted, rtol=0, atol=1e-13)


def test_one_machine_code_for_all_variances():
    for size in (4, 40):
        tiles = {
            activation("hermite", coefficients=np.ones(size), variance=v).tile("float64").address
            for v in VARIANCES
        }
        tiles.add(activation("hermite", coefficients=np.ones(size)).tile("float64").address)
        assert len(tiles) == 1


@pytest.mark.parametrize("size", [3, 50])
def test_the_variance_belongs_to_the_activation(size):
    phi = activation("hermite", coefficients=np.arange(size), variance=2.5)
    plain = activation("hermite", coefficients=np.arange(size))
    assert phi.parameters == {"coefficients": tuple(range(size)), "variance": 2.5}
    assert plain.parameters == {"coefficients": tuple(range(size))}
    assert str(phi).endswith("variance=2.5)")
    assert phi == activation("hermite", coefficients=range(size), variance=2.5) != plain
    assert activation("hermite", coefficients=np.arange(size), variance=1) == plain
    assert phi.family is activation("hermite", coefficients=np.ones(size), variance=2.5).family
    assert len({phi.family, plain.family, phi.family.of_size(size)}) == 2
    assert [p.name for p in phi.family.parameters] == [f"c{k}" for k in range(size)]
    again = pickle.loads(pickle.dumps(phi))
    assert again == phi and again.family.variance == 2.5  # noqa: PT018
    for other in (
        phi.with_values(2 * np.array(phi.values)),
        phi.family(coefficients=[1.0]),
        phi.family(c1=3.0),
    ):
        assert other.family.variance == 2.5
    assert phi.family(coefficients=[1.0], variance=3.0).family.variance == 3.0


@pytest.mark.parametrize("v", [0, -1.0, math.nan, math.inf, 1e65, 1e-65, 10**400, "two", None, [1.0]])
def test_bad_variances(v):
    with pytest.raises(InputError, match="'variance' of activation 'hermite'"):
        activation("hermite", coefficients=[1.0], variance=v)


def test_polynomials_have_none():
    with pytest.raises(InputError, match=r"no parameter 'variance'; its parameters: coefficients$"):
        activation("polynomial", coefficients=[1.0], variance=2.0)
    with pytest.raises(InputError, match=r"no parameter 'v'; its parameters: coefficients, variance$"):
        activation("hermite", coefficients=[1.0], v=2.0)
    with pytest.raises(InputError, match="needs coefficients"):
        activation("hermite", variance=2.0)


def test_json_of_old_and_new():
    """A text without a variance, as it was before there was one, means 1."""
    plain, scaled = (activation("hermite", coefficients=[0.0, 1.0, 0.5], variance=v) for v in (1.0, 0.1))
    old = json.loads(export(exportable(plain), "json"))
    assert old["activation"]["parameters"] == {"coefficients": [0.0, 1.0, 0.5], "variance": 1.0}
    del old["activation"]["parameters"]["variance"]
    old["version"] = 1
    assert read_json(json.dumps(old)).activation == plain
    new = json.loads(export(exportable(scaled), "json"))
    assert read_json(json.dumps(new)).activation == scaled
    new["activation"]["parameters"]["variance"] = -1
    with pytest.raises(InputError, match="'variance' of activation 'hermite' is -1"):
        read_json(json.dumps(new))


def test_latex_names_the_scaled_argument():
    text = export(
        exportable(activation("hermite", coefficients=[0.0, 1.0, 0.0, -0.5], variance=2.25)), "latex"
    )
    assert r"\varphi(z) = h_{1}(t) - 0.5\, h_{3}(t)" in text
    assert r"t = z / \sqrt{2.25}" in text


# --- designs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("w_std", [0.2, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("b_std", [0.0, 0.3, 1.0, 3.0])
def test_polynomials_to_degree_thirty_at_all_variances(kind, w_std, b_std):
    rng = np.random.default_rng(0)
    for b in (np.ones(31), np.eye(31)[30], rng.uniform(size=31), 3.0 ** -np.arange(31)):
        target = InRho(enumerate(b.tolist()), w_std, b_std)
        for degree, signs in ((None, "smooth"), (30, rng.choice([-1.0, 1.0], 31))):
            design = nk.reverse_engineer(target, kind, degree, signs=signs, w_std=w_std, b_std=b_std)
            assert missed(design) <= 1e-13
            a, q = design.coefficients, w_std**2 + b_std**2
            np.testing.assert_array_equal(design.activation.hermite(design.degree, q), a)
            rho = oracle.rho(np.cos(ANGLES), w_std, b_std)
            np.testing.assert_allclose(
                oracle.kernel(a, kind, rho), target.at_angle(ANGLES), rtol=0, atol=1e-12 * b.sum()
            )


@pytest.mark.parametrize("w_std", [0.2, 0.8, 4.0])
def test_long_series_at_variances_far_from_one(w_std):
    target = nk.FCN("relu", depth=4, w_std=2**0.5, b_std=0.1).kernel("ntk")
    for degree in (None, 1000):
        design = nk.reverse_engineer(target, degree=degree, w_std=w_std)
        assert design.degree == (degree or 128)
        assert missed(design) * target(1.0) <= design.tail + 1e-12 * target(1.0)
        same = nk.reverse_engineer(target, degree=degree)
        np.testing.assert_allclose(design.coefficients, same.coefficients, rtol=0, atol=1e-14)
    # float32, in which networks train, still sees φ
    z = w_std * np.linspace(-4, 4, 801)
    exact, single = design.activation(z), design.activation(z.astype(np.float32))
    weight = np.exp(-((z / w_std) ** 2) / 2)
    assert math.sqrt(float(weight @ (exact - single) ** 2 / (weight @ exact**2))) < 1e-3


def test_networks_of_such_designs():
    """One hidden layer with w_std = 3, forwards, against NumPy; and its empirical kernel is near the target."""
    design = nk.reverse_engineer("c**3 + c", "nngp", w_std=3.0)
    nets = design.fcn.init(width=32, n_inputs=4, members=1, dtype="float64")
    x = np.random.default_rng(1).normal(size=(6, 4))
    (w, _), (v, _) = nets.parameters()
    h = activation_oracle._hermite_sum(x @ w[0] / 2, *design.coefficients)
    np.testing.assert_allclose(nets.predict(x)[0], h @ v[0] / math.sqrt(32), rtol=1e-12, atol=1e-13)
    assert abs(design.verify(width=256, members=8).z_score) < 4


# --- how long a series is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "degree"),
    [({200: 1.0}, 200), ({1: 1.0, 200: 1.0}, 200), ({1: 1.0, 300: 1e-4}, 300), ({1: 1.0, 2500: 1e-4}, 2500),
     ({0: 1.0, 5000: 0.5}, 5000)],
)  # fmt: skip
def test_polynomials_are_taken_whole(terms, degree):
    design = nk.reverse_engineer(InRho(terms), "nngp")
    assert design.degree == degree
    assert design.tail == 0
    assert missed(design) < 1e-13


def test_a_power_of_a_sum_is_taken_whole():
    design = nk.reverse_engineer("((1 + c)/2)**60", w_std=0.4)
    assert missed(design) < 1e-12
    network = nk.FCN(activation("hermite", coefficients=[0, 0, 0, 0.4, 0, 0, 0, 0.2]), depth=3).kernel("ntk")
    assert missed(nk.reverse_engineer(network)) < 1e-12


def test_entire_kernels_that_begin_late_are_followed():
    steep = nk.reverse_engineer(nk.kernel("gaussian", gamma=100.0), "nngp")  # b_k: Poisson with mean 200
    assert 280 < steep.degree < 340
    assert missed(steep) < 1e-12
    slow = nk.reverse_engineer(nk.kernel("geometric", rate=0.99), "nngp")
    assert 2500 < slow.degree < 3500
    assert missed(slow) < 1e-12


def test_samples_that_are_not_positive_definite_are_seen_within_a_sum():
    c = np.linspace(-1, 1, 41)
    target = 2.0 * nk.kernel_from_samples(c, np.cos(6 * c)) + nk.kernel("c**2")
    with pytest.raises(InputError, match=r"not those of a positive-definite kernel.*project=True"):
        nk.reverse_engineer(target, degree=20)
    found = nk.reverse_engineer(target, degree=20, project=True)
    theta = (np.arange(2000) + 0.5) * np.pi / 2000
    miss = found.kernel.at_angle(theta) - target.at_angle(theta)
    assert found.distance == pytest.approx(math.sqrt((miss**2).mean()), rel=1e-4)


def test_what_is_out_of_reach_is_said():
    with pytest.raises(InputError, match=r"no term up to degree 100; give a higher degree"):
        nk.reverse_engineer("c**200", degree=100)
    with pytest.raises(InputError, match=r"nearest to -c is 0 everywhere"):
        nk.reverse_engineer("-c", project=True)
    with pytest.raises(
        InputError, match=r"up to degree 128 leave out 0.5 of K\(1\), and those up to degree 8191 0.5"
    ):
        nk.reverse_engineer(InRho({1: 1.0, 9000: 1.0}))
    with pytest.raises(InputError, match=r"coefficient of degree 300 .* is -0.0001"):
        nk.reverse_engineer(InRho({1: 1.0, 300: -1e-4}))


# --- sizes ------------------------------------------------------------------------------------------------------

BAD = [
    ({"degree": np.array([1, 2])}, "degree must be an integer"),
    ({"degree": np.array("all")}, "degree must be an integer"),
    ({"degree": "10"}, "degree is '10'"),
    ({"degree": 10**400}, "degree is 10000.*; it can be 8191 at most"),
    ({"degree": -(10**5000)}, "degree must be an integer ≥ 0.*, not "),
    ({"width": 10**5000, "signs": "concentrated"}, "width is .*; it can be 9007199254740992 at most"),
    *(({name: value}, f"^{name} is") for name in ("w_std", "b_std", "readout_w_std", "readout_b_std")
      for value in (1e200, math.nan, math.inf, -1.0, "1", 10**400, [1.0], None)),
    *(({name: 1e-300}, f"^{name} is 1e-300") for name in ("w_std", "readout_w_std")),
    ({"degree": "all", "w_std": 1e-5}, r"w_std² \+ b_std² is 1e-10; the table .* takes 1e-08 to 1e\+20"),
    ({"k": 1e200 * nk.kernel("c")}, r"of size 1.0e\+200; a design takes"),
    ({"k": 1e-200 * nk.kernel("c")}, r"of size 1.0e-200; .* k.normalized\(\)"),
    ({"k": 1e50 * nk.kernel("c"), "readout_w_std": 1e-10}, r"coefficients of φ would be of size .* nearer to √K\(1\) = 1e\+25"),
    ({"k": 1e-50 * nk.kernel("c"), "readout_w_std": 1e10}, r"coefficients of φ would be of size"),
]  # fmt: skip


@pytest.mark.parametrize("project", [False, True])
def test_sizes_that_have_no_design_are_refused(project):
    for arguments, text in BAD:
        with pytest.raises(InputError, match=text):
            nk.reverse_engineer(**{"k": "c + c**2", "project": project, **arguments})


@pytest.mark.parametrize(("w_std", "b_std"), [(1e-30, 0.0), (1e30, 0.0), (1e30, 1e30)])
def test_the_least_and_the_largest_standard_deviations(w_std, b_std):
    design = nk.reverse_engineer(InRho({1: 1.0, 4: 0.5}, w_std, b_std), w_std=w_std, b_std=b_std)
    assert missed(design) < 1e-14
    z = np.linspace(-2, 2, 9) * math.hypot(w_std, b_std)
    single, exact = design.activation(z.astype(np.float32)), design.activation(z)
    np.testing.assert_allclose(single, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("degree", [None, 4, "all"])
@pytest.mark.parametrize("size", [1e-50, 1e50])
def test_large_and_small_kernels(size, degree):
    w_std = 1e-3 if degree == "all" else 1e-15
    design = nk.reverse_engineer(size * nk.kernel("exp(c)"), degree=degree, w_std=w_std, b_std=1e-300)
    assert missed(design) <= max(design.tail / design.target(1.0), 1e-9) * (1 + 1e-9)
    assert "inf" not in design.report()
    assert "nan" not in design.report()


# --- what is imported -------------------------------------------------------------------------------------------

CHILD = """
import sys
import ntkengine as nk
from ntkengine.design import read_json
from ntkengine.design.export import export
design = nk.reverse_engineer(nk.FCN("relu").kernel(), degree=6, w_std=2.0)
assert read_json(export(design, "json")) == design.fcn
print(*sorted({"sympy", "flint", "h5py", "matplotlib"} & set(sys.modules)))
"""


def test_designs_need_no_symbolic_libraries():
    found = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
