#include "head_path.h"

#include <cstdlib>

#include "step_graph.h"
#include "tensor_head.h"

namespace fm {
namespace {

const Bfloat16Path* const kPaths[] = {&kHopperPath, &kTensorPath, &plain_head_path<float, Bfloat16>()};

std::string why_not(CudaBackend& gpu, const Bfloat16Path& path, const HeadCase& of) {
  const std::string reason = path.why_not(of);
  return reason.empty() ? disagreement_of(gpu, path) : reason;
}

}  // namespace

const Bfloat16Path& bfloat16_head_path(CudaBackend& gpu, const HeadCase& of) {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_HEAD");
  const std::string wanted = setting ? setting : "";
  std::string names;
  for (const Bfloat16Path* path : kPaths) {
    names += names.empty() ? path->name : std::string(", ") + path->name;
    if (!wanted.empty() && wanted != path->name) continue;
    const std::string reason = why_not(gpu, *path, of);
    if (reason.empty()) return *path;
    FM_CHECK(range, wanted.empty(), "FLASHMARGIN_CUDA_HEAD=", wanted, " does not suit: ", reason);
  }
  fail(ErrorKind::range, "expected FLASHMARGIN_CUDA_HEAD to be one of ", names, ", got ", wanted);
}

HeadPathReport report_head_path(CudaBackend& gpu) {
  const HeadCase usual{gpu.capability(), 1024, 1 << 20, 1, 512};
  HeadPathReport report;
  for (const Bfloat16Path* path : kPaths) {
    const std::string reason = path->why_not(usual), disagreement = reason.empty() ? disagreement_of(gpu, *path) : "";
    if (!disagreement.empty())
      report.warning += std::string(report.warning.empty() ? "" : "; ") + "the head's path '" + path->name +
                        "' is off: " + disagreement;
    else if (!reason.empty()) report.chosen += "not by " + std::string(path->about) + ": " + reason + "; ";
    if (!reason.empty() || !disagreement.empty()) continue;
    report.chosen += "bfloat16 by " + std::string(path->about);
    if (StepGraphs::wish() == StepGraphs::Wish::off) {
      report.chosen += "; steps are launched, FLASHMARGIN_CUDA_GRAPH=off";
      return report;
    }
    const std::string off = gpu.graphs().off(), why_launched = off.empty() ? graph_disagreement(gpu, *path) : off;
    if (why_launched.empty()) report.chosen += "; steps that repeat are replayed as a CUDA graph";
    else
      report.warning += std::string(report.warning.empty() ? "" : "; ") +
                        "the head's steps are not replayed as a CUDA graph: " + why_launched;
    return report;
  }
  return report;
}

}  // namespace fm
