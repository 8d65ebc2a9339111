// A Lloyd step for few features and clusters, in one read of the rows. D and K are their numbers, THREADS the size of a block,
// SINGLE whether T is float.
// Passed by value, so that each is an operand in constant memory and takes no register.
struct Centers { T center[K][D], origin[D]; };

// What one thread has summed up, in registers: of each cluster the rows' differences to one origin, and their number.
// The count is of T as well: it is added where the sums are, and exact as long as a thread has fewer than 2^24 rows.
struct Sums { T sum[K][D], count[K], inertia; };

#if SINGLE
// sum += value where hit, under a predicate: a compiler would branch
__device__ __forceinline__ void add_if(int hit, float &sum, float value)
{
    asm("{.reg .pred p; setp.ne.s32 p, %1, 0; @p add.f32 %0, %0, %2;}" : "+f"(sum) : "r"(hit), "f"(value));
}

// Tell whether a == b while open; the first that is closes it.
__device__ __forceinline__ int first_equal(float a, float b, int &open)
{
    int hit;
    asm("{.reg .pred o, p, q; setp.ne.s32 o, %1, 0; setp.eq.and.f32 p|q, %2, %3, o; selp.s32 %0, 1, 0, p; selp.s32 %1, 1, 0, q;}"
        : "=r"(hit), "+r"(open) : "f"(a), "f"(b));
    return hit;
}
#endif

// Add one row to its nearest cluster: no branch, no index into registers. Each type has the form that takes it the fewest
// instructions.
__device__ __forceinline__ void add(const T (&x)[D], const Centers &c, Sums &s)
{
    T squared[K], y[D], best = 0;
    int label = 0, open = 1;  // open: no cluster has taken the row
    #pragma unroll
    for (int j = 0; j < K; ++j) {
        squared[j] = 0;
        #pragma unroll
        for (int f = 0; f < D; ++f) { const T difference = x[f] - c.center[j][f]; squared[j] += difference * difference; }
        const bool closer = j == 0 || squared[j] < best;
        label = closer ? j : label;
        best = SINGLE && j ? min(best, squared[j]) : closer ? squared[j] : best;
    }
    s.inertia += best;
    #pragma unroll
    for (int f = 0; f < D; ++f) y[f] = x[f] - c.origin[f];
    #pragma unroll
    for (int j = 0; j < K; ++j) {
#if SINGLE
        const int hit = first_equal(squared[j], best, open);
        add_if(hit, s.count[j], 1);
        #pragma unroll
        for (int f = 0; f < D; ++f) add_if(hit, s.sum[j][f], y[f]);
#else
        const T hit = label == j;
        s.count[j] += hit;
        #pragma unroll
        for (int f = 0; f < D; ++f) s.sum[j][f] += hit * y[f];
#endif
    }
}

// One Lloyd step for few features and clusters. X: n rows. out: k x (d + 1) sums and counts, and the inertia; then as
// many values of each block, and a number of ended blocks that must be 0 at the start.
extern "C" __global__ void __launch_bounds__(THREADS)
narrow(const T *X, long long n, long long row, long long column, const Centers centers, double *out)
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
            const double total = warp_sum((double)s.sum[j][f]);
            if (lane == 0) part[warp][j * (D + 1) + f] = total;
        }
        const double total = warp_sum((double)s.count[j]);
        if (lane == 0) part[warp][j * (D + 1) + D] = total;
    }
    const double total = warp_sum((double)s.inertia);
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
