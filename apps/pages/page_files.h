// The files of parts/ and views/ and style.css, as the build put them into the program.
#pragma once

#include <span>
#include <string_view>

namespace vitrine::app {

struct PageFile {
  std::string_view path;  // in apps/pages
  std::string_view text;
};

// Parts first, in the order in which they build on each other, then the views.
std::span<const PageFile> page_files();

}  // namespace vitrine::app
