// Each row's nearest centre for many features, on tensor cores; compute capability 8.0 or newer. D is the number of features,
// KT the most centres of a call (a multiple of 32, at most 256), WARPS the size of a block; SUMS asks for sums.
//
// Half-precision products give scores, |row - centre|^2 less what is the same for all centres, fast and roughly. The error
// bound that gpu.py has worked out leaves candidates, for most rows one; their differences in T decide. Scores stay in
// registers: of each row a lane keeps the two lowest of each of four lists, among its quarter of the centres.

constexpr int P = (D + 31) / 32 * 32, XS = P + 4, CS = P + 32, THREADS = 32 * WARPS;
constexpr int LISTS = 4;  // and as many products under way
constexpr float MOST = 3e38f;  // above every score
constexpr int WIDTH = 16 / sizeof(T);  // numbers in 16 bytes
constexpr bool ALIGNED = D % WIDTH == 0;  // rows that lie together begin at multiples of 16 bytes
struct Shared { T x[WARPS][16][XS], middle[P]; float constant[KT]; unsigned c[KT][CS / 2]; };

__device__ __forceinline__ unsigned half2(float a, float b)
{
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(b), "f"(a));
    return both;
}

// score += rows x weights, for 16 rows, 8 centres and 16 features
__device__ __forceinline__ void multiply_add(float (&s)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <int BYTES> __device__ __forceinline__ void fetch(T *to, const T *from)
{
    const unsigned place = (unsigned)__cvta_generic_to_shared(to);
    if (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(place), "l"(from) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" :: "r"(place), "l"(from), "n"(BYTES == 16 ? 4 : BYTES) : "memory");
}

// N numbers that lie together, 16 bytes at a time if they are so many
template <int N> __device__ __forceinline__ void load(const T *from, T (&v)[N])
{
    constexpr int AT_ONCE = N < WIDTH ? N : WIDTH;
    struct alignas(AT_ONCE * sizeof(T)) Piece { T v[AT_ONCE]; };
    #pragma unroll
    for (int i = 0; i < N; i += AT_ONCE) {
        const Piece piece = *(const Piece *)(from + i);
        #pragma unroll
        for (int j = 0; j < AT_ONCE; ++j) v[i + j] = piece.v[j];
    }
}

template <int N> __device__ __forceinline__ void add(T *to, const T (&v)[N])
{
#if __CUDA_ARCH__ >= 900
    if constexpr (N == 4) {
        asm volatile("red.global.add.v4.f32 [%0], {%1,%2,%3,%4};" :: "l"(to), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]) : "memory");
    } else
#endif
    for (int i = 0; i < N; ++i) atomicAdd(to + i, v[i]);
}

// the centre with a number in a list of a lane: the list holds every fourth tile of eight centres, the lane two of each
__device__ __forceinline__ int center_of(int number, int list, int t) { return 8 * (number / 2 * LISTS + list) + 2 * t + number % 2; }

// a score with its centre's number in a list in place of its lowest four bits
__device__ __forceinline__ float numbered(float score, int number) { return __int_as_float((__float_as_int(score) & ~15) | number); }
__device__ __forceinline__ int number_of(float score) { return __float_as_int(score) & 15; }

// Sixteen sums over a warp at once, by halves: in the end v[0] of the lanes 2 r and 2 r + 1 add up to that of v[r].
template <int W> __device__ __forceinline__ void add_across(T (&v)[16], int lane)
{
    #pragma unroll
    for (int i = 0; i < W; ++i) {
        const T keep = lane & 2 * W ? v[i + W] : v[i], give = lane & 2 * W ? v[i] : v[i + W];
        v[i] = keep + __shfl_xor_sync(0xffffffffu, give, 2 * W);
    }
    if constexpr (W > 1) add_across<W / 2>(v, lane);
}

