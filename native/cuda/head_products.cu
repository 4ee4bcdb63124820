#include "head_products.cuh"

#include "head_launch.h"

namespace fm {

template <class T>
void run_features_product(const Stream& stream, const DeviceHead<T>& head, const T* scores, int64_t first_center,
                          int64_t columns, T* slabs, int64_t splits) {
  const dim3 blocks(unsigned(blocks_for(head.N, Tile<T>::kRows)), unsigned(blocks_for(head.D, Tile<T>::kColumns)),
                    unsigned(splits));
  launch(stream, blocks, Tile<T>::kThreads, features_product_kernel<T>, head, scores, first_center, columns, slabs);
}

template <class T>
void run_weights_product(const Stream& stream, const DeviceHead<T>& head, const WeightTask<T>& task) {
  const dim3 blocks(unsigned(blocks_for(task.columns, Tile<T>::kRows)),
                    unsigned(blocks_for(head.D, Tile<T>::kColumns)));
  if (task.weight) launch(stream, blocks, Tile<T>::kThreads, weights_product_kernel<T, true>, head, task);
  else launch(stream, blocks, Tile<T>::kThreads, weights_product_kernel<T, false>, head, task);
}

template void run_features_product(const Stream&, const DeviceHead<float>&, const float*, int64_t, int64_t, float*,
                                   int64_t);
template void run_features_product(const Stream&, const DeviceHead<double>&, const double*, int64_t, int64_t, double*,
                                   int64_t);
template void run_weights_product(const Stream&, const DeviceHead<float>&, const WeightTask<float>&);
template void run_weights_product(const Stream&, const DeviceHead<double>&, const WeightTask<double>&);

}  // namespace fm
