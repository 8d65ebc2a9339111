// Each row's nearest centre, for any number of features and clusters: all squared differences, tile by tile.
// D is the number of features where there are at most 16 of them, else 16: so many are worked on at a time. LANES threads,
// a power of two up to 16, share eight rows: 4 LANES is the number of centres in a tile.

constexpr int THREADS = 256, ROWS = 8 * THREADS / LANES, CENTERS = 4 * LANES;

// X: n rows of d. centers: k x d. A thread compares eight rows with four centres. A row that is not finite gets label 0
// and an infinite distance; of two centres as near, the first is taken.
extern "C" __global__ void __launch_bounds__(THREADS)
direct(const T *X, long long n, int d, int k, long long row, long long column, const T *centers,
       int *labels, T *distances)
{
    __shared__ __align__(16) T xs[D][ROWS + 4], cs[D][CENTERS + 4];
    const int tx = threadIdx.x % LANES, ty = threadIdx.x / LANES;
    for (long long first = blockIdx.x * (long long)ROWS; first < n; first += gridDim.x * (long long)ROWS) {
        T best[8];
        int label[8];
        #pragma unroll
        for (int i = 0; i < 8; ++i) { best[i] = __int_as_float(0x7f800000); label[i] = 0; }
        for (int base = 0; base < k; base += CENTERS) {
            T squared[8][4] = {};
            for (int f0 = 0; f0 < d; f0 += D) {
                __syncthreads();
                for (int e = threadIdx.x; e < ROWS * D; e += THREADS) {
                    const int r = LAYOUT == 1 ? e % ROWS : e / D, f = LAYOUT == 1 ? e / ROWS : e % D;
                    const long long i = first + r < n ? first + r : n - 1;
                    xs[f][r] = f0 + f < d ? X[i * row + (f0 + f) * column] : (T)0;
                }
                for (int e = threadIdx.x; e < CENTERS * D; e += THREADS) {
                    const int j = base + e / D, f = e % D;
                    cs[f][e / D] = j < k && f0 + f < d ? centers[(long long)j * d + f0 + f] : (T)0;
                }
                __syncthreads();
                #pragma unroll
                for (int f = 0; f < D; ++f) {
                    T x[8], c[4];
                    #pragma unroll
                    for (int i = 0; i < 8; ++i) x[i] = xs[f][8 * ty + i];
                    #pragma unroll
                    for (int j = 0; j < 4; ++j) c[j] = cs[f][4 * tx + j];
                    #pragma unroll
                    for (int i = 0; i < 8; ++i)
                        #pragma unroll
                        for (int j = 0; j < 4; ++j) { const T difference = x[i] - c[j]; squared[i][j] += difference * difference; }
                }
            }
            #pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int center = base + 4 * tx + j;
                #pragma unroll
                for (int i = 0; i < 8; ++i)
                    if (center < k && squared[i][j] < best[i]) { best[i] = squared[i][j]; label[i] = center; }
            }
        }
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
            for (int offset = LANES / 2; offset; offset /= 2) {
                const T other = __shfl_xor_sync(0xffffffffu, best[i], offset);
                const int its = __shfl_xor_sync(0xffffffffu, label[i], offset);
                if (other < best[i] || (other == best[i] && its < label[i])) { best[i] = other; label[i] = its; }
            }
            const long long r = first + 8 * ty + i;
            if (tx == i % LANES && r < n) { labels[r] = label[i]; distances[r] = best[i]; }
        }
    }
}
