"""K-means on all workers of a Dask cluster: Lloyd's algorithm, with one read of the data for each iteration.

    from tutorial.kmeans import KMeans
    model = KMeans(n_clusters=5, random_state=0).fit(X)  # X: Dask array of NumPy or CuPy chunks
    labels = model.predict(X)                            # Dask array

The rows stay where they are. On each worker an actor holds its chunks; for each iteration it gets the centroids
(k x d) and answers, for each cluster, with the sum of its rows and their number, and with the inertia. One of the
workers leads: it asks the others and moves the centroids.

Where to read what; imports run from top to bottom:

- estimator.py: the class KMeans, what it accepts, and Lloyd's iterations.
- start.py: the first centroids, by k-means||.
- shards.py: which worker holds which rows, and how all are asked. What is said of Dask is said here.
- step.py: what is asked of a chunk of rows, whatever the device.
- cpu.py, gpu.py: the same four functions, `step`, `nearest`, `weigh` and `chosen`, in Numba for NumPy chunks and in
  CUDA for CuPy chunks; the kernels, one for each shape of data, are narrow.cu, tensor.cu, direct.cu and add_up.cu.
- arrays.py: which device an array is on, and which chunks are taken.

Distances are sums of squared differences, not the expansion |x|^2 - 2xc + |c|^2, which loses its digits far from the
origin. (For many features on a GPU the expansion, by tensor cores in half precision, names candidates; their
differences decide.) In float32 a few ten thousand rows at most are added up; their sums go to float64.

The same start on the same workers, threads and chunks gives the same bits twice on a CPU; another number of workers,
threads or chunks adds in another order, and the last digits differ. On a GPU the same holds, but for rows of 8 to 256
features with up to 256 clusters, and for weights: they are added up by atomic operations, in no fixed order, and the
last digits may differ between two runs.

Lloyd's iterations: S. P. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 28 (1982). The start,
k-means||: B. Bahmani et al., Scalable k-means++, PVLDB 5 (2012). Empty clusters and the tolerance: as scikit-learn.
"""

from .estimator import KMeans

__all__ = ["KMeans"]
