"""The CUDA kernels of tutorial.kmeans, around every limit where one hands over to another: labels, sums and counts."""

from tutorial.kmeans import gpu

import numpy as np
import pytest

pytestmark = pytest.mark.gpu

# features, clusters. The limits: what registers hold (`narrow`), 8 features (`tensor`), 17 (the tile of `direct`), 256
# features (`tensor`), 256 clusters (sums in `tensor`); the candidates' lists and tiles have multiples of 32.
NARROW = [
    (1, 1),
    (1, 3),
    (1, 40),
    (1, 42),
    (1, 43),
    (2, 1),
    (2, 5),
    (2, 24),
    (2, 25),
    (3, 16),
    (3, 17),
]
NARROW += [(1, 41), (8, 5), (8, 6), (15, 2), (15, 3), (16, 1), (16, 2), (21, 1), (22, 1)]
# float64's
NARROW += [(1, 20), (1, 21), (2, 11), (2, 12), (3, 7), (3, 8), (4, 5), (4, 6), (8, 1), (8, 2)]
DIRECT = [(2, 64), (2, 256), (3, 20), (5, 1500), (7, 33), (2, 2000), (257, 40), (300, 3)]
TENSOR = [
    (8, 64),
    (9, 31),
    (16, 7),
    (16, 8),
    (17, 1),
    (17, 9),
    (31, 33),
    (32, 5),
    (32, 32),
    (33, 64),
    (64, 40),
]
TENSOR += [
    (64, 256),
    (64, 257),
    (100, 31),
    (127, 65),
    (128, 5),
    (128, 255),
    (128, 256),
    (128, 257),
    (129, 160),
]
TENSOR += [(130, 300), (255, 160), (256, 5), (256, 160), (256, 161)]
# where an earlier kernel kept its candidates in too few bits
MANY = [(32, 1024), (64, 1025), (64, 1056), (32, 1057), (32, 1088), (64, 1089), (128, 2561)]
LAYOUTS = ["C", "F", "strided"]


def rows_and_centers(d, k, dtype, n, far=0.0):
    """Return n rows around k centres and centroids near them, NumPy; clusters overlap."""
    random = np.random.default_rng(1000 * d + k)
    centers = random.uniform(-10, 10, (k, d)) + far
    X = centers[random.integers(0, k, n)] + 2 * random.standard_normal((n, d))
    return X.astype(dtype), (centers + 0.3 * random.standard_normal((k, d))).astype(dtype)


def in_layout(X, layout):
    """Return X as CuPy in rows ("C"), in columns ("F"), or as every other row and column of a larger array."""
    import cupy

    if layout == "strided":
        return cupy.array(np.repeat(np.repeat(X, 2, axis=0), 2, axis=1))[::2, ::2]
    return cupy.array(X, order=layout)


