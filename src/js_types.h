// Js<T>: one conversion a type.  from() reads a JavaScript value or throws fm::Error naming what it expected;
// to() makes one.  Structs list their fields once (FM_OBJECT) and cross as objects with those names.
#pragma once
#include <napi.h>

#include <cctype>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

#include "../native/common/backend.h"
#include "../native/common/methods.h"
#include "tensor_handle.h"

namespace fm {

template <class T, class = void>
struct Js;

template <>
struct Js<Tensor> {
  static Tensor from(const Napi::Value& v) { return from_handle(v, "argument"); }
  static Napi::Value to(Napi::Env env, const Tensor& t) { return to_handle(env, t); }
};

template <>
struct Js<OptionalTensor> {
  static OptionalTensor from(const Napi::Value& v) {
    if (v.IsUndefined() || v.IsNull()) return std::nullopt;
    return Js<Tensor>::from(v);
  }
  // Not counted: what a call may leave out is for its maker's next call.
  static Napi::Value to(Napi::Env env, const OptionalTensor& t) {
    return t ? to_handle(env, *t, false) : env.Undefined();
  }
};

template <>
struct Js<OptimizerState> {
  static OptimizerState from(const Napi::Value& v) {
    FM_CHECK(type, v.IsArray(), "expected an optimizer's state, an array of tensors");
    const auto array = v.As<Napi::Array>();
    OptimizerState state;
    for (uint32_t i = 0; i < array.Length(); i++) state.push_back(Js<Tensor>::from(array.Get(i)));
    return state;
  }
};

template <class T>
struct Js<T, std::enable_if_t<std::is_arithmetic_v<T> && !std::is_same_v<T, bool>>> {
  static T from(const Napi::Value& v) {
    FM_CHECK(type, v.IsNumber(), "expected a number");
    const double x = v.As<Napi::Number>().DoubleValue();
    if constexpr (std::is_integral_v<T>)
      FM_CHECK(range, std::trunc(x) == x && std::abs(x) < std::ldexp(1.0, std::numeric_limits<T>::digits),
               "expected an integer, got ", x);
    return T(x);
  }
  static Napi::Value to(Napi::Env env, T x) { return Napi::Number::New(env, double(x)); }
};

template <>
struct Js<bool> {
  static bool from(const Napi::Value& v) {
    FM_CHECK(type, v.IsBoolean(), "expected a boolean");
    return v.As<Napi::Boolean>().Value();
  }
  static Napi::Value to(Napi::Env env, bool x) { return Napi::Boolean::New(env, x); }
};

template <>
struct Js<std::string> {
  static std::string from(const Napi::Value& v) {
    FM_CHECK(type, v.IsString(), "expected a string");
    return v.As<Napi::String>().Utf8Value();
  }
  static Napi::Value to(Napi::Env env, const std::string& s) { return Napi::String::New(env, s); }
};

template <>
struct Js<Shape> {
  static Shape from(const Napi::Value& v) {
    FM_CHECK(type, v.IsArray(), "expected a shape, an array of numbers");
    const auto array = v.As<Napi::Array>();
    Shape shape(array.Length());
    for (uint32_t i = 0; i < array.Length(); i++) shape[i] = Js<int64_t>::from(array.Get(i));
    for (int64_t extent : shape) FM_CHECK(shape, extent >= 0, "expected extents of at least 0, got ", shape);
    return shape;
  }
};

template <>
struct Js<Dtype> {
  static Dtype from(const Napi::Value& v) {
    const std::string name = Js<std::string>::from(v);
    for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::int32, Dtype::uint8, Dtype::bfloat16})
      if (name == name_of(dtype)) return dtype;
    fail(ErrorKind::type, "expected dtype float32, float64, int32, uint8 or bfloat16, got '", name, "'");
  }
  static Napi::Value to(Napi::Env env, Dtype dtype) { return Napi::String::New(env, name_of(dtype)); }
};

