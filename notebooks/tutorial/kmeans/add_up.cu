// For each cluster the sum over its rows of (row - centre) and their number, from known labels. A thread owns a column of
// a table in shared memory and takes its rows in order, so that nothing is raced for and each run gives the same bits.

// X: n rows of d; labels: n; centers: k x d. The block (x, y, z) takes the x-th of gridDim.x ranges of rows, the y-th `width`
// of `wanted` features and one column more, which counts the rows, and the z-th `height` clusters; its threads are `groups`
// times `width`. sums: gridDim.x x k x (wanted + 1), each block writes its part. Shared memory: groups x height x width of T.
extern "C" __global__ void
add_up(const T *X, long long n, int d, int k, long long row, long long column, const T *centers, const int *labels,
       double *sums, int wanted, int width, int groups, int height)
{
    constexpr int N = 16;  // rows on their way at a time
    extern __shared__ __align__(16) unsigned char memory[];
    T *table = (T *)memory;
    for (int e = threadIdx.x; e < groups * height * width; e += blockDim.x) table[e] = 0;
    __syncthreads();
    const int group = threadIdx.x / width, place = threadIdx.x % width;
    const int f = blockIdx.y * width + place, lowest = blockIdx.z * height;
    const int feature_of_x = f < wanted ? f : 0;
    const T one = f < wanted ? 0 : 1;  // the last column's rows count as ones, by arithmetic: a branch would part the loads
    T *own = table + (long long)group * height * width + place;
    const long long each = (n + gridDim.x - 1) / gridDim.x, first = blockIdx.x * each, end = min(n, first + each);
    for (long long start = first; start < end; start += (long long)N * groups) {
        long long r[N];
        int label[N];
        T value[N];
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            r[i] = start + group + (long long)i * groups;
            label[i] = labels[min(r[i], end - 1)];
        }
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            const T x = X[min(r[i], end - 1) * row + feature_of_x * column];
            value[i] = (1 - one) * (x - centers[(long long)label[i] * d + feature_of_x]) + one;
        }
        __syncwarp();  // all loads are on their way before the first sum is touched
        #pragma unroll
        for (int i = 0; i < N; ++i) {
            const unsigned j = label[i] - lowest;
            if (j < height && r[i] < end) own[j * width] += value[i];
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < height * width; e += blockDim.x) {
        const int j = lowest + e / width, feature = blockIdx.y * width + e % width;
        double sum = 0;
        for (int g = 0; g < groups; ++g) sum += table[(long long)g * height * width + e];
        if (j < k && feature <= wanted) sums[((long long)blockIdx.x * k + j) * (wanted + 1) + feature] = sum;
    }
}
