#include "apps/pages/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "apps/pages/page_files.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

constexpr std::string_view kParts = "parts/", kViews = "views/", kScript = ".js";

// JSON in which no sequence of characters ends a <script> element or opens a comment in it: "<" is written as an
// escape, which JSON.parse reads back. So are U+2028 and U+2029, which end a line for a script.
std::string in_script(std::string_view json) {
  std::string text;
  text.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string_view rest = json.substr(i, 3);
    if (json[i] == '<') {
      text += "\\u003c";
    } else if (rest == "\u2028" || rest == "\u2029") {
      text += rest == "\u2028" ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      text += json[i];
    }
  }
  return text;
}

Json rounded(const std::vector<double>& values, const Shape& shape, int axis, double scale,
             std::size_t& next) {
  Json list = Json::list();
  for (std::int64_t i = 0; i < shape[axis]; ++i) {
    if (axis + 1 < shape.size()) {
      list.push_back(rounded(values, shape, axis + 1, scale, next));
      continue;
    }
    const double value = std::round(values[next++] * scale) / scale;
    list.push_back(value == std::trunc(value) && std::abs(value) < 1e15
                       ? Json(static_cast<std::int64_t>(value))
                       : Json(value));
  }
  return list;
}

}  // namespace

Json for_page(const Tensor& values, int digits) {
  std::size_t next = 0;
  return rounded(values.to_vector<double>(), values.shape(), 0, std::pow(10.0, digits), next);
}

std::string_view page_file(std::string_view path) {
  for (const PageFile& file : page_files())
    if (file.path == path) return file.text;
  throw std::out_of_range(fmt::format("no page has a file '{}'", path));
}

std::vector<std::string_view> page_views() {
  std::vector<std::string_view> names;
  for (const PageFile& file : page_files()) {
    if (!file.path.starts_with(kViews)) continue;
    names.push_back(
        file.path.substr(kViews.size(), file.path.size() - kViews.size() - kScript.size()));
  }
  return names;
}

namespace {

// What a page may reach, besides itself: where scripts may come from, and what else.
struct Policy {
  std::string_view scripts{}, more{};
};

std::string whole_page(std::string_view view, const Json& data, const std::string& chunks,
                       const Policy& policy = {}) {
  const auto views = page_views();
  if (std::find(views.begin(), views.end(), view) == views.end())
    throw std::invalid_argument(fmt::format("there is no view '{}'", view));
  std::string scripts;
  for (const PageFile& file : page_files()) {
    const bool wanted = file.path.starts_with(kParts) || file.path.starts_with(kViews);
    if (wanted) scripts += file.text;
  }
  // The policy lets nothing in from outside: a page that tried to fetch something could not.
  return fmt::format(
      R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'{4}; img-src data:{6}">
<link rel="icon" href="data:,">
<title>Vitrine: {0}</title>
<style>
{1}</style>
</head>
<body>
<script type="application/json" id="data">{2}</script>
<script>
"use strict";
{3}
showPage("{0}", JSON.parse(document.getElementById("data").textContent));
</script>
{5}</body>
</html>
)",
      view, page_file("style.css"), in_script(data.line()), scripts, policy.scripts, chunks,
      policy.more);
}

}  // namespace

std::string page_html(std::string_view view, const Json& data, PageReach reach) {
  return whole_page(view, data, "",
                    {.more = reach == PageReach::own_server ? "; connect-src 'self'" : ""});
}

std::string page_html(std::string_view view, const Json& data,
                      const std::vector<PageChunk>& chunks) {
  std::string texts;
  for (const PageChunk& c : chunks)
    texts += fmt::format("<script type=\"application/json\" id=\"chunk-{}\">{}</script>\n", c.name,
                         in_script(c.json));
  return whole_page(view, data, texts);
}

namespace {

bool is_chunk_file(const std::string& name) {
  return name.starts_with("vitrine-") && name.ends_with(".js");
}

}  // namespace

void require_page_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return;
  if (!std::filesystem::is_directory(folder, error))
    throw FileError(
        fmt::format("'{}' is a file; give --html the name of a folder", folder.string()));
  bool ours = false;
  std::string other;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_chunk_file(name) && entry.is_regular_file()) ours = true;
    else
      other = name == "index.html" && other.empty()    ? name
              : other.empty() || other == "index.html" ? name
                                                       : other;
  }
  if (other.empty() || (ours && other == "index.html")) return;
  throw FileError(fmt::format(
      "the folder '{}' holds '{}', which is no page of Vitrine's; give --html another folder",
      folder.string(), other));
}

void write_page_folder(const std::filesystem::path& folder, std::string_view view, const Json& data,
                       const std::vector<PageChunk>& chunks) {
  require_page_folder(folder);
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (error)
    throw SaveError(
        fmt::format("cannot make the folder '{}': {}", folder.string(), error.message()));
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (is_chunk_file(entry.path().filename().string()))
      std::filesystem::remove(entry.path(), error);
  for (const PageChunk& c : chunks)
    write_text(folder / ("vitrine-" + c.name + ".js"),
               fmt::format("chunkRead(\"{}\", {});\n", c.name, in_script(c.json)));
  // 'self' of a page that was opened from a disk are the files of that disk.
  write_text(folder / "index.html", whole_page(view, data, "", {.scripts = " 'self'"}));
}

bool is_page_folder(const std::string& html) {
  return html.ends_with('/') || (!html.empty() && std::filesystem::is_directory(html));
}

}  // namespace vitrine::app