def check(d, k, dtype, layout="C", n=3001, far=0.0):
    """Hold labels, distances, sums, counts and inertia of one shape against float64."""
    import cupy

    host, centers = rows_and_centers(d, k, dtype, n, far)
    X, exact = in_layout(host, layout), cupy.asarray(host, np.float64)
    placed, single = cupy.asarray(centers, np.float64), dtype == "float32"
    squared = cupy.stack([((exact - center) ** 2).sum(axis=1) for center in placed])
    nearest, rounding = squared.min(axis=0), 2e-5 if single else 1e-11
    labels, distances = gpu.nearest(X, centers)
    chosen = squared[labels, cupy.arange(n)]
    assert (
        chosen <= nearest * (1 + rounding)
    ).all()  # the nearest, or as near as the type can tell
    cupy.testing.assert_allclose(distances, chosen, rtol=1e-4 if single else 1e-10)
    sums, counts, inertia = gpu.step(X, centers)
    labels = labels.get()
    assert counts.sum() == n
    # `step` and `nearest` may part at a near tie
    assert np.abs(counts - np.bincount(labels, minlength=k)).sum() <= (n // 500 if single else 0)
    assert inertia == pytest.approx(float(nearest.sum()), rel=1e-5 if single else 1e-11)
    expected = np.zeros((k, d))
    np.add.at(expected, labels, host.astype(np.float64) - centers[labels])
    alike = counts == np.bincount(labels, minlength=k)
    assert alike.sum() >= k - 2 * (n // 500)
    atol = (2e-5 if single else 1e-10) * np.abs(expected).max()
    np.testing.assert_allclose(sums[alike], expected[alike], rtol=0, atol=atol)
    weights, total = gpu.weigh(X, centers)
    np.testing.assert_array_equal(weights, np.bincount(labels, minlength=k))
    assert total == pytest.approx(float(nearest.sum()), rel=1e-5 if single else 1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("d", "k"), NARROW + DIRECT + TENSOR + MANY)
def test_each_kernel_around_its_limits(d, k, dtype):
    check(d, k, dtype)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("d", "k"), [(1, 3), (2, 5), (8, 5), (3, 20), (17, 9), (33, 64), (128, 257), (256, 160)]
)
def test_each_kernel_reads_any_layout(d, k, dtype, layout):
    check(d, k, dtype, layout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("d", "k"), [(2, 5), (2, 64), (40, 30), (128, 256), (128, 257), (300, 9)])
def test_rows_for_many_rounds(monkeypatch, d, k, dtype):
    """Two blocks go round many times, and rows come in slices: sums of all rounds and slices are there."""
    monkeypatch.setattr(gpu, "SHORT", 64)
    monkeypatch.setattr(gpu, "AT_ONCE", 500)
    monkeypatch.setattr(gpu, "_resident_blocks", lambda *arguments: 2)
    check(d, k, dtype, n=20_011)


def test_the_limits_of_narrow_are_among_the_shapes():
    """For every number of features here and both types: the most clusters it takes, and one more."""
    for itemsize in (4, 8):
        for d in (1, 2, 3, 8):
            fits = [
                k for k in range(1, 200) if (k * (2 * d + 1) + 4 * d) * itemsize // 4 <= gpu.AT_HAND
            ]
            assert {(d, max(fits)), (d, max(fits) + 1)} <= set(NARROW + DIRECT + TENSOR)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 255, 257])
@pytest.mark.parametrize(("d", "k"), [(2, 5), (2, 64), (40, 30)])
def test_few_rows(d, k, n):
    check(d, k, "float32", n=n)


@pytest.mark.parametrize(
    "kilobytes", [(64, 64), (99, 100), (163, 164)], ids=["T4", "RTX 3090 and newer", "A100"]
)
@pytest.mark.parametrize(
    ("d", "k", "dtype"),
    [(8, 64, "float32"), (128, 256, "float32"), (256, 40, "float32"), (40, 300, "float32"),
     (40, 30, "float64"), (3, 2000, "float64"), (128, 9000, "float32"), (2, 20000, "float64")],
)  # fmt: skip
def test_cards_with_less_shared_memory(monkeypatch, d, k, dtype, kilobytes):
    """A block, and a multiprocessor, has 227 and 228 KB on an H100."""
    real, (block, multiprocessor) = gpu._attribute, kilobytes
    less = {
        "MaxSharedMemoryPerBlockOptin": block << 10,
        "MaxSharedMemoryPerMultiprocessor": multiprocessor << 10,
    }
    monkeypatch.setattr(gpu, "_attribute", lambda name: less.get(name) or real(name))
    check(d, k, dtype)


@pytest.mark.parametrize(("d", "k"), [(16, 64), (40, 64), (128, 256)])
def test_a_card_without_these_tensor_cores(monkeypatch, d, k):
    """Compute capability 7.5 and older."""
    monkeypatch.setattr(gpu, "_tensor_plan", lambda X, centers: None)
    check(d, k, "float32")


def assert_nearest(X, centers, rounding):
    """Hold labels against float64: the nearest centre, or one as near as rounding can tell."""
    import cupy

    labels, _ = gpu.nearest(cupy.asarray(X), centers)
    squared = ((X[:, None].astype(np.float64) - centers) ** 2).sum(axis=2)
    chosen = squared[np.arange(len(X)), labels.get()]
    assert (chosen <= squared.min(axis=1) * (1 + rounding)).all()


