#include "autograd/transform/intervention_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/error.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/utf8.h"

namespace vitrine {
namespace {

constexpr int kVersion = 1;
constexpr Edit::Action kActions[] = {Edit::Action::replace, Edit::Action::zero,
                                     Edit::Action::add,     Edit::Action::project_out,
                                     Edit::Action::scale,   Edit::Action::detach};
constexpr Edit::Origin kOrigins[] = {Edit::Origin::given, Edit::Origin::held, Edit::Origin::mean,
                                     Edit::Origin::mean_by_position, Edit::Origin::resampled};
constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::f16,    DType::bf16,
                             DType::i32, DType::i64, DType::boolean};

// ---- writing ----------------------------------------------------------------------------------
JsonValue number(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  return x;
}

JsonValue to_json(const Tensor& t) {
  JsonValue data = JsonValue::list();
  if (is_float(t.dtype())) {
    for (const double x : t.to_vector<double>()) data.push_back(number(x));
  } else {
    for (const std::int64_t x : t.to_vector<std::int64_t>())
      data.push_back(t.dtype() == DType::boolean ? JsonValue(x != 0) : JsonValue(x));
  }
  JsonValue shape = JsonValue::list();
  for (const std::int64_t d : t.shape()) shape.push_back(d);
  return JsonValue::object({{"dtype", name_of(t.dtype())}, {"shape", shape}, {"data", data}});
}

// A name of the user's, which JSON cannot hold if it is not UTF-8.
const std::string& checked(const std::string& name) {
  if (nn::replace_invalid_utf8(name) != name)
    throw GraphError("a site's name or what a value is called is not UTF-8: JSON cannot hold it");
  return name;
}

JsonValue to_json(const Edit& e) {
  JsonValue json =
      JsonValue::object({{"site", checked(e.site.name)}, {"action", name_of(e.action)}});
  if (!e.where.empty()) json["where"] = JsonValue::list();
  for (const Where& w : e.where) {
    JsonValue lists = JsonValue::object();
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
  json["from"] = checked(e.from);
  if (e.action == Edit::Action::replace) {
    json["origin"] = name_of(e.origin);
    if (e.origin == Edit::Origin::resampled) json["permutation"] = e.permutation;
  }
  return json;
}

// ---- reading ----------------------------------------------------------------------------------
double real(const JsonReader& at) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (at.is_text("nan")) return std::numeric_limits<double>::quiet_NaN();
  if (at.is_text("inf")) return kInfinity;
  if (at.is_text("-inf")) return -kInfinity;
  if (!at.is_number()) at.reject(R"(a number, "inf", "-inf" or "nan")");
  return at.number();
}

Shape shape_from(const JsonReader& dims, const JsonReader& data) {
  if (dims.list().size() > static_cast<std::size_t>(kMaxRank))
    dims.reject(fmt::format("the sizes of at most {} axes", kMaxRank));
  Shape shape;
  std::uint64_t rest = data.list().size();
  for (const std::int64_t d : dims.wholes(0)) {
    if (d == 0) dims.fail("an axis of size 0: a value has at least one number");
    rest = rest % static_cast<std::uint64_t>(d) == 0 ? rest / static_cast<std::uint64_t>(d) : 0;
    shape.push_back(d);
  }
  if (rest != 1) {
    data.fail(
        fmt::format("{} numbers do not fill the shape {}", data.size(), vitrine::to_string(shape)));
  }
  return shape;
}

Tensor tensor_from(const JsonReader& at) {
  const DType dtype = at.at("dtype").named(kDTypes);
  const JsonReader data = at.at("data");
  const Shape shape = shape_from(at.at("shape"), data);
  at.done();
  const std::vector<JsonReader> items = data.list();
  if (dtype == DType::boolean) {
    Tensor t = Tensor::empty(shape, dtype);
    for (std::size_t i = 0; i < items.size(); ++i)
      reinterpret_cast<std::uint8_t*>(t.view().data)[i] = items[i].flag() ? 1 : 0;
    return t;
  }
  if (is_integer(dtype)) {
    const bool narrow = dtype == DType::i32;
    const auto numbers = narrow ? data.wholes(INT32_MIN, INT32_MAX) : data.wholes();
    return Tensor::of<std::int64_t>(shape, numbers).to(dtype);
  }
  std::vector<double> numbers;
  for (const JsonReader& item : items) numbers.push_back(real(item));
  const Tensor t = Tensor::of<double>(shape, numbers).to(dtype);
  const std::vector<double> kept = t.to_vector<double>();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (std::isfinite(numbers[i]) && !std::isfinite(kept[i]))
      items[i].reject(fmt::format("a number that {} can hold", name_of(dtype)), "it is too large");
  }
  return t;
}