// X: n rows. centers: k x D, k <= KT. weights: KT x P of half precision, -2 scale (centre - middle); constants:
// KT, (scale |centre - middle|)^2; middle: P, - scale x middle. slack and floor: two scores compare rightly if they differ
// by more than slack x |scale (row - middle)| + floor. labels, distances: n; where base > 0 they hold the answer for the
// centres before base. With SUMS there are none: parts (replicas x k x D), counts (replicas x k) and inertia (one number) are
// added up, in an order that varies.
extern "C" __global__ void __launch_bounds__(THREADS)
tensor(const T *X, long long n, int k, long long row, long long column, const T *centers, const unsigned *weights,
       const float *constants, const T *middle, T scale, float slack, float floor, int base,
       int *labels, T *distances, int replicas, T *parts, unsigned *counts, double *inertia)
{
    extern __shared__ __align__(16) unsigned char memory[];
    Shared &m = *(Shared *)memory;
    const unsigned all = 0xffffffffu;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    for (int e = threadIdx.x; e < KT * P / 2; e += THREADS) m.c[e / (P / 2)][e % (P / 2)] = weights[e];
    for (int j = threadIdx.x; j < KT; j += THREADS) m.constant[j] = constants[j];
    for (int f = threadIdx.x; f < P; f += THREADS) m.middle[f] = middle[f];
    for (int e = threadIdx.x; e < WARPS * 16 * XS; e += THREADS) (&m.x[0][0][0])[e] = 0;  // features up to P
    __syncthreads();
    T (&x)[16][XS] = m.x[warp];
#if SUMS
    double total = 0;
    const int replica = (blockIdx.x * WARPS + warp) % replicas;
#endif
    const long long stride = gridDim.x * (long long)(16 * WARPS);
    for (long long first = (blockIdx.x * (long long)WARPS + warp) * 16; first < n; first += stride) {
        __syncwarp();
        if constexpr (LAYOUT == 0 && ALIGNED)
            for (int e = lane; e < 16 * (D / WIDTH); e += 32) {
                const int r = e / (D / WIDTH), f = e % (D / WIDTH) * WIDTH;
                fetch<16>(&x[r][f], X + (first + r < n ? first + r : n - 1) * D + f);
            }
        else
            for (int e = lane; e < 16 * D; e += 32) {
                const int r = LAYOUT == 1 ? e % 16 : e / D, f = LAYOUT == 1 ? e / 16 : e % D;
                fetch<sizeof(T)>(&x[r][f], X + (first + r < n ? first + r : n - 1) * row + f * column);
            }
        asm volatile("cp.async.wait_all;" ::: "memory");
        __syncwarp();
        // features go to the lanes in an order of their own, the same for rows and centres, so that loads are of 16 bytes
        unsigned a[P / 16][4];
        float length[2] = {0, 0};
        #pragma unroll
        for (int b = 0; b < P / 32; ++b) {
            T middle[8];
            load(&m.middle[32 * b + 8 * t], middle);
            #pragma unroll
            for (int h = 0; h < 2; ++h) {
                T own[8];
                load(&x[g + 8 * h][32 * b + 8 * t], own);
                float p[8], squared = 0;
                #pragma unroll
                for (int i = 0; i < 8; ++i) { p[i] = fma(own[i], scale, middle[i]); squared += p[i] * p[i]; }
                length[h] += squared;
                a[2 * b][h] = half2(p[0], p[1]); a[2 * b][h + 2] = half2(p[2], p[3]);
                a[2 * b + 1][h] = half2(p[4], p[5]); a[2 * b + 1][h + 2] = half2(p[6], p[7]);
            }
        }
        float low[2][LISTS], second[2][LISTS];
        #pragma unroll
        for (int l = 0; l < LISTS; ++l) low[0][l] = low[1][l] = second[0][l] = second[1][l] = MOST;
        #pragma unroll 1
        for (int c = 0; c < KT / 8; c += LISTS) {
            float s[LISTS][4];
            #pragma unroll
            for (int l = 0; l < LISTS; ++l) {
                const float2 constant = *(const float2 *)&m.constant[8 * (c + l) + 2 * t];
                s[l][0] = s[l][2] = constant.x;
                s[l][1] = s[l][3] = constant.y;
            }
            #pragma unroll
            for (int b = 0; b < P / 32; ++b)
                #pragma unroll
                for (int l = 0; l < LISTS; ++l) {
                    const uint4 w = *(const uint4 *)&m.c[8 * (c + l) + g][16 * b + 4 * t];
                    multiply_add(s[l], a[2 * b], w.x, w.y);
                    multiply_add(s[l], a[2 * b + 1], w.z, w.w);
                }
            #pragma unroll
            for (int l = 0; l < LISTS; ++l)
                #pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const float score = numbered(s[l][e], c / LISTS * 2 + e % 2);
                    second[e / 2][l] = fminf(second[e / 2][l], fmaxf(low[e / 2][l], score));
                    low[e / 2][l] = fminf(low[e / 2][l], score);
                }
        }
        int label[2];
        #pragma unroll
        for (int h = 0; h < 2; ++h) {
            float best = low[h][0];
            int own = center_of(number_of(best), 0, t);
            #pragma unroll
            for (int l = 1; l < LISTS; ++l)
                if (low[h][l] < best) { best = low[h][l]; own = center_of(number_of(best), l, t); }
            #pragma unroll
            for (int o = 1; o < 4; o *= 2) {
                best = fminf(best, __shfl_xor_sync(all, best, o));
                length[h] += __shfl_xor_sync(all, length[h], o);
            }
            const float limit = best + slack * sqrtf(length[h]) + floor;
            const bool fits = length[h] < 4e9f;  // else a feature may be beyond half precision, or is not finite
            unsigned near[LISTS], more[LISTS], some = 0;  // lanes with a candidate in a list, with perhaps another; in any list
            int candidates = 0;  // of the four lanes of a row; 2 stands for more
            const int quad = lane & ~3;
            #pragma unroll
            for (int l = 0; l < LISTS; ++l) {
                near[l] = __ballot_sync(all, low[h][l] <= limit);
                more[l] = __ballot_sync(all, second[h][l] <= limit || !fits);
                candidates += __popc(near[l] >> quad & 15) + 2 * __popc(more[l] >> quad & 15);
                some |= near[l] >> quad & 15;
            }
            label[h] = __shfl_sync(all, own, quad + (some ? __ffs(some) - 1 : 0));
            for (unsigned unsure = __ballot_sync(all, candidates != 1 && t == 0); unsure; unsure &= unsure - 1) {
                const int lead = __ffs(unsure) - 1;  // the whole warp looks at one row
                T nearest = __int_as_float(0x7f800000);
                int which = 0;
                auto compare = [&](int j) {
                    if (j >= k) return;
                    T squared = 0;
                    for (int f = lane; f < D; f += 32) {
                        const T difference = x[lead / 4 + 8 * h][f] - centers[j * D + f];
                        squared += difference * difference;
                    }
                    squared = warp_sum(squared);
                    if (squared < nearest || (squared == nearest && j < which)) { nearest = squared; which = j; }
                };
                #pragma unroll
                for (int l = 0; l < LISTS; ++l)
                    for (unsigned bits = (near[l] | more[l]) >> lead & 15; bits; bits &= bits - 1) {
                        const int lane_of = __ffs(bits) - 1, number = number_of(__shfl_sync(all, low[h][l], lead + lane_of));
                        const bool whole = more[l] >> (lead + lane_of) & 1;
                        for (int other = whole ? 0 : number; other < (whole ? KT / 4 / LISTS : number + 1); ++other)
                            compare(center_of(other, l, lane_of));
                    }
                if (quad == lead) label[h] = which;
            }
        }
        // each row's difference to its centre
        constexpr int V = ALIGNED && WIDTH == 4 ? 4 : 1;  // of one lane at a time; there is no atomic pair of doubles
        T squared[16];
        #pragma unroll
        for (int r = 0; r < 16; ++r) {
            const int j = __shfl_sync(all, label[r / 8], r % 8 * 4);
            const T *own = x[r], *center = centers + j * D;
            squared[r] = 0;
            #pragma unroll
            for (int f = V * lane; f < D; f += 32 * V) {
                T y[V], c[V];
                load(own + f, y);
                load(center + f, c);
                #pragma unroll
                for (int v = 0; v < V; ++v) { y[v] -= c[v]; squared[r] += y[v] * y[v]; }
#if SUMS
                if (first + r < n) add(parts + ((long long)replica * k + j) * D + f, y);
#endif
            }
        }
        add_across<8>(squared, lane);
        const T distance = squared[0] + __shfl_xor_sync(all, squared[0], 1);
        const int of = lane / 2 % 8 * 4;
        const int upper = __shfl_sync(all, label[1], of), lower = __shfl_sync(all, label[0], of);
        const int own = lane >= 16 ? upper : lower;
        const long long i = first + lane / 2;
        if (lane % 2 || i >= n) continue;
#if SUMS
        total += distance;
        atomicAdd(counts + (long long)replica * k + own, 1u);
#else
        const T finite = distance == distance ? distance : T(__int_as_float(0x7f800000));  // or infinite, but a number
        if (base && distances[i] <= finite) continue;
        labels[i] = base + own;
        distances[i] = finite;
#endif
    }
#if SUMS
    total = warp_sum(total);
    if (lane == 0) atomicAdd(inertia, total);
#endif
}
