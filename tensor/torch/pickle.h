// Python's pickles as data: a machine that builds values and runs nothing. What a pickle would call
// is noted as a call, for the few names that the caller knows; any other name is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/files/byte_reader.h"

namespace vitrine::torch {

// A value by its number in Pickle::values. Several may hold the same one, and a list itself.
using PickleRef = std::uint32_t;

struct PickleValue {
  enum class Kind : std::uint8_t {
    none,
    boolean,       // integer
    integer,       // integer
    long_integer,  // text: little-endian, more than 8 bytes
    real,          // real
    text,          // text: in the file's bytes, hopefully UTF-8
    bytes,         // text
    tuple,         // items
    list,          // items; a set too
    dict,          // items: key, value, key, value ...
    global,        // text: "torch._utils._rebuild_tensor_v2", of those that are known
    call,          // items: what would be called, its arguments
    persistent,    // items: what the file says of something that lies outside of the pickle
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  double real = 0;
  std::string_view text;
  std::vector<PickleRef> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  PickleRef root = 0;

  const PickleValue& operator[](PickleRef ref) const { return values[ref]; }
};

// Reads one pickle of protocol 2 to 5, up to its end. `known` are the names it may hold, "module.name";
// collections.OrderedDict becomes a dict. Throws FileError for another name, naming it, for an
// instruction that such pickles do not have, and for what does not fit together. Memory is in
// proportion to the bytes that are read.
Pickle read_pickle(ByteReader& in, std::span<const std::string_view> known);

}  // namespace vitrine::torch
