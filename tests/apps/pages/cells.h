// The cells of a heatmap on a page, under the pointer.
#pragma once

#include <string>

#include "tests/apps/pages/browser.h"

namespace vitrine::test {

struct Cells {
  std::string canvas;  // a selector
  int rows, columns;

  void hover(Page& page, int row, int column) const { act(page, row, column, false); }
  void click(Page& page, int row, int column) const { act(page, row, column, true); }

 private:
  void act(Page& page, int row, int column, bool click) const {
    const auto place =
        page.eval("(() => { const e = document.querySelector(" + nlohmann::json(canvas).dump() +
                  "); e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = "
                  "e.getBoundingClientRect(); return [b.left + b.width * " +
                  std::to_string((column + 0.5) / columns) + ", b.top + b.height * " +
                  std::to_string((row + 0.5) / rows) + "]; })()");
    if (click) page.click(place[0], place[1]);
    else page.hover(place[0], place[1]);
  }
};

// The texts of all elements that a selector finds.
inline std::vector<std::string> texts(Page& page, const std::string& selector) {
  return page.eval("[...document.querySelectorAll(" + nlohmann::json(selector).dump() +
                   ")].map((e) => e.innerText)");
}

}  // namespace vitrine::test
