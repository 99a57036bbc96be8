#include "apps/pages/page_texts.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace vitrine::app {

PageTexts::PageTexts(std::span<const nn::Peak> peaks, std::span<const nn::Window> windows) {
  std::vector<std::size_t> order(peaks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto first = [&](std::size_t i) { return peaks[i].position - windows[i].peak; };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(peaks[a].line, first(a)) < std::tuple(peaks[b].line, first(b));
  });
  for (const std::size_t i : order) {
    const nn::Tokens& tokens = windows[i].tokens;
    const bool joins =
        !texts_.empty() && texts_.back().line == peaks[i].line && texts_.back().end() >= first(i);
    if (!joins) texts_.push_back({peaks[i].line, first(i), {}});
    Text& text = texts_.back();
    const auto known = std::min<std::ptrdiff_t>(text.end() - first(i), std::ssize(tokens));
    text.tokens.insert(text.tokens.end(), tokens.begin() + known, tokens.end());
  }
}

std::int64_t PageTexts::text_of(const nn::Peak& peak) const {
  const auto after =
      std::upper_bound(texts_.begin(), texts_.end(), peak, [](const nn::Peak& p, const Text& t) {
        return std::tuple(p.line, p.position) < std::tuple(t.line, t.first);
      });
  return after - texts_.begin() - 1;
}

Json PageTexts::json() const {
  Json list = Json::list();
  for (const Text& text : texts_) {
    Json one = {text.line, text.first};
    for (const int id : text.tokens) one.push_back(id);
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace vitrine::app
