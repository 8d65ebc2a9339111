// The kernels of kmeans.py. It puts `#define`s in front: T is float or double; D and K are the numbers of features and
// clusters where a kernel is compiled for them, else 0; LAYOUT says how X lies in memory (0: rows together, 1: columns
// together, 2: any strides); THREADS is the size of a block; WIDE asks for the kernels of many features and clusters.

__device__ __forceinline__ double warp_sum(double value)
{
    for (int offset = 16; offset; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    return value;
}

// uniform in [0, 1) for each row number: splitmix64, as in kmeans.py
__device__ __forceinline__ double dice(unsigned long long seed, unsigned long long number)
{
    unsigned long long z = seed + (number + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return ((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

#if D > 0 && K > 0 && !WIDE
// Passed by value, so that each is an operand in constant memory and takes no register.
struct Centers { T center[K][D], origin[D]; };

// What one thread has summed up, in registers: of each cluster the rows' differences to one origin, and their number.
// The count is of T as well: it is added where the sums are, and exact as long as a thread has fewer than 2^24 rows.
struct Sums { T sum[K][D], count[K], inertia; };

__device__ __forceinline__ void add(const T (&x)[D], const Centers &c, Sums &s)
{
    T best = 0;
    int label = 0;
    #pragma unroll
    for (int j = 0; j < K; ++j) {
        T squared = 0;
        #pragma unroll
        for (int f = 0; f < D; ++f) { const T difference = x[f] - c.center[j][f]; squared += difference * difference; }
        const bool closer = j == 0 || squared < best;
        label = closer ? j : label;
        best = closer ? squared : best;
    }
    s.inertia += best;
    #pragma unroll
    for (int j = 0; j < K; ++j) {  // no branch, no index into registers
        const T hit = label == j;
        s.count[j] += hit;
        #pragma unroll
        for (int f = 0; f < D; ++f) s.sum[j][f] += hit * (x[f] - c.origin[f]);
    }
}

// One Lloyd step for few features and clusters. X: n rows. out: k x (d + 1) sums and counts, and the inertia; then as
// many values of each block, and a number of ended blocks that must be 0 at the start.
extern "C" __global__ void __launch_bounds__(THREADS)
lloyd(const T *X, long long n, long long row, long long column, const Centers centers, double *out)
{
    constexpr int N = 16 / sizeof(T);  // rows that a thread takes at a time, by 16-byte loads
    struct alignas(16) Vector { T v[N]; };
    Sums s;
    #pragma unroll
    for (int j = 0; j < K; ++j) {
        s.count[j] = 0;
        #pragma unroll
        for (int f = 0; f < D; ++f) s.sum[j][f] = 0;
    }
    s.inertia = 0;
    const long long first = blockIdx.x * (long long)THREADS + threadIdx.x, stride = gridDim.x * (long long)THREADS;
    const long long groups = LAYOUT == 2 ? 0 : n / N;
    #pragma unroll 1
    for (long long g = first; g < groups; g += stride) {
        Vector v[D];
        #pragma unroll
        for (int f = 0; f < D; ++f)
            v[f] = LAYOUT == 0 ? ((const Vector *)X)[g * D + f] : ((const Vector *)(X + f * column))[g];
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            T x[D];
            #pragma unroll
            for (int f = 0; f < D; ++f) x[f] = LAYOUT == 0 ? v[(i * D + f) / N].v[(i * D + f) % N] : v[f].v[i];
            add(x, centers, s);
        }
    }
    #pragma unroll 1
    for (long long i = groups * N + first; i < n; i += stride) {
        T x[D];
        #pragma unroll
        for (int f = 0; f < D; ++f) x[f] = X[i * row + f * column];
        add(x, centers, s);
    }
    // one sum for the block, in double: the threads of a warp, then the warps
    constexpr int VALUES = K * (D + 1) + 1, WARPS = THREADS / 32;
    __shared__ double part[WARPS][VALUES];
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    #pragma unroll
    for (int j = 0; j < K; ++j) {
        #pragma unroll
        for (int f = 0; f < D; ++f) {
            const double total = warp_sum(s.sum[j][f]);
            if (lane == 0) part[warp][j * (D + 1) + f] = total;
        }
        const double total = warp_sum(s.count[j]);
        if (lane == 0) part[warp][j * (D + 1) + D] = total;
    }
    const double total = warp_sum(s.inertia);
    if (lane == 0) part[warp][VALUES - 1] = total;
    __syncthreads();
    double *blocks = out + VALUES;
    for (int value = threadIdx.x; value < VALUES; value += THREADS) {
        double sum = 0;
        for (int w = 0; w < WARPS; ++w) sum += part[w][value];
        blocks[blockIdx.x * (long long)VALUES + value] = sum;
    }
    // one sum for all: by the block that ends last, in the order of the blocks, so that every run gives the same
    __threadfence();
    __syncthreads();
    unsigned *ended = (unsigned *)(blocks + gridDim.x * (long long)VALUES);
    if (threadIdx.x == 0) last = atomicAdd(ended, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int value = warp; value < VALUES; value += WARPS) {
        double sum = 0;
        for (unsigned block = lane; block < gridDim.x; block += 32) sum += __ldcg(blocks + block * (long long)VALUES + value);
        sum = warp_sum(sum);
        if (lane == 0) out[value] = sum;
    }
}
#endif

// What the kernels below know of a row: `scores` and `constants` of the k centres add up to numbers that are the smaller
// the nearer, each off by at most (slack x |row - shift| + floor) / 2. So they only name candidates, and the squared
// differences of these decide. `part` is shared memory for a block's sums (k x d of T) and counts, used if in_shared.

#if WIDE
// A step for up to a few hundred features and clusters: one warp a row, its numbers spread over the lanes' registers, the
// next row's on their way meanwhile. scores may be null (one cluster), and shift.
extern "C" __global__ void __launch_bounds__(THREADS)
lloyd_wide(const T *X, long long n, long long row, long long column, const T *scores, const T *constants, T slack, T floor,
           const T *shift, const T *centers, double *sums, unsigned long long *counts, double *inertia, int in_shared)
{
    constexpr int S = (K + 31) / 32, F = (D + 31) / 32;  // scores and features of a lane
    extern __shared__ unsigned char memory[];
    T *part = (T *)memory;
    unsigned *counted = (unsigned *)(part + K * D);
    if (in_shared) {
        for (int e = threadIdx.x; e < K * D; e += THREADS) part[e] = 0;
        for (int j = threadIdx.x; j < K; j += THREADS) counted[j] = 0;
        __syncthreads();
    }
    const unsigned all = 0xffffffffu;
    const T infinite = __int_as_float(0x7f800000);
    const int lane = threadIdx.x % 32;
    const long long warps = (long long)gridDim.x * THREADS / 32;
    T constant[S], score[S], x[F], next_score[S], next_x[F];
    #pragma unroll
    for (int s = 0; s < S; ++s) constant[s] = lane + 32 * s < K ? constants[lane + 32 * s] : infinite;
    auto load = [&](long long i) {
        #pragma unroll
        for (int s = 0; s < S; ++s)
            next_score[s] = scores && lane + 32 * s < K ? scores[i * K + lane + 32 * s] : (T)0;
        #pragma unroll
        for (int f = 0; f < F; ++f)
            next_x[f] = lane + 32 * f < D ? X[i * row + (lane + 32 * f) * column] : (T)0;
    };
    double mine = 0;
    long long i = (blockIdx.x * (long long)THREADS + threadIdx.x) / 32;
    if (i < n) load(i);
    for (; i < n; i += warps) {
        T best = infinite, length = 0;
        #pragma unroll
        for (int s = 0; s < S; ++s) { score[s] = next_score[s] + constant[s]; best = min(best, score[s]); }
        #pragma unroll
        for (int f = 0; f < F; ++f) {
            x[f] = next_x[f];
            const T centred = x[f] - (shift && lane + 32 * f < D ? shift[lane + 32 * f] : (T)0);
            length += centred * centred;
        }
        if (i + warps < n) load(i + warps);
        for (int offset = 16; offset; offset /= 2) {
            best = min(best, __shfl_xor_sync(all, best, offset));
            length += __shfl_xor_sync(all, length, offset);
        }
        const T limit = best + slack * sqrt(length) + floor;
        unsigned own = 0;  // candidates among this lane's centres, a bit each
        #pragma unroll
        for (int s = 0; s < S; ++s) own |= (lane + 32 * s < K && score[s] <= limit ? 1u : 0u) << s;
        unsigned near = __ballot_sync(all, own);
        unsigned bits = __shfl_sync(all, own, near ? __ffs(near) - 1 : 0);
        int label = near ? 32 * (__ffs(bits) - 1) + __ffs(near) - 1 : 0;  // none: the row is not finite
        if (near & (near - 1) || bits & (bits - 1)) {
            T nearest = infinite;
            for (; near; near &= near - 1) {
                const int source = __ffs(near) - 1;
                for (bits = __shfl_sync(all, own, source); bits; bits &= bits - 1) {
                    const int j = 32 * (__ffs(bits) - 1) + source;
                    T squared = 0;
                    #pragma unroll
                    for (int f = 0; f < F; ++f) {
                        const T difference = lane + 32 * f < D ? x[f] - centers[j * D + lane + 32 * f] : (T)0;
                        squared += difference * difference;
                    }
                    for (int offset = 16; offset; offset /= 2) squared += __shfl_xor_sync(all, squared, offset);
                    if (squared < nearest || (squared == nearest && j < label)) { label = j; nearest = squared; }
                }
            }
        }
        T squared = 0;
        #pragma unroll
        for (int f = 0; f < F; ++f) {
            if (lane + 32 * f >= D) break;
            const int e = label * D + lane + 32 * f;
            const T difference = x[f] - centers[e];
            squared += difference * difference;
            if (in_shared) atomicAdd(&part[e], difference);
            else atomicAdd(&sums[e], (double)difference);
        }
        mine += squared;
        if (lane == 0) {
            if (in_shared) atomicAdd(&counted[label], 1u);
            else atomicAdd(&counts[label], 1ULL);
        }
    }
    mine = warp_sum(mine);
    if (lane == 0) atomicAdd(inertia, mine);
    if (in_shared) {
        __syncthreads();
        for (int e = threadIdx.x; e < K * D; e += THREADS) atomicAdd(&sums[e], (double)part[e]);
        for (int j = threadIdx.x; j < K; j += THREADS) atomicAdd(&counts[j], (unsigned long long)counted[j]);
    }
}
#endif

// A step, or labels alone, for any number of features and clusters: one warp a row. scores (for one cluster), shift,
// labels, distances, sums, counts and inertia may be null.
extern "C" __global__ void __launch_bounds__(1024)
assign(const T *X, long long n, int d, int k, long long row, long long column, const T *scores, const T *constants,
       T slack, T floor, const T *shift, const T *centers, int *labels, T *distances, double *sums,
       unsigned long long *counts, double *inertia, int in_shared)
{
    extern __shared__ unsigned char memory[];
    T *part = (T *)memory;
    unsigned *counted = (unsigned *)(part + (in_shared ? k * d : 0));
    if (in_shared) {
        for (int e = threadIdx.x; e < k * d; e += blockDim.x) part[e] = 0;
        for (int j = threadIdx.x; j < k; j += blockDim.x) counted[j] = 0;
        __syncthreads();
    }
    const unsigned all = 0xffffffffu;
    const int lane = threadIdx.x % 32;
    const long long warps = (long long)gridDim.x * blockDim.x / 32;
    double mine = 0;
    for (long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32; i < n; i += warps) {
        auto score = [&](int j) { return (scores ? scores[i * k + j] : (T)0) + constants[j]; };
        T best = score(0), length = 0;
        #pragma unroll 8
        for (int j = lane; j < k; j += 32) best = min(best, score(j));
        #pragma unroll 4
        for (int f = lane; f < d; f += 32) {
            const T x = X[i * row + f * column] - (shift ? shift[f] : (T)0);
            length += x * x;
        }
        for (int offset = 16; offset; offset /= 2) {
            best = min(best, __shfl_xor_sync(all, best, offset));
            length += __shfl_xor_sync(all, length, offset);
        }
        const T limit = best + slack * sqrt(length) + floor;
        int label = -1;
        T nearest = 0;
        for (int base = 0; base < k; base += 32) {
            const int own = base + lane;
            unsigned near = __ballot_sync(all, own < k && score(min(own, k - 1)) <= limit);
            for (; near; near &= near - 1) {
                const int j = base + __ffs(near) - 1;
                T squared = 0;
                #pragma unroll 4
                for (int f = lane; f < d; f += 32) {
                    const T difference = X[i * row + f * column] - centers[(long long)j * d + f];
                    squared += difference * difference;
                }
                for (int offset = 16; offset; offset /= 2) squared += __shfl_xor_sync(all, squared, offset);
                if (label < 0 || squared < nearest) { label = j; nearest = squared; }
            }
        }
        if (label < 0) { label = 0; nearest = length; }  // not finite
        if (sums) {
            #pragma unroll 4
            for (int f = lane; f < d; f += 32) {
                const long long e = (long long)label * d + f;
                const T difference = X[i * row + f * column] - centers[e];
                if (in_shared) atomicAdd(&part[e], difference);
                else atomicAdd(&sums[e], (double)difference);
            }
        }
        if (lane == 0) {
            mine += nearest;
            if (labels) labels[i] = label;
            if (distances) distances[i] = nearest;
            if (in_shared) atomicAdd(&counted[label], 1u);
            else if (counts) atomicAdd(&counts[label], 1ULL);
        }
    }
    if (inertia && lane == 0) atomicAdd(inertia, mine);
    if (in_shared) {
        __syncthreads();
        for (int e = threadIdx.x; e < k * d; e += blockDim.x) atomicAdd(&sums[e], (double)part[e]);
        for (int j = threadIdx.x; j < k; j += blockDim.x) atomicAdd(&counts[j], (unsigned long long)counted[j]);
    }
}

// Find for each row the nearest of m candidates. What is asked for is done with it (pointers may be null): counts and
// inertia are added up; or row first + i is drawn with probability factor x its squared distance, and i written to drawn.
extern "C" __global__ void __launch_bounds__(THREADS)
weigh(const T *X, long long n, int d, long long row, long long column, const T *candidates, int m,
      unsigned long long *counts, double *inertia, double factor, unsigned long long seed, unsigned long long first,
      long long *drawn, unsigned long long *found, unsigned long long room, int in_shared)
{
    constexpr int N = 4;  // rows that share a look at a candidate
    extern __shared__ unsigned char memory[];
    T *near = (T *)memory;
    unsigned *counted = (unsigned *)(near + (long long)m * d);
    if (in_shared) {
        for (int e = threadIdx.x; e < m * d; e += THREADS) near[e] = candidates[e];
        for (int j = threadIdx.x; j < m; j += THREADS) counted[j] = 0;
        __syncthreads();
    }
    const T *c = in_shared ? near : candidates;
    double mine = 0;
    const long long stride = gridDim.x * (long long)THREADS;
    for (long long start = blockIdx.x * (long long)THREADS + threadIdx.x; start < n; start += N * stride) {
        T best[N];
        int label[N];
#if D > 0
        T x[N][D];
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            const long long r = min(start + i * stride, n - 1);
            #pragma unroll
            for (int f = 0; f < D; ++f) x[i][f] = X[r * row + f * column];
        }
#endif
        for (int j = 0; j < m; ++j) {
            T squared[N];
            #pragma unroll
            for (int i = 0; i < N; ++i) squared[i] = 0;
#if D > 0
            #pragma unroll
            for (int f = 0; f < D; ++f) {
                const T center = c[j * D + f];
                #pragma unroll
                for (int i = 0; i < N; ++i) { const T difference = x[i][f] - center; squared[i] += difference * difference; }
            }
#else
            for (int f = 0; f < d; ++f) {
                const T center = c[(long long)j * d + f];
                #pragma unroll
                for (int i = 0; i < N; ++i) {
                    const T difference = X[min(start + i * stride, n - 1) * row + f * column] - center;
                    squared[i] += difference * difference;
                }
            }
#endif
            #pragma unroll
            for (int i = 0; i < N; ++i) {
                const bool closer = j == 0 || squared[i] < best[i];
                best[i] = closer ? squared[i] : best[i];
                label[i] = closer ? j : label[i];
            }
        }
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            const long long r = start + i * stride;
            if (r >= n) break;
            if (drawn) {
                if (dice(seed, first + r) < factor * best[i]) {
                    const unsigned long long place = atomicAdd(found, 1ULL);
                    if (place < room) drawn[place] = r;
                }
                continue;
            }
            mine += best[i];
            if (in_shared) atomicAdd(&counted[label[i]], 1u);
            else atomicAdd(&counts[label[i]], 1ULL);
        }
    }
    if (drawn) return;
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0) atomicAdd(inertia, mine);
    if (in_shared) {
        __syncthreads();
        for (int j = threadIdx.x; j < m; j += THREADS) atomicAdd(&counts[j], (unsigned long long)counted[j]);
    }
}
