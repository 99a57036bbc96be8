#include "apps/options/result_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tensor/files/npy.h"

namespace vitrine::app {
namespace {

std::string ending_of(std::string_view name) {
  return std::filesystem::path(name).extension().string();
}

// A cell of RFC 4180: in quotes where it has to be.
std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t c = 0; c < cells.size(); ++c) line += (c > 0 ? "," : "") + csv_cell(cells[c]);
  return line + "\n";
}

std::size_t column_of(std::vector<std::string>& columns, const std::string& name) {
  const auto at = std::find(columns.begin(), columns.end(), name);
  if (at != columns.end()) return static_cast<std::size_t>(at - columns.begin());
  columns.push_back(name);
  return columns.size() - 1;
}

// ---- elements of tensors ------------------------------------------------------------------------
std::vector<std::string> axes_of(const std::string& name, const Tensor& tensor,
                                 const AxisNames& names) {
  const auto rank = static_cast<std::size_t>(tensor.rank());
  for (const std::string& key : {name, std::string()}) {
    const auto known = names.of.find(key);
    if (known != names.of.end() && known->second.size() == rank) return known->second;
  }
  std::vector<std::string> axes;
  for (std::size_t a = 0; a < rank; ++a) axes.push_back(fmt::format("axis{}", a));
  return axes;
}

std::string number_cell(double x, DType type) {
  if (std::isnan(x)) return "";
  if (type == DType::f64) return fmt::format("{}", x);
  return is_float(type) ? fmt::format("{}", static_cast<float>(x)) : fmt::format("{:.0f}", x);
}

std::string place_cell(const AxisNames& names, const std::string& tensor, const std::string& axis,
                       std::int64_t index) {
  for (const std::string& key : {tensor + ":" + axis, axis}) {
    const auto known = names.places.find(key);
    if (known != names.places.end()) return known->second.at(static_cast<std::size_t>(index));
  }
  return fmt::format("{}", index);
}

}  // namespace

bool is_tensor_file(std::string_view name) {
  const std::string ending = ending_of(name);
  return ending == ".safetensors" || ending == ".npz";
}

bool is_data_file(std::string_view name) {
  return is_tensor_file(name) || ending_of(name) == ".csv";
}

void save_tensors(const std::string& file, const NamedTensors& tensors, const Json& metadata) {
  if (ending_of(file) == ".npz") save_npz(file, tensors);
  else save_safetensors(file, tensors, as_metadata(metadata));
}

std::string csv_of(const NamedTensors& tensors, const AxisNames& names) {
  std::vector<std::string> columns = {"tensor"};
  for (const auto& [name, tensor] : tensors) {
    for (const std::string& axis : axes_of(name, tensor, names)) {
      column_of(columns, axis);
      if (const auto label = names.labels.find(axis); label != names.labels.end())
        column_of(columns, label->second.column);
    }
  }
  columns.emplace_back("value");
  std::string text = csv_line(columns);
  for (const auto& [name, tensor] : tensors) {
    const std::vector<std::string> axes = axes_of(name, tensor, names);
    std::vector<std::int64_t> place(axes.size(), 0);
    for (const double x : tensor.to_vector<double>()) {
      std::vector<std::string> cells(columns.size());
      cells[0] = name;
      for (std::size_t a = 0; a < axes.size(); ++a) {
        cells[column_of(columns, axes[a])] = place_cell(names, name, axes[a], place[a]);
        const auto label = names.labels.find(axes[a]);
        if (label == names.labels.end()) continue;
        const auto& texts = label->second.texts;
        const auto at = static_cast<std::size_t>(place[a]);
        if (at < texts.size()) cells[column_of(columns, label->second.column)] = texts[at];
      }
      cells.back() = number_cell(x, tensor.dtype());
      text += csv_line(cells);
      for (std::size_t a = axes.size(); a-- > 0;) {  // the next place, in row-major order
        if (++place[a] < tensor.dim(static_cast<int>(a))) break;
        place[a] = 0;
      }
    }
  }
  return text;
}

// ---- rows of a table ----------------------------------------------------------------------------
namespace {

// The fields of an object by their names, those of objects within as outer.inner.
void flatten(const Json& value, const std::string& name,
             std::vector<std::pair<std::string, const Json*>>& cells) {
  if (const auto* fields = value.fields(); fields != nullptr) {
    for (const JsonField& f : *fields)
      flatten(f.value, name.empty() ? f.name : name + "." + f.name, cells);
  } else {
    cells.emplace_back(name, &value);
  }
}

std::string json_cell(const Json& value) {
  if (value.is_null()) return "";
  return value.text() != nullptr ? *value.text() : value.line();
}

}  // namespace

std::string csv_of_rows(const Json& list) {
  std::vector<std::string> columns;
  std::vector<std::vector<std::pair<std::string, const Json*>>> rows;
  for (const Json& item : *list.list_items()) {
    flatten(item, "", rows.emplace_back());
    for (const auto& [name, value] : rows.back()) column_of(columns, name);
  }
  // A field that is null in one row and an object in another has the object's columns.
  std::erase_if(columns, [&](const std::string& name) {
    return std::any_of(columns.begin(), columns.end(),
                       [&](const std::string& other) { return other.starts_with(name + "."); });
  });
  std::string text = csv_line(columns);
  for (const auto& row : rows) {
    std::vector<std::string> cells(columns.size());
    for (const auto& [name, value] : row) {
      const auto at = std::find(columns.begin(), columns.end(), name);
      if (at != columns.end())
        cells[static_cast<std::size_t>(at - columns.begin())] = json_cell(*value);
    }
    text += csv_line(cells);
  }
  return text;
}

}  // namespace vitrine::app