ROUNDING = {"float32": 2e-5, "float64": 1e-11}


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("far", [1e4, -1e6])
@pytest.mark.parametrize(("d", "k"), [(2, 5), (4, 64), (40, 64), (128, 256)])
def test_labels_far_from_the_origin(d, k, far, dtype):
    """The rows themselves are rounded there; their labels are still those of float64."""
    assert_nearest(*rows_and_centers(d, k, dtype, 3001, far), ROUNDING[dtype])


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("scale", [1e-15, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("beyond", [1, 1e5])
def test_numbers_that_half_precision_does_not_hold(scale, beyond, dtype):
    """`tensor` scales its factors; a row far beyond the centroids is compared with all of them."""
    X, centers = rows_and_centers(128, 256, dtype, 3001)
    X, centers = X * X.dtype.type(scale), centers * X.dtype.type(scale)
    X[::7] *= X.dtype.type(beyond)
    assert_nearest(X, centers, ROUNDING[dtype])


@pytest.mark.parametrize("aside", [1e-4, 1e-6, 1e-15])
@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_near_ties_get_the_label_of_differences(dtype, aside):
    """Rows half-way between two centroids, moved by up to `aside` of the gap: no score in half precision tells."""
    _, centers = rows_and_centers(64, 100, dtype, 1)
    random = np.random.default_rng(0)
    pairs = random.integers(0, 100, (5000, 2))
    middle = centers[pairs].astype(np.float64).mean(axis=1)
    gap = (centers[pairs[:, 0]] - centers[pairs[:, 1]]).astype(np.float64)
    X = (middle + gap * random.uniform(-aside, aside, (5000, 1))).astype(dtype)
    assert_nearest(X, centers, ROUNDING[dtype] / 2)


@pytest.mark.parametrize("size", [0, 1e-40, 1e-200])
def test_centres_that_hardly_differ(size):
    """No scale makes half-precision numbers of such differences; all centres are candidates."""
    X, centers = rows_and_centers(40, 30, "float64", 1000)
    assert_nearest(X * 1e-10, centers * size, 1e-11)


@pytest.mark.parametrize(("k", "j", "far"), [(32, 4, 2e154), (31, 0, 1e300), (30, 0, 1e300)])
def test_centres_too_far_apart_to_square(k, j, far):
    """No score tells; rows beside each centre get it, and the sums and counts of the others stay as they are."""
    X, centers = rows_and_centers(32, k, "float64", 1000)
    centers[j] = far
    X[5] = centers[j]
    labels, distances = gpu.nearest(in_layout(X, "C"), centers)
    assert labels.get()[5] == j and distances.get()[5] == 0
    _, counts, _ = gpu.step(in_layout(X, "C"), centers)
    np.testing.assert_array_equal(counts, np.bincount(labels.get(), minlength=k))
    assert counts.sum() == len(X) and counts[j] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("d", "k"), [(2, 5), (2, 64), (40, 30), (40, 300), (128, 256)])
def test_a_row_that_is_not_finite_shows(d, k, bad):
    import cupy

    X, centers = rows_and_centers(d, k, "float32", 1000)
    X[77, d // 2] = bad
    labels, distances = gpu.nearest(cupy.asarray(X), centers)
    assert not np.isfinite(distances.get()[77]) and labels.get()[77] == 0
    assert np.isfinite(np.delete(distances.get(), 77)).all()
    assert not np.isfinite(gpu.step(cupy.asarray(X), centers)[2])


@pytest.mark.parametrize(
    ("d", "k", "dtype"), [(2, 5, "float32"), (2, 64, "float32"), (300, 30, "float64")]
)
def test_two_runs_give_the_same_bits(d, k, dtype):
    """But for sums in `tensor`, as the module says."""
    X, centers = rows_and_centers(d, k, dtype, 100_003)
    first, second = (gpu.step(in_layout(X, "C"), centers) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("d", "k", "asked"),
    [(2, 5, {"narrow"}), (128, 256, {"tensor"}), (300, 9, {"direct", "add_up"})],
)
def test_only_the_kernels_that_are_asked_for_are_compiled(monkeypatch, d, k, asked):
    made, kernel = set(), gpu._kernel
    monkeypatch.setattr(
        gpu, "_kernel", lambda name, *a, **m: made.add(name) or kernel(name, *a, **m)
    )
    X, centers = rows_and_centers(d, k, "float32", 1000)
    gpu.step(in_layout(X, "C"), centers)
    assert made == asked
