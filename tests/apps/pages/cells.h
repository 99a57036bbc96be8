// What tests of pages with heatmaps share: the cells under the pointer, and texts.
#pragma once

#include <string>

#include "tests/apps/pages/browser.h"
#include "tests/apps/program.h"

namespace vitrine::test {

struct Cells {
  std::string canvas;  // a selector
  int rows, columns;

  void hover(Page& page, int row, int column) const { act(page, row, column, false); }
  void click(Page& page, int row, int column) const { act(page, row, column, true); }

 private:
  void act(Page& page, int row, int column, bool click) const {
    // The cell comes into sight first: a wide heatmap scrolls sideways, under the names of its rows.
    const auto place = page.eval(
        "((across, down) => { const e = document.querySelector(" + nlohmann::json(canvas).dump() +
        "), box = e.closest('.scroll'); box.scrollIntoView({block: 'center', behavior: 'instant'});"
        " box.scrollLeft = across * e.clientWidth - box.clientWidth / 2;"
        " const b = e.getBoundingClientRect(); return [b.left + b.width * across, b.top + b.height "
        "* "
        "down]; })(" +
        std::to_string((column + 0.5) / columns) + ", " + std::to_string((row + 0.5) / rows) + ")");
    if (click) page.click(place[0], place[1]);
    else page.hover(place[0], place[1]);
  }
};

// The texts of all elements that a selector finds.
inline std::vector<std::string> texts(Page& page, const std::string& selector) {
  return page.eval("[...document.querySelectorAll(" + nlohmann::json(selector).dump() +
                   ")].map((e) => e.innerText)");
}

// The tokens of a text as pages show them, one after the other: a character that is several tokens has none of its own.
inline std::string shown_tokens(const std::string& text) {
  const auto json = vitrine({"tokenize", "--prompt", text, "--format", "json"}).json();
  std::string all;
  for (const auto& token : json["str_tokens"]) all += token.get<std::string>();
  return all;
}

}  // namespace vitrine::test
