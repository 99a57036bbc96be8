#include "autograd/transform/intervention_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tensor/error.h"
#include "tensor/files/json_text.h"

namespace vitrine {
namespace {

using Json = nlohmann::json;
using Ordered = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr Edit::Action kActions[] = {Edit::Action::replace, Edit::Action::zero,
                                     Edit::Action::add,     Edit::Action::project_out,
                                     Edit::Action::scale,   Edit::Action::detach};
constexpr Edit::Origin kOrigins[] = {Edit::Origin::given, Edit::Origin::held, Edit::Origin::mean,
                                     Edit::Origin::mean_by_position, Edit::Origin::resampled};
constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::f16,    DType::bf16,
                             DType::i32, DType::i64, DType::boolean};

bool has_factor(Edit::Action a) { return a == Edit::Action::add || a == Edit::Action::scale; }

// ---- writing ----------------------------------------------------------------------------------
Ordered number(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  return x;
}

Ordered to_json(const Tensor& t) {
  Ordered data = Ordered::array();
  if (is_float(t.dtype())) {
    for (const double x : t.to_vector<double>()) data.push_back(number(x));
  } else {
    for (const std::int64_t x : t.to_vector<std::int64_t>())
      data.push_back(t.dtype() == DType::boolean ? Ordered(x != 0) : Ordered(x));
  }
  Ordered shape = Ordered::array();
  for (const std::int64_t d : t.shape()) shape.push_back(d);
  return {{"dtype", name_of(t.dtype())}, {"shape", shape}, {"data", std::move(data)}};
}

Ordered to_json(const Edit& e) {
  Ordered json = {{"site", e.site.name}, {"action", name_of(e.action)}};
  for (const Where& w : e.where) {
    Ordered lists = Ordered::object();
    for (const WhereList& l : kWhereLists) {
      if (!(w.*l.indices).empty()) lists[l.word] = w.*l.indices;
    }
    json["where"].push_back(std::move(lists));
  }
  if (has_factor(e.action)) json["factor"] = number(e.factor);
  if (!has_value(e.action)) return json;
  if (!e.value.defined()) {
    throw GraphError(fmt::format("{}: '{}' needs a value, and this edit has none", e.to_text(),
                                 name_of(e.action)));
  }
  json["value"] = to_json(e.value);
  json["from"] = e.from;
  if (e.action == Edit::Action::replace) {
    json["origin"] = name_of(e.origin);
    if (e.origin == Edit::Origin::resampled) json["permutation"] = e.permutation;
  }
  return json;
}

// ---- reading ----------------------------------------------------------------------------------
[[noreturn]] void fail(const std::string& place, const std::string& what) {
  throw FileError(fmt::format("interventions: {}: {}", place, what));
}
std::string in_quotes(std::string_view text) {  // control characters and bytes that are not UTF-8
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

// A value and where it stands, for messages.
struct Place {
  const Json& json;
  std::string name;

  void expect(bool right, std::string_view what) const {
    if (!right) fail(name, fmt::format("expected {}, not a value of type {}", what, type()));
  }
  std::string_view type() const { return json.type_name(); }

  bool has(const char* key) const { return json.contains(key); }
  Place operator[](const char* key) const {
    if (!has(key)) fail(name, fmt::format("has no \"{}\"", key));
    return {json.at(key), name == "the file" ? key : fmt::format("{}.{}", name, key)};
  }
  Place operator[](std::size_t i) const { return {json.at(i), fmt::format("{}[{}]", name, i)}; }
  std::size_t size() const { return json.size(); }

  const Place& object(std::initializer_list<std::string_view> known) const {
    expect(json.is_object(), "an object");
    for (const auto& [key, value] : json.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end())
        fail(name, fmt::format("the key {} is not known here; known are {}", in_quotes(key),
                               fmt::join(known, ", ")));
    }
    return *this;
  }
  const Place& array() const {
    expect(json.is_array(), "an array");
    return *this;
  }
  std::string text() const {
    expect(json.is_string(), "a string");
    return json.get<std::string>();
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) const {
    expect(json.is_number_integer(), "an integer");
    const bool too_big = json.is_number_unsigned() &&
                         json.get<std::uint64_t>() >
                             static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const std::int64_t x = too_big ? high : json.get<std::int64_t>();
    if (too_big || x < low || x > high)
      fail(name, fmt::format("{} is outside {} to {}", json.dump(), low, high));
    return x;
  }
  std::vector<std::int64_t> indices() const {
    array();
    std::vector<std::int64_t> list;
    for (std::size_t i = 0; i < size(); ++i)
      list.push_back((*this)[i].integer(0, std::numeric_limits<std::int64_t>::max()));
    return list;
  }
  double real() const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (json == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (json == "inf") return kInfinity;
    if (json == "-inf") return -kInfinity;
    expect(json.is_number(), R"(a number, "inf", "-inf" or "nan")");
    return json.get<double>();
  }
  template <class T, std::size_t n>
  T one_of(const T (&known)[n]) const {
    const std::string given = text();
    std::vector<std::string_view> names;
    for (const T k : known) {
      if (name_of(k) == given) return k;
      names.push_back(name_of(k));
    }
    fail(name,
         fmt::format("{} is not known; known are {}", in_quotes(given), fmt::join(names, ", ")));
  }
};

Tensor tensor_from(const Place& at) {
  at.object({"dtype", "shape", "data"});
  const DType dtype = at["dtype"].one_of(kDTypes);
  const Place dims = at["shape"], data = at["data"];
  dims.array();
  data.array();
  if (dims.size() > static_cast<std::size_t>(kMaxRank))
    fail(dims.name, fmt::format("{} axes; at most {} are possible", dims.size(), kMaxRank));
  Shape shape;
  for (const std::int64_t d : dims.indices()) shape.push_back(d);
  std::uint64_t rest = data.size();
  for (const std::int64_t d : shape) {
    if (d == 0) fail(dims.name, "an axis of size 0: a value has at least one number");
    rest = rest % static_cast<std::uint64_t>(d) == 0 ? rest / static_cast<std::uint64_t>(d) : 0;
  }
  if (rest != 1)
    fail(data.name, fmt::format("{} numbers do not fill the shape {}", data.size(),
                                vitrine::to_string(shape)));
  if (dtype == DType::boolean) {
    Tensor t = Tensor::empty(shape, dtype);
    for (std::size_t i = 0; i < data.size(); ++i) {
      data[i].expect(data[i].json.is_boolean(), "true or false");
      reinterpret_cast<std::uint8_t*>(t.view().data)[i] = data[i].json.get<bool>() ? 1 : 0;
    }
    return t;
  }
  if (is_integer(dtype)) {
    std::vector<std::int64_t> numbers;
    const bool narrow = dtype == DType::i32;
    const std::int64_t low = narrow ? std::numeric_limits<std::int32_t>::min()
                                    : std::numeric_limits<std::int64_t>::min();
    const std::int64_t high = narrow ? std::numeric_limits<std::int32_t>::max()
                                     : std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < data.size(); ++i) numbers.push_back(data[i].integer(low, high));
    return Tensor::of<std::int64_t>(shape, numbers).to(dtype);
  }
  std::vector<double> numbers;
  for (std::size_t i = 0; i < data.size(); ++i) numbers.push_back(data[i].real());
  const Tensor t = Tensor::of<double>(shape, numbers).to(dtype);
  const std::vector<double> kept = t.to_vector<double>();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (std::isfinite(numbers[i]) && !std::isfinite(kept[i]))
      fail(data[i].name, fmt::format("{} is too large for {}", numbers[i], name_of(dtype)));
  }
  return t;
}

