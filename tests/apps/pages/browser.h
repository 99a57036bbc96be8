// Chromium without a window, driven as a person would: pointer, keys, and what is then on the screen. It is spoken to over
// two pipes in the DevTools protocol.
//
//   Browser browser;                        // skips the test, saying so, where there is no Chromium
//   Page page = browser.open("file:///tmp/page.html");
//   page.click(".token[data-position='3']");
//   EXPECT_EQ(page.text("h2"), "Layer 1, head 0");
//   EXPECT_EQ(page.trouble(), "");          // no error on the console, no request
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {

class Page;

class Browser {
 public:
  static bool installed();

  Browser();  // throws std::runtime_error when Chromium does not start
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  // A new tab, once what it shows has been drawn. `dark`: of a person who prefers dark pages.
  Page open(const std::string& address, bool dark = false, int width = 1200, int height = 900);
  Page open(const std::filesystem::path& file, bool dark = false, int width = 1200,
            int height = 900);

 private:
  friend class Page;
  // Sends a command and gives its result; what happens meanwhile is kept in events_.
  nlohmann::json ask(const std::string& method, const nlohmann::json& parameters,
                     const std::string& session = {});
  nlohmann::json read();  // the next message

  TemporaryFolder profile_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  int count_ = 0;
  std::string unread_;
  std::deque<nlohmann::json> events_;
};

class Page {
 public:
  // The value of an expression of JavaScript; a test failure when it throws.
  nlohmann::json eval(const std::string& expression);
  // Waits until an expression is true, 5 seconds at most; a test failure when it stays false.
  void wait_for(const std::string& expression);

  bool has(const std::string& selector);
  int count(const std::string& selector);
  std::string text(const std::string& selector);  // what is seen of the first such element
  std::string tip();                              // of the tip that is shown

  void hover(
      const std::string& selector);  // the pointer, onto the middle of the first such element
  void hover(double x, double y);    // in pixels of the page that is seen
  void click(const std::string& selector);
  void click(double x, double y);
  void press(const std::string& key);  // "Tab", "Enter", "ArrowLeft", " ", ...
  void type(const std::string& text);  // into what has the focus

  // Goes over the page with Tab; everything that can be pressed must have had the focus. Returns what had not.
  std::vector<std::string> unreachable();
  // Texts whose contrast with their ground is below that of WCAG AA: 4.5, of large texts 3.
  std::vector<std::string> faint_texts();
  // What went wrong since the page was opened, a line each: errors on the console, exceptions, and requests for anything
  // but the page itself; "" when nothing did.
  std::string trouble();
  // When something was first drawn, in milliseconds after the page was opened.
  double first_paint();
  // Writes a .png of what is seen, three quarters as large.
  void screenshot(const std::filesystem::path& file);

 private:
  friend class Browser;
  Page(Browser& browser, std::string session, std::string address)
      : browser_(browser), session_(std::move(session)), address_(std::move(address)) {}
  nlohmann::json ask(const std::string& method,
                     const nlohmann::json& parameters = nlohmann::json::object());
  std::pair<double, double> middle_of(const std::string& selector);

  Browser& browser_;
  std::string session_, address_;
};

}  // namespace vitrine::test
