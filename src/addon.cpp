#include <napi.h>

#include <map>
#include <string>

#include "bind.h"

namespace fm {

void bind_ops(Napi::Object exports);
void bind_host(Napi::Object exports);

// The public name of what a native function does: headStep → MarginHead.step, conv2dBackwardData → conv2d.
static std::string public_name(std::string name) {
  static const std::map<std::string, std::string> names = {{"fromArray", "tensor"},
                                                           {"writeFrom", "Tensor.set"},
                                                           {"readInto", "Tensor.toArray"},
                                                           {"reshape", "Tensor.reshape"},
                                                           {"headStep", "MarginHead.step"},
                                                           {"headStepSync", "MarginHead.stepSync"},
                                                           {"sampleClasses", "MarginHead.stepSync"},
                                                           {"sampleClassesAsync", "MarginHead.step"},
                                                           {"optimizerStep", "Optimizer.step"}};
  if (const auto it = names.find(name); it != names.end()) return it->second;
  for (const std::string suffix : {"Async", "Into"})
    if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  for (const std::string suffix : {"Forward", "BackwardData", "BackwardWeight", "Backward", "Train", "Eval"})
    if (name.size() > suffix.size() && name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size());
  return name;
}

Napi::Error to_js_error(Napi::Env env, const std::string& operation, const std::exception& error) {
  constexpr const char* codes[] = {"ERR_FM_TYPE",     "ERR_FM_RANGE", "ERR_FM_SHAPE",     "ERR_FM_DEVICE",
                                   "ERR_FM_DISPOSED", "ERR_FM_DATA",  "ERR_FM_NON_FINITE"};
  Napi::Error out = Napi::Error::New(env, public_name(operation) + ": " + error.what());
  const auto* own = dynamic_cast<const Error*>(&error);
  out.Set("code", Napi::String::New(env, codes[own ? int(own->kind) : int(ErrorKind::range)]));
  return out;
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  bind_ops(exports);
  bind_host(exports);
  return exports;
}

}  // namespace fm

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return fm::init(env, exports); }
NODE_API_MODULE(flashmargin, init_addon)
