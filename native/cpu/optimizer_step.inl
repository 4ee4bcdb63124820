#include "rows.inl"

template <class T>
static void sgd_range(T* weight, T* velocity, const T* gradient, int64_t count, T lr, T momentum, T weight_decay) {
  const Vec<T> rate = splat(lr), keep = splat(momentum), decay = splat(weight_decay);
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> w = load_part(weight + i, lanes);
    const Vec<T> g = load_part(gradient + i, lanes) + decay * w;
    const Vec<T> v = keep * load_part(velocity + i, lanes) + g;
    store_part(velocity + i, v, lanes);
    store_part(weight + i, w - rate * v, lanes);
  });
}
