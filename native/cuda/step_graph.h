// Steps of the head that repeat, recorded once as a CUDA graph and launched as one from then on.
//
// Steps of one key are the same launches with the same arguments.  What differs from step to step, the batch and the
// numbers of the margin and of the optimizer, one kernel copies to where the recorded ones read it; and what the caller
// gets is written by kernels launched after the graph.  So a key names the weight, its state, shapes, settings and what
// the host makes of the margin (HeadPlan), and no tensor that an allocator may place elsewhere next time.
//
// The first step of a key is launched as any other, and so is the second; but the second keeps its memory, and its
// launches are then recorded.  Nothing is allocated while recording, a recording that fails costs no step, and it is on
// a stream of its own, so that no other thread's launches get into it.
//
// A replay begins with the unit rows that the last step left.  Where something else has written into the weight since, the
// step is launched, and recorded anew.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../common/backend.h"
#include "cuda_raii.h"

namespace fm {

class CudaBackend;
struct HeadPlan;

// What record() launches on one stream, to be launched as often as wanted on another.  All memory that it needs there is
// taken here.
class CudaGraph {
 public:
  CudaGraph(const Stream& recorded, const Stream& launched, const std::function<void()>& record);
  ~CudaGraph() { cudaGraphExecDestroy(launchable_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  void launch() const { FM_CUDA(cudaGraphLaunch(launchable_, launched_)); }

 private:
  const Stream& launched_;
  cudaGraphExec_t launchable_ = nullptr;
};

// What the launches of a step depend on.
struct StepKey {
  std::vector<const void*> places;  // of weight and its state; of the path
  std::vector<double> numbers;      // shapes, plan, settings
  bool operator==(const StepKey& other) const { return places == other.places && numbers == other.numbers; }
};
std::vector<double> numbers_of(const HeadPlan& plan);

// The memory of a key's steps and, once recorded, their graph.
class KeptStep {
 public:
  virtual ~KeptStep() = default;
  // A step into `out`'s tensors: by plain launches until it is recorded.  p: of the key's plan; classes: as many as the
  // key has.
  virtual HeadStep run(const Tensor& features, const Tensor& weight, const Tensor& labels,
                       const OptionalTensor& margins, const OptionalTensor& classes, const MarginParams& p,
                       const OptimizerParams& optimizer, HeadStep out) = 0;
  // After run: whether it has launches that a recording could replace.
  virtual bool wants_recording() = 0;
  // Where it still has: another thread may have recorded them meanwhile, or begun a step that failed.
  virtual void record(const Stream& stream) = 0;
};

// A device's.
class StepGraphs {
 public:
  explicit StepGraphs(int device) : device_(device) {}

  // FLASHMARGIN_CUDA_GRAPH: unset, or `off`, or `on`, which makes a graph that cannot be an error.
  enum class Wish { whichever, off, on };
  static Wish wish();

  // The kept step of a key, or nullptr.
  std::shared_ptr<KeptStep> find(const StepKey& key);
  // Whether a step of this key is among the last ones that were asked for.
  bool met_before(const StepKey& key);
  // Records a step that was run, and keeps it in place of the one that was not used for longest.
  void keep(const StepKey& key, std::shared_ptr<KeptStep> step);
  // Of a block of memory that is given back.
  void forget(const void* place);
  // Where memory is short: true if there was any.
  bool give_up_memory();

  // Why there are none on this device; empty while there may be.
  std::string off();
  void switch_off(const std::string& reason);

 private:
  static constexpr size_t kMost = 8;
  static constexpr int kMostShortages = 2;
  struct Kept {
    StepKey key;
    std::shared_ptr<KeptStep> step;
  };

  int device_;
  std::mutex lock_, recording_;
  std::optional<Stream> recorder_;
  std::vector<Kept> kept_;    // the last used first
  std::vector<StepKey> met_;  // the last first
  int shortages_ = 0;
  std::string off_;
};

template <class T, class E>
struct HeadPath;
struct StepTerms;

// head_step.cu: a step to be kept, of weight and state as they lie.
template <class T, class E>
std::shared_ptr<KeptStep> kept_step(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features,
                                    const Tensor& weight, const OptimizerState& state, const OptionalTensor& margins,
                                    const MarginParams& p, Optimizer optimizer, StepTerms terms);
// graph_check.cpp: empty where replayed steps are bit for bit those of plain launches, or how they are not.  Compared once
// a device and path.
template <class T, class E>
std::string graph_disagreement(CudaBackend& gpu, const HeadPath<T, E>& path);

}  // namespace fm
