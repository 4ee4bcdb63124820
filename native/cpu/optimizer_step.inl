#include "rows.inl"

// gradient: none where it is 0.

template <class Update, class T = typename Update::Number>
static void update_range(T* weight, T* const* states, const T* gradient, T factor, int64_t count,
                         const Update& update) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    Vec<T> state[Update::kStates];
    for (int k = 0; k < Update::kStates; k++) state[k] = load_part(states[k] + i, lanes);
    Vec<T> g = {};
    if (gradient) g = load_part(gradient + i, lanes);
    if (factor != 1) g = g * factor;
    const Vec<T> w = update(load_part(weight + i, lanes), g, state);
    for (int k = 0; k < Update::kStates; k++) store_part(states[k] + i, state[k], lanes);
    store_part(weight + i, w, lanes);
  });
}