Where where_from(const Place& at) {
  Where w;
  at.object({"prompt", "pos", "head", "key", "feature"});
  for (const WhereList& l : kWhereLists) {
    if (!at.has(l.word)) continue;
    w.*l.indices = at[l.word].indices();
    if ((w.*l.indices).empty())
      fail(at[l.word].name, "no indices; leave it out to mean the whole axis");
  }
  return w;
}

std::vector<std::int64_t> permutation_from(const Place& at) {
  const std::vector<std::int64_t> list = at.indices();
  std::vector<std::int64_t> sorted = list;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != static_cast<std::int64_t>(i))
      fail(at.name, fmt::format("expected each of 0 to {} once", sorted.size() - 1));
  }
  return list;
}

Edit edit_from(const Place& at) {
  at.object({"site", "action", "where", "factor", "value", "from", "origin", "permutation"});
  Edit e{.site = {at["site"].text()}, .action = at["action"].one_of(kActions)};
  const auto only_if = [&](bool allowed, const char* key) {
    if (!allowed && at.has(key))
      fail(at[key].name, fmt::format("'{}' has none; remove it", name_of(e.action)));
    return allowed;
  };
  if (at.has("where")) {
    const Place list = at["where"];
    list.array();
    for (std::size_t i = 0; i < list.size(); ++i) e.where.push_back(where_from(list[i]));
    if (list.size() == 0) fail(list.name, "no selections; leave it out to mean everywhere");
  }
  if (only_if(has_factor(e.action), "factor")) e.factor = at["factor"].real();
  if (only_if(has_value(e.action), "value")) e.value = tensor_from(at["value"]);
  if (only_if(has_value(e.action), "from")) e.from = at["from"].text();
  if (only_if(e.action == Edit::Action::replace, "origin"))
    e.origin = at["origin"].one_of(kOrigins);
  if (e.origin == Edit::Origin::resampled) e.permutation = permutation_from(at["permutation"]);
  else if (at.has("permutation"))
    fail(at["permutation"].name, "only a resampled value has one; remove it");
  return e;
}

}  // namespace

std::string to_json(const Interventions& what) {
  Ordered stages = Ordered::array();
  for (const auto& stage : what.stages()) {
    Ordered edits = Ordered::array();
    for (const Edit& e : stage) edits.push_back(to_json(e));
    stages.push_back(std::move(edits));
  }
  const Ordered all = {{"version", kVersion}, {"stages", std::move(stages)}};
  try {
    return all.dump();
  } catch (const Ordered::exception&) {
    throw GraphError("a site's name or what a value is called is not UTF-8: JSON cannot hold it");
  }
}

Interventions interventions_from_json(std::string_view text) {
  const Json json = parse_json(text, "interventions");
  const Place all{json, "the file"};
  all.object({"version", "stages"});
  if (const std::int64_t v = all["version"].integer(0, 1000000); v != kVersion)
    fail("version", fmt::format("{} is not known; this program reads {}", v, kVersion));
  const Place stages = all["stages"];
  stages.array();
  Interventions what;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const Place stage = stages[s];
    stage.array();
    std::vector<Edit> edits;
    for (std::size_t i = 0; i < stage.size(); ++i) edits.push_back(edit_from(stage[i]));
    what = what.then(Interventions(std::move(edits)));
  }
  return what;
}

}  // namespace vitrine
