// A path's first recorded step on a device: small steps by replays and by plain launches, which must be the same bits.
#include <cstring>

#include "head_path.h"
#include "small_head.h"
#include "step_graph.h"

namespace fm {
namespace {

// Steps with other features, another lr and another margin each; replays from the second on, or none.
template <class T, class E>
std::vector<std::vector<T>> steps(CudaBackend& gpu, const HeadPath<T, E>& path, Optimizer type, StepTerms terms,
                                  bool replayed) {
  SmallHead<T> q(gpu, 1, Negatives::curricular, type, 72, type == Optimizer::adamw);
  terms.classes = q.classes;
  std::shared_ptr<KeptStep> kept;
  if (replayed) kept = kept_step(gpu, path, q.features, q.weight, q.state, std::nullopt, q.p, type, terms);
  std::vector<std::vector<T>> all;
  for (int turn = 0; turn < 3; turn++) {
    q.optimizer.lr = 0.5 / (1 + turn), q.optimizer.step = 1 + turn;
    q.p.scale = 30 - turn, q.p.margin = 0.5 - 0.1 * turn, q.p.t = 0.3 + 0.1 * turn;
    HeadStep out{0,
                 0,
                 0,
                 0,
                 gpu.empty(q.features.dtype, q.labels.shape),
                 gpu.empty(q.features.dtype, q.labels.shape),
                 gpu.empty(q.features.dtype, q.features.shape),
                 gpu.empty(q.features.dtype, q.labels.shape),
                 0,
                 0,
                 0};
    if (!kept) out = step_on_path(gpu, path, q.features, q.weight, q.state, q.labels, q.p, q.optimizer, terms);
    else out = kept->run(q.features, q.weight, q.labels, std::nullopt, q.classes, q.p, q.optimizer, std::move(out));
    if (kept && turn == 0) kept->record(Stream(gpu.device()));
    for (const Tensor& result : {out.row_loss, out.lse, out.d_features, out.d_margins})
      all.push_back(values_of<T>(gpu, result));
    q.features = q.drawn(gpu, q.features.shape);
  }
  all.push_back(values_of<T>(gpu, q.weight));
  for (const Tensor& each : q.state) all.push_back(values_of<T>(gpu, each));
  return all;
}

template <class T, class E>
std::string compare(CudaBackend& gpu, const HeadPath<T, E>& path) {
  const char* const names[] = {"row_loss", "lse", "d_features", "d_margins"};
  for (Optimizer type : {Optimizer::sgd, Optimizer::adamw}) {
    StepTerms terms;
    terms.keep_bytes = type == Optimizer::sgd ? 0.0 : -1.0;  // terms of none, and of all
    std::vector<std::vector<T>> wanted = steps(gpu, path, type, terms, false), got;
    try {
      got = steps(gpu, path, type, terms, true);
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& error) {
      return error.what();
    }
    for (size_t i = 0; i < wanted.size(); i++)
      if (std::memcmp(got[i].data(), wanted[i].data(), wanted[i].size() * sizeof(T)))
        return std::string("in small steps on the path '") + path.name + "' " +
               (i < 12    ? names[i % 4]
                : i == 12 ? "weight"
                          : "the optimizer's state") +
               " differs from that of plain launches";
  }
  return "";
}

}  // namespace

template <class T, class E>
std::string graph_disagreement(CudaBackend& gpu, const HeadPath<T, E>& path) {
  return once_a_device<compare<T, E>>(gpu, path);
}

template std::string graph_disagreement(CudaBackend&, const HeadPath<float, float>&);
template std::string graph_disagreement(CudaBackend&, const HeadPath<double, double>&);
template std::string graph_disagreement(CudaBackend&, const HeadPath<float, Bfloat16>&);

}  // namespace fm
