#include "step_graph.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "head.h"

namespace fm {

CudaGraph::CudaGraph(const Stream& recorded, const Stream& launched, const std::function<void()>& record)
    : launched_(launched) {
  cudaGraph_t graph = nullptr;
  FM_CUDA(cudaStreamBeginCapture(recorded, cudaStreamCaptureModeThreadLocal));
  try {
    record();
  } catch (...) {
    cudaStreamEndCapture(recorded, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();  // not sticky
    throw;
  }
  cudaError_t error = cudaStreamEndCapture(recorded, &graph);
  const char* call = "cudaStreamEndCapture";
  if (error == cudaSuccess) error = cudaGraphInstantiate(&launchable_, graph, 0), call = "cudaGraphInstantiate";
  if (graph) cudaGraphDestroy(graph);
  if (error == cudaSuccess) error = cudaGraphUpload(launchable_, launched), call = "cudaGraphUpload";
  if (error == cudaSuccess) return;
  if (launchable_) cudaGraphExecDestroy(launchable_);
  cudaGetLastError();  // not sticky
  fail_cuda(error, call);
}

std::vector<double> numbers_of(const HeadPlan& plan) {
  // Of all fields: one more does not compile here.
  const auto& [method, negatives, gradient, cosine_epsilon, sub_centers, project, smooths, shifts] = plan;
  return {double(method),      double(negatives), double(gradient), cosine_epsilon,
          double(sub_centers), double(project),   double(smooths),  double(shifts)};
}

StepGraphs::Wish StepGraphs::wish() {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_GRAPH");
  const std::string text = setting ? setting : "";
  FM_CHECK(range, text.empty() || text == "on" || text == "off", "expected FLASHMARGIN_CUDA_GRAPH on or off, got ",
           text);
  return text == "on" ? Wish::on : text == "off" ? Wish::off : Wish::whichever;
}

std::shared_ptr<KeptStep> StepGraphs::find(const StepKey& key) {
  std::lock_guard<std::mutex> hold(lock_);
  const auto at = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.key == key; });
  if (at == kept_.end()) return nullptr;
  std::rotate(kept_.begin(), at, at + 1);
  return kept_.front().step;
}

bool StepGraphs::met_before(const StepKey& key) {
  std::lock_guard<std::mutex> hold(lock_);
  const auto at = std::find(met_.begin(), met_.end(), key);
  const bool met = at != met_.end();
  if (met) met_.erase(at);
  met_.insert(met_.begin(), key);
  if (met_.size() > 2 * kMost) met_.pop_back();
  return met;
}

void StepGraphs::keep(const StepKey& key, std::shared_ptr<KeptStep> step) {
  {
    std::lock_guard<std::mutex> hold(recording_);
    if (!recorder_) recorder_.emplace(device_);
    step->record(*recorder_);
  }
  std::shared_ptr<KeptStep> dropped;  // ends without the lock: its memory comes back by way of forget()
  std::lock_guard<std::mutex> hold(lock_);
  for (const Kept& kept : kept_)
    if (kept.step == step) return;  // recorded anew
  if (kept_.size() == kMost) dropped = std::move(kept_.back().step), kept_.pop_back();
  kept_.insert(kept_.begin(), {key, std::move(step)});
}

void StepGraphs::forget(const void* place) {
  const auto is_of = [&](const StepKey& key) {
    return std::find(key.places.begin(), key.places.end(), place) != key.places.end();
  };
  std::vector<Kept> dropped;
  std::lock_guard<std::mutex> hold(lock_);
  met_.erase(std::remove_if(met_.begin(), met_.end(), is_of), met_.end());
  const auto end =
      std::stable_partition(kept_.begin(), kept_.end(), [&](const Kept& kept) { return !is_of(kept.key); });
  std::move(end, kept_.end(), std::back_inserter(dropped));
  kept_.erase(end, kept_.end());
}

bool StepGraphs::give_up_memory() {
  std::vector<Kept> dropped;
  std::lock_guard<std::mutex> hold(lock_);
  if (kept_.empty()) return false;
  dropped.swap(kept_);
  met_.clear();
  if (++shortages_ == kMostShortages) off_ = "memory was short while steps were kept";
  return true;
}

std::string StepGraphs::off() {
  std::lock_guard<std::mutex> hold(lock_);
  return off_;
}

void StepGraphs::switch_off(const std::string& reason) {
  std::vector<Kept> dropped;
  std::lock_guard<std::mutex> hold(lock_);
  dropped.swap(kept_);
  if (off_.empty()) off_ = reason;
}

}  // namespace fm