// An enum that crosses as one of its names.
template <class E>
E enum_from(const Napi::Value& v, const char* what, std::initializer_list<const char*> names) {
  const std::string name = Js<std::string>::from(v);
  int index = 0;
  std::string all;
  for (const char* candidate : names) {
    if (name == candidate) return E(index);
    all += (index++ ? ", " : "") + std::string(candidate);
  }
  fail(ErrorKind::range, "expected ", what, " to be one of ", all, "; got '", name, "'");
}
template <>
struct Js<Gradient> {
  static Gradient from(const Napi::Value& v) { return enum_from<Gradient>(v, "gradient", {"exact", "detached"}); }
};
template <>
struct Js<Overflow> {
  static Overflow from(const Napi::Value& v) {
    return enum_from<Overflow>(v, "overflow", {"none", "hard", "easy", "clamp"});
  }
};
template <>
struct Js<Variant> {
  static Variant from(const Napi::Value& v) { return enum_from<Variant>(v, "variant", {"arc", "cos"}); }
};
template <>
struct Js<Negatives> {
  static Negatives from(const Napi::Value& v) {
    return enum_from<Negatives>(v, "negatives", {"plain", "mvAdaptive", "mvFixed", "curricular", "filter"});
  }
};
template <>
struct Js<Precision> {
  static Precision from(const Napi::Value& v) { return enum_from<Precision>(v, "precision", {"float32", "bfloat16"}); }
};
template <>
struct Js<Optimizer> {
  static Optimizer from(const Napi::Value& v) { return enum_from<Optimizer>(v, "type", {"sgd", "adamw"}); }
};
template <>
struct Js<Method> {
  static Method from(const Napi::Value& v) {
#define METHOD(name, Struct) #name,
    return enum_from<Method>(v, "method",
                             {
#include "../native/common/methods.def"
                             });
#undef METHOD
  }
};

// --- structs as objects -----------------------------------------------------------------------------------------

template <class T>
void read_field(const Napi::Object& object, const char* name, T& field) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return;  // the C++ default holds
  try {
    field = Js<T>::from(value);
  } catch (const Error& error) {
    throw Error(error.kind, std::string(name) + ": " + error.what());
  }
}

// row_loss → rowLoss
inline std::string camel_case(const char* name) {
  std::string out;
  for (bool upper = false; *name; name++) {
    if (*name != '_') out += upper ? char(std::toupper(*name)) : *name;
    upper = *name == '_';
  }
  return out;
}

#define FM_FIELD_TO(field) object.Set(camel_case(#field), Js<std::decay_t<decltype(x.field)>>::to(env, x.field));
#define FM_EACH1(f, a) f(a)
#define FM_EACH2(f, a, ...) f(a) FM_EACH1(f, __VA_ARGS__)
#define FM_EACH3(f, a, ...) f(a) FM_EACH2(f, __VA_ARGS__)
#define FM_EACH4(f, a, ...) f(a) FM_EACH3(f, __VA_ARGS__)
#define FM_EACH5(f, a, ...) f(a) FM_EACH4(f, __VA_ARGS__)
#define FM_EACH6(f, a, ...) f(a) FM_EACH5(f, __VA_ARGS__)
#define FM_EACH7(f, a, ...) f(a) FM_EACH6(f, __VA_ARGS__)
#define FM_EACH8(f, a, ...) f(a) FM_EACH7(f, __VA_ARGS__)
#define FM_EACH9(f, a, ...) f(a) FM_EACH8(f, __VA_ARGS__)
#define FM_EACH10(f, a, ...) f(a) FM_EACH9(f, __VA_ARGS__)
#define FM_EACH11(f, a, ...) f(a) FM_EACH10(f, __VA_ARGS__)
#define FM_PICK(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, name, ...) name
#define FM_EACH(f, ...)                                                                                            \
  FM_PICK(__VA_ARGS__, FM_EACH11, FM_EACH10, FM_EACH9, FM_EACH8, FM_EACH7, FM_EACH6, FM_EACH5, FM_EACH4, FM_EACH3, \
          FM_EACH2, FM_EACH1)                                                                                      \
  (f, __VA_ARGS__)

// A result: a JavaScript object with the same names, in camelCase.
#define FM_RESULT(Type, ...)                              \
  template <>                                             \
  struct Js<Type> {                                       \
    static Napi::Value to(Napi::Env env, const Type& x) { \
      Napi::Object object = Napi::Object::New(env);       \
      FM_EACH(FM_FIELD_TO, __VA_ARGS__)                   \
      return object;                                      \
    }                                                     \
  };

FM_RESULT(Normalized, y, norm)
FM_RESULT(BatchNormForward, y, mean, inv_std)
FM_RESULT(BatchNormGradients, dx, d_weight, d_bias, d_slope)
FM_RESULT(PreluGradients, dx, d_slope)
FM_RESULT(WeightedSumGradients, d_weights, dx)
FM_RESULT(MarginSoftmaxForward, loss, regularizer, row_loss, lse, correct, labelled)
FM_RESULT(MarginSoftmaxGradients, d_features, d_weight, d_margins, d_scale, d_bias)
FM_RESULT(HeadStep, loss, regularizer, correct, labelled, row_loss, lse, d_features, d_margins, d_scale, d_bias,
          filtered)