Where where_from(const JsonReader& at) {
  Where w;
  for (const WhereList& l : kWhereLists) {
    const JsonReader list = at.at(l.word);
    if (list.absent()) continue;
    w.*l.indices = list.wholes(0);
    if ((w.*l.indices).empty()) list.reject("indices", "leave it out to mean the whole axis");
  }
  at.done();
  return w;
}

std::vector<std::int64_t> permutation_from(const JsonReader& at) {
  const std::vector<std::int64_t> list = at.wholes(0);
  std::vector<std::int64_t> sorted = list;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != static_cast<std::int64_t>(i))
      at.fail(fmt::format("expected each of 0 to {} once", sorted.size() - 1));
  }
  return list;
}

Edit edit_from(const JsonReader& at) {
  Edit e{.site = {at.at("site").text()}, .action = at.at("action").named(kActions)};
  const auto only_if = [&](bool allowed, const char* key) {
    if (const JsonReader field = at.at(key); !allowed && !field.absent())
      field.fail(fmt::format("'{}' has none; remove it", name_of(e.action)));
    return allowed;
  };
  if (const JsonReader list = at.at("where"); !list.absent()) {
    for (const JsonReader& item : list.list()) e.where.push_back(where_from(item));
    if (list.size() == 0) list.reject("selections", "leave it out to mean everywhere");
  }
  if (only_if(has_factor(e.action), "factor")) e.factor = real(at.at("factor"));
  if (only_if(has_value(e.action), "value")) e.value = tensor_from(at.at("value"));
  if (only_if(has_value(e.action), "from")) e.from = at.at("from").text();
  if (only_if(e.action == Edit::Action::replace, "origin"))
    e.origin = at.at("origin").named(kOrigins);
  const JsonReader permutation = at.at("permutation");
  if (e.origin == Edit::Origin::resampled) e.permutation = permutation_from(permutation);
  else if (!permutation.absent()) permutation.fail("only a resampled value has one; remove it");
  at.done();
  return e;
}

}  // namespace

std::string to_json(const Interventions& what) {
  JsonValue stages = JsonValue::list();
  for (const auto& stage : what.stages()) {
    JsonValue edits = JsonValue::list();
    for (const Edit& e : stage) edits.push_back(to_json(e));
    stages.push_back(std::move(edits));
  }
  return JsonValue::object({{"version", kVersion}, {"stages", stages}}).line();
}

Interventions interventions_from_json(std::string_view text) {
  const auto all = JsonReader::object(text, "interventions", {.unknown = JsonFault::file});
  if (const JsonReader version = all.at("version"); version.whole(0, 1000000) != kVersion)
    version.reject(fmt::format("{}, which this program reads", kVersion));
  Interventions what;
  for (const JsonReader& stage : all.at("stages").list()) {
    std::vector<Edit> edits;
    for (const JsonReader& edit : stage.list()) edits.push_back(edit_from(edit));
    what = what.then(Interventions(std::move(edits)));
  }
  all.done();
  return what;
}

}  // namespace vitrine
