// The margin methods by name, made from methods.def.
#pragma once
#include "error.h"
#include "margins/adaface.h"
#include "margins/arcface.h"
#include "margins/combined.h"
#include "margins/cosface.h"
#include "margins/magface.h"
#include "margins/softmax.h"
#include "margins/sphereface.h"
#include "margins/sphereface2.h"
#include "margins/uniface.h"

namespace fm {

enum class Method : int {
#define METHOD(name, Struct) name,
#include "methods.def"
#undef METHOD
};

inline const char* name_of(Method method) {
  switch (method) {
#define METHOD(name, Struct) \
  case Method::name:         \
    return #name;
#include "methods.def"
#undef METHOD
  }
  return "unknown";
}

template <template <class> class M>
struct MethodTag {
  template <class T>
  using Of = M<T>;
};

// f(tag) with the method's struct: dispatch_method(p.method, [&](auto tag) { using M = typename decltype(tag)::template Of<float>; … })
template <class F>
auto dispatch_method(Method method, F&& f) {
  switch (method) {
#define METHOD(name, Struct) \
  case Method::name:         \
    return f(MethodTag<Struct>{});
#include "methods.def"
#undef METHOD
  }
  fail(ErrorKind::range, "expected a margin method, got number ", int(method));
}

// f(negative) with what becomes of the classes other than the target's.
template <class T, class F>
void dispatch_negative(const MarginParams& p, F&& f) {
  dispatch_method(p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<T>;
    if constexpr (M::binary) f(M::negatives(p));
    else if (p.negatives == Negatives::plain) f(PlainNegative<T>{});
    else f(ReweightedNegative<T>(p));
    return 0;
  });
}

// A loss a class, without a softmax.
inline bool is_binary(Method method) {
  return dispatch_method(method, [](auto tag) { return decltype(tag)::template Of<double>::binary; });
}

// What the row's signal is.
inline Quality quality_of(Method method) {
  return dispatch_method(method, [](auto tag) { return decltype(tag)::template Of<double>::quality; });
}

// What no combination may be, whatever the device.
inline void check_margin(const MarginParams& p) {
  FM_CHECK(range, p.scale > 0 && p.scale <= 1e4, "expected a scale in (0, 10000], got ", p.scale);
  dispatch_method(p.method, [&](auto tag) {
    decltype(tag)::template Of<double>::check(p);
    return 0;
  });
  check_negatives(p);
  FM_CHECK(range, p.cosine_epsilon >= 0 && p.cosine_epsilon < 1, "expected cosineEpsilon in [0, 1), got ",
           p.cosine_epsilon);
  FM_CHECK(range, p.target_epsilon >= 0 && p.target_epsilon < 1, "expected targetEpsilon in [0, 1), got ",
           p.target_epsilon);
  FM_CHECK(range, p.angle_epsilon >= 0 && p.angle_epsilon < kPi / 2, "expected angleEpsilon in [0, pi/2), got ",
           p.angle_epsilon);
  FM_CHECK(range, p.angle_limit >= 0 && p.angle_limit <= kPi, "expected angleLimit in [0, pi], got ", p.angle_limit);
  FM_CHECK(range, std::fabs(p.easy_above) <= 1, "expected easyAbove in [-1, 1], got ", p.easy_above);
  FM_CHECK(range, p.sub_centers >= 1 && p.sub_centers <= 1024, "expected subCenters in [1, 1024], got ", p.sub_centers);
  FM_CHECK(range, p.label_smoothing >= 0 && p.label_smoothing < 1, "expected labelSmoothing in [0, 1), got ",
           p.label_smoothing);
  const bool plain = p.negatives == Negatives::plain && p.cosine_epsilon == 0;
  FM_CHECK(range, p.label_smoothing == 0 || (plain && p.sub_centers == 1),
           "expected labelSmoothing 0 where negatives are reweighted, cosines clipped, or a class has several centers");
  FM_CHECK(range, !p.scale_by_norm || plain,
           "expected a scale other than the feature's norm where negatives are reweighted or cosines clipped");
  if (!is_binary(p.method)) return;
  FM_CHECK(range, p.negatives == Negatives::plain && p.label_smoothing == 0 && !p.scale_by_norm,
           "expected plain negatives, no labelSmoothing and a fixed scale with ", name_of(p.method),
           ", whose loss has no softmax");
  FM_CHECK(range, std::fabs(p.bias) <= 1e4, "expected a bias in [-10000, 10000], got ", p.bias);
  FM_CHECK(range, p.positive_weight >= 0 && p.negative_weight >= 0 && p.positive_weight + p.negative_weight <= 1e6,
           "expected weights of at least 0, got ", p.positive_weight, " and ", p.negative_weight);
}

}  // namespace fm