FM_RESULT(MarginTransformSums, d_scale, d_bias)
FM_RESULT(Neighbours, index, score)
FM_RESULT(NegativeSums, lse, moments, cosines)
FM_RESULT(HeadRows, norm, target_cos, nearest_cos, hard, center)

inline Napi::Object object_from(const Napi::Value& v) {
  FM_CHECK(type, v.IsObject(), "expected an object");
  return v.As<Napi::Object>();
}

template <>
struct Js<ConvParams> {
  static ConvParams from(const Napi::Value& v) {
    ConvParams p;
    const Napi::Object object = object_from(v);
    read_field(object, "stride", p.stride);
    read_field(object, "padding", p.padding);
    return p;
  }
};
template <>
struct Js<OptimizerParams> {
  static OptimizerParams from(const Napi::Value& v) {
    OptimizerParams p;
    const Napi::Object object = object_from(v);
    read_field(object, "type", p.type);
    read_field(object, "lr", p.lr);
    read_field(object, "momentum", p.momentum);
    read_field(object, "weightDecay", p.weight_decay);
    read_field(object, "beta1", p.beta1);
    read_field(object, "beta2", p.beta2);
    read_field(object, "eps", p.eps);
    read_field(object, "step", p.step);
    read_field(object, "gradientFactor", p.gradient_factor);
    return p;
  }
};
template <>
struct Js<HeadOptions> {
  static HeadOptions from(const Napi::Value& v) {
    HeadOptions options;
    const Napi::Object object = object_from(v);
    read_field(object, "precision", options.precision);
    read_field(object, "moments", options.moments);
    read_field(object, "cosines", options.cosines);
    read_field(object, "momentsScale", options.moments_scale);
    read_field(object, "gradientFilter", options.gradient_filter);
    read_field(object, "classes", options.classes);
    read_field(object, "movesOthers", options.moves_others);
    FM_CHECK(range, options.gradient_filter >= 0 && options.gradient_filter < 1,
             "expected gradientFilter to be at least 0 and below 1, got ", options.gradient_filter);
    const Napi::Value memory = object.Get("memory");
    if (memory.IsString() && Js<std::string>::from(memory) == "fast")
      options.keep_bytes = std::numeric_limits<double>::infinity();
    else if (memory.IsNumber() && Js<double>::from(memory) >= 0) options.keep_bytes = Js<double>::from(memory);
    else
      FM_CHECK(range, memory.IsUndefined() || (memory.IsString() && Js<std::string>::from(memory) == "lean"),
               "expected memory to be lean, fast or a number of bytes");
    return options;
  }
};
template <>
struct Js<MarginParams> {
  static MarginParams from(const Napi::Value& v) {
    MarginParams p;
    const Napi::Object object = object_from(v);
    read_field(object, "method", p.method);
    read_field(object, "scale", p.scale);
    read_field(object, "margin", p.margin);
    read_field(object, "gradient", p.gradient);
    read_field(object, "overflow", p.overflow);
    read_field(object, "cosineEpsilon", p.cosine_epsilon);
    read_field(object, "angleEpsilon", p.angle_epsilon);
    read_field(object, "angleLimit", p.angle_limit);
    read_field(object, "targetEpsilon", p.target_epsilon);
    read_field(object, "projectWeightGradient", p.project_weight_gradient);
    read_field(object, "easyAbove", p.easy_above);
    read_field(object, "m1", p.m1);
    read_field(object, "m2", p.m2);
    read_field(object, "m3", p.m3);
    read_field(object, "lambda", p.lambda);
    read_field(object, "negatives", p.negatives);
    read_field(object, "t", p.t);
    read_field(object, "filterAbove", p.filter_above);
    read_field(object, "scaleByNorm", p.scale_by_norm);
    read_field(object, "subCenters", p.sub_centers);
    read_field(object, "labelSmoothing", p.label_smoothing);
    read_field(object, "variant", p.variant);
    read_field(object, "lowerNorm", p.lower_norm);
    read_field(object, "upperNorm", p.upper_norm);
    read_field(object, "lowerMargin", p.lower_margin);
    read_field(object, "upperMargin", p.upper_margin);
    read_field(object, "normPenalty", p.norm_penalty);
    read_field(object, "h", p.h);
    read_field(object, "normMean", p.norm_mean);
    read_field(object, "normStd", p.norm_std);
    read_field(object, "bias", p.bias);
    read_field(object, "positiveWeight", p.positive_weight);
    read_field(object, "negativeWeight", p.negative_weight);
    read_field(object, "power", p.power);
    return p;
  }
};

}  // namespace fm
