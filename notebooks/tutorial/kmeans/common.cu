// What the kernels of this folder share. gpu.py puts `#define`s in front: T is float or double; the others stand at the
// head of each file. LAYOUT says how X lies in memory (0: rows together, 1: columns together, 2: any strides).

template <class V> __device__ __forceinline__ V warp_sum(V value)
{
    for (int offset = 16; offset; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}
