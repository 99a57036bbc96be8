// One self-contained HTML file for a result: the numbers, the style and the scripts are all in it, and nothing is
// fetched.
//
//   write_text(file, page_html("attention", result));   // result: the verb's JSON, with `meta`
//
// A view (views/NAME.js) draws the JSON of a verb; it formats and places numbers, and computes none. What views share
// is in parts/: README.md says which part is for what.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/output.h"
#include "tensor/tensor.h"

namespace vitrine::app {

// The views that there are: the names of the files of views/.
std::vector<std::string_view> page_views();

// `data` is shown by the view of that name; its `meta` names the model and the command under the title. Whatever is in
// `data`, a token `</script>` say, is text on the page and never markup. Throws std::invalid_argument for a view that
// there is not.
//
// A page reaches nothing; a live one may ask the server that it came from.
enum class PageReach { nothing, own_server };
std::string page_html(std::string_view view, const Json& data,
                      PageReach reach = PageReach::nothing);

// JSON that a page parses when it is looked at: parts/chunks.js.
struct PageChunk {
  std::string name;
  std::string json;
};
// A page whose chunks are in it.
std::string page_html(std::string_view view, const Json& data,
                      const std::vector<PageChunk>& chunks);
// A page for a result that is too large to be opened at once: FOLDER/index.html and, beside it, a file for each chunk,
// vitrine-NAME.js, which the page adds as a script when it needs it. Makes the folder, and replaces a page that is in
// it. Throws SaveError and what require_page_folder throws.
void write_page_folder(const std::filesystem::path& folder, std::string_view view, const Json& data,
                       const std::vector<PageChunk>& chunks);
// Throws FileError for a folder that holds anything but such a page.
void require_page_folder(const std::filesystem::path& folder);
// Whether --html names a folder: it is one, or ends in a slash.
bool is_page_folder(const std::string& html);

// Lists within lists, of numbers with `digits` digits after the point, which is what a picture can show and keeps pages
// small; null for NaN.
Json for_page(const Tensor& values, int digits);

// The text of a file of apps/pages by its path there ("style.css", "parts/dom.js"); throws std::out_of_range for
// another one.
std::string_view page_file(std::string_view path);

}  // namespace vitrine::app
