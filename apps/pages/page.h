// One self-contained HTML file for a result: the numbers, the style and the scripts are all in it, and nothing is
// fetched.
//
//   write_text(file, page_html("attention", result));   // result: the verb's JSON, with `meta`
//
// A view (views/NAME.js) draws the JSON of a verb; it formats and places numbers, and computes none. What views share
// is in parts/: README.md says which part is for what.
#pragma once

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

// Lists within lists, of numbers with `digits` digits after the point, which is what a picture can show and keeps pages
// small; null for NaN.
Json for_page(const Tensor& values, int digits);

// The text of a file of apps/pages by its path there ("style.css", "parts/dom.js"); throws std::out_of_range for
// another one.
std::string_view page_file(std::string_view path);

}  // namespace vitrine::app
