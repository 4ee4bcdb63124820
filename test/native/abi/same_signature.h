// Whether two C functions can be called alike: as many arguments, of the same sizes, pointers where there are pointers.
// The names of types are not compared.
#pragma once
#include <type_traits>

template <class A, class B>
constexpr bool same_kind() {
  if constexpr (std::is_void_v<A> || std::is_void_v<B>) return std::is_void_v<A> && std::is_void_v<B>;
  else
    return sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
           std::is_floating_point_v<A> == std::is_floating_point_v<B>;
}

template <class R, class... A, class S, class... B>
constexpr bool same_signature(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) != sizeof...(B)) return false;
  else return same_kind<R, S>() && (true && ... && same_kind<A, B>());
}

#define FM_SAME_SIGNATURE(result, name, parameters)                                              \
  static_assert(same_signature(decltype (&::name)(nullptr), decltype(Functions::name)(nullptr)), \
                #name " is declared otherwise");
