#include "head_products.cuh"

#include "head_launch.h"

namespace fm {

template <class T, class E>
void run_features_product(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk, T* slabs,
                          int64_t splits) {
  const dim3 blocks(unsigned(blocks_for(head.N, Tile<T>::kRows)), unsigned(blocks_for(head.D, Tile<T>::kColumns)),
                    unsigned(splits));
  launch(stream, blocks, Tile<T>::kThreads, features_product_kernel<T, E>, head, chunk, slabs);
}

template <class T, class E>
void run_weights_product(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk,
                         const WeightTask<T>& task) {
  const dim3 blocks(unsigned(blocks_for(chunk.columns, Tile<T>::kRows)),
                    unsigned(blocks_for(head.D, Tile<T>::kColumns)));
  task.with_update([&](const auto& update) {
    using Update = std::decay_t<decltype(update)>;
    launch(stream, blocks, Tile<T>::kThreads, weights_product_kernel<T, E, Update>, head, chunk, task);
  });
}

#define FM_PRODUCTS(T, E)                                                                                       \
  template void run_features_product(const Stream&, const DeviceHead<T>&, const HeadChunk<T, E>&, T*, int64_t); \
  template void run_weights_product(const Stream&, const DeviceHead<T>&, const HeadChunk<T, E>&, const WeightTask<T>&)
FM_PRODUCTS(float, float);
FM_PRODUCTS(double, double);
FM_PRODUCTS(float, Bfloat16);
#undef FM_PRODUCTS

}  // namespace fm
