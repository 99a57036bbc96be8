// What tests of pages share: a page is made by the program, and opened as a person would.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>

#include "tests/apps/pages/browser.h"
#include "tests/apps/program.h"

namespace vitrine::test {

// Skips where there is no Chromium. The tests have the label browser.
class PageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Browser::installed())
      GTEST_SKIP() << "Chromium is not installed (Debian: apt install chromium)";
    browser.emplace();
  }

  // `vitrine ARGUMENTS --html FILE`, which must work, and its page.
  Page made_by(std::vector<std::string> arguments, bool dark = false) {
    arguments.insert(arguments.end(), {"--html", "page.html"});
    // Files of the test by their names, as somebody would type them who works there.
    const std::string here = folder.path().string() + "/";
    for (std::string& word : arguments)
      if (word.starts_with(here)) word.erase(0, here.size());
    const Outcome outcome =
        vitrine(arguments, {.input = {}, .environment = {}, .folder = folder.path()});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return browser->open(std::filesystem::path(file()), dark);
  }
  std::string file() const { return folder / "page.html"; }

  // What every page must be: without errors and requests, drawn within a second, reached by keyboard, easy to read in
  // light and dark, and at most so many bytes.
  void expect_sound(Page& page, std::uintmax_t most_bytes = 1'000'000) {
    EXPECT_EQ(page.unreachable(), std::vector<std::string>());
    EXPECT_EQ(page.faint_texts(), std::vector<std::string>());
    // Other tests may run at the same time: the best of a few.
    double painted = page.first_paint();
    for (int i = 0; i < 4 && painted >= 1000; ++i)
      painted = std::min(painted, browser->open(std::filesystem::path(file())).first_paint());
    EXPECT_LT(painted, 1000);
    EXPECT_LE(std::filesystem::file_size(file()), most_bytes);
    Page dark = browser->open(std::filesystem::path(file()), true);
    EXPECT_EQ(dark.eval("document.documentElement.dataset.theme"), "dark");
    EXPECT_EQ(dark.faint_texts(), std::vector<std::string>());
    Page narrow = browser->open(std::filesystem::path(file()), false, 380, 800);
    EXPECT_LE(narrow.eval("document.documentElement.scrollWidth").get<int>(), 380)
        << "a phone must not scroll sideways";
    for (Page* one : {&page, &dark, &narrow}) EXPECT_EQ(one->trouble(), "");
    take_pictures("file://" + file());
  }

  // With VITRINE_SCREENSHOTS=FOLDER in the environment, pictures of the first page of each suite are written there, light
  // and dark: those of apps/pages/screenshots are made so. `picture_from` is what they begin with.
  void take_pictures(const std::string& address) {
    const char* to = std::getenv("VITRINE_SCREENSHOTS");
    if (to == nullptr) return;
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->test_suite_name();
    if (name.ends_with("Page")) name.resize(name.size() - 4);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    for (const bool dark : {false, true}) {
      const auto picture = std::filesystem::path(to) / (name + (dark ? "-dark.png" : "-light.png"));
      if (std::filesystem::exists(picture)) continue;
      Page page = browser->open(address, dark, 1000, 760);
      page.wait_for(
          "document.querySelector('" +
          (picture_from.empty() ? "main table, main canvas, main svg, main .bars" : picture_from) +
          "')");
      if (!picture_from.empty()) {
        page.eval("document.querySelector('" + picture_from +
                  "').scrollIntoView(); scrollBy(0, -170)");
      }
      page.screenshot(picture);
    }
  }
  std::string picture_from;

  TemporaryFolder folder;
  std::optional<Browser> browser;
};

// Markup, quotes, emoji and CJK, as a prompt.
inline const std::string kOddPrompt = "</script><b>'\"&amp; 🙂 漢字 is <!-- the capital";

}  // namespace vitrine::test
