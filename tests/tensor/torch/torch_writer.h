// Writes small PyTorch checkpoints for tests, good ones and bad ones: nothing is checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace vitrine::test {

template <class T>
std::string number(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

// ---- pieces of a pickle: each leaves one value on the stack
namespace py {

inline std::string text(const std::string& s) {
  return "X" + number(static_cast<std::uint32_t>(s.size())) + s;
}
inline std::string integer(std::int64_t x) { return "\x8a\x08" + number(x); }
inline std::string list(const std::vector<std::string>& items) {
  std::string out = "](";
  for (const std::string& i : items) out += i;
  return out + "e";
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& i : items) out += i;
  return out + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const std::int64_t v : values) out += integer(v);
  return out + "t";
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string call(const std::string& what, const std::vector<std::string>& arguments) {
  return what + tuple(arguments) + "R";
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out = "}(";
  for (const auto& [key, value] : entries) out += text(key) + value;
  return out + "u";
}
inline const std::string kNone = "N", kTrue = "\x88", kFalse = "\x89";
inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }

inline std::string storage(const std::string& type, const std::string& key, std::int64_t elements) {
  return tuple(
             {text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) +
         "Q";
}
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& sizes,
                          const std::vector<std::int64_t>& strides) {
  return call(
      global("torch._utils", "_rebuild_tensor_v2"),
      {storage, integer(offset), integers(sizes), integers(strides), kFalse, ordered_dict()});
}
inline std::string pickle(const std::string& value) { return "\x80\x02" + value + "."; }

}  // namespace py

// ---- the container
struct ZipWriter {
  std::string bytes, listed;
  int entries = 0;
  std::uint16_t method = 0, flags = 0;
  bool wide = false;  // sizes and places in zip64 fields

  void add(const std::string& name, const std::string& content, std::size_t alignment = 64) {
    const auto begin = bytes.size();
    const std::size_t header = 30 + name.size();
    std::string padding;
    while ((begin + header + padding.size()) % alignment != 0) padding += '\0';
    if (!padding.empty() && padding.size() < 4) padding.resize(padding.size() + alignment);
    if (!padding.empty()) {
      const std::string field = "FB" + number(static_cast<std::uint16_t>(padding.size() - 4));
      padding.replace(0, 4, field);
    }
    const auto size = static_cast<std::uint32_t>(content.size());
    const auto name_size = static_cast<std::uint16_t>(name.size());
    bytes += "PK\x03\x04" + number<std::uint16_t>(20) + number(flags) + number(method) +
             std::string(8, '\0') + number(size) + number(size) + number(name_size) +
             number(static_cast<std::uint16_t>(padding.size())) + name + padding + content;
    const std::string extra = wide ? number<std::uint16_t>(1) + number<std::uint16_t>(24) +
                                         number<std::uint64_t>(size) + number<std::uint64_t>(size) +
                                         number<std::uint64_t>(begin)
                                   : "";
    const std::uint32_t stated = wide ? 0xffffffffu : size;
    listed += "PK\x01\x02" + number<std::uint32_t>(20) + number(flags) + number(method) +
              std::string(8, '\0') + number(stated) + number(stated) + number(name_size) +
              number(static_cast<std::uint16_t>(extra.size())) + std::string(10, '\0') +
              number(wide ? 0xffffffffu : static_cast<std::uint32_t>(begin)) + name + extra;
    ++entries;
  }

  std::string finish(const std::string& comment = "") const {
    std::string out = bytes + listed;
    const auto count = static_cast<std::uint16_t>(entries);
    const std::size_t directory = bytes.size(), size = listed.size();
    if (wide) {
      const std::size_t record = out.size();
      out += "PK\x06\x06" + number<std::uint64_t>(44) + number<std::uint32_t>(20) +
             number<std::uint64_t>(0) + number<std::uint64_t>(count) +
             number<std::uint64_t>(count) + number<std::uint64_t>(size) +
             number<std::uint64_t>(directory);
      out += "PK\x06\x07" + number<std::uint32_t>(0) + number<std::uint64_t>(record) +
             number<std::uint32_t>(1);
    }
    const auto small = [&](std::size_t x) {
      return number(wide ? 0xffffffffu : static_cast<std::uint32_t>(x));
    };
    const std::string counts = wide ? number<std::uint16_t>(0xffff) + number<std::uint16_t>(0xffff)
                                    : number(count) + number(count);
    return out + "PK\x05\x06" + number<std::uint32_t>(0) + counts + small(size) + small(directory) +
           number(static_cast<std::uint16_t>(comment.size())) + comment;
  }
};

// What is in the zip of a checkpoint: the pickled object, and the storages by their keys.
struct TorchWriter {
  std::string object;
  std::vector<std::pair<std::string, std::string>> storages;
  std::string byteorder = "little";
  std::size_t alignment = 64;
  bool wide = false;

  std::string bytes() const {
    ZipWriter zip;
    zip.wide = wide;
    zip.add("m/data.pkl", py::pickle(object));
    if (!byteorder.empty()) zip.add("m/byteorder", byteorder);
    for (const auto& [key, content] : storages) zip.add("m/data/" + key, content, alignment);
    zip.add("m/version", "3\n");
    return zip.finish();
  }
  std::string legacy_bytes() const {
    std::string out("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    out += py::pickle(py::integer(1001));
    out +=
        py::pickle(py::dict({{"little_endian", byteorder == "little" ? py::kTrue : py::kFalse}}));
    out += py::pickle(object);
    std::vector<std::string> keys;
    for (const auto& [key, content] : storages) keys.push_back(py::text(key));
    out += py::pickle(py::list(keys));
    for (const auto& [key, content] : storages)  // of floats
      out += number<std::uint64_t>(content.size() / 4) + content;
    return out;
  }
};

}  // namespace vitrine::test
