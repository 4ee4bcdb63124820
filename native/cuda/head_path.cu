#include "head_path.h"

#include <cstdlib>

#include "../common/error.h"

namespace fm {
namespace {

const Bfloat16Path* const kPaths[] = {&plain_head_path<float, Bfloat16>()};

}  // namespace

const Bfloat16Path& bfloat16_head_path(const HeadCase& of) {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_HEAD");
  const std::string wanted = setting ? setting : "";
  std::string names;
  for (const Bfloat16Path* path : kPaths) {
    names += names.empty() ? path->name : std::string(", ") + path->name;
    if (!wanted.empty() && wanted != path->name) continue;
    const std::string why_not = path->why_not(of);
    if (why_not.empty()) return *path;
    FM_CHECK(range, wanted.empty(), "FLASHMARGIN_CUDA_HEAD=", wanted, " does not suit: ", why_not);
  }
  fail(ErrorKind::range, "expected FLASHMARGIN_CUDA_HEAD to be one of ", names, ", got ", wanted);
}

}  // namespace fm
