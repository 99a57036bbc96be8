#include "tests/apps/pages/browser.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path chromium() {
  for (const char* name :
       {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"})
    if (fs::exists(name)) return name;
  return {};
}

std::string quoted(const std::string& text) { return json(text).dump(); }

std::string from_base64(const std::string& text) {
  std::string bytes;
  unsigned held = 0, bits = 0;
  for (const char c : text) {
    const std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto digit = digits.find(c);
    if (digit == std::string_view::npos) break;
    held = held << 6 | static_cast<unsigned>(digit);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(held >> bits & 0xff);
  }
  return bytes;
}

}  // namespace

bool Browser::installed() { return !chromium().empty(); }

// ---- the process --------------------------------------------------------------------------------
// Chromium reads commands from file 3 and writes answers to file 4, each ended by a zero byte.
Browser::Browser() {
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0)
    throw std::runtime_error("cannot make a pipe");
  std::vector<std::string> command = {chromium(),
                                      "--headless=new",
                                      "--remote-debugging-pipe",
                                      "--no-sandbox",
                                      "--disable-gpu",
                                      "--disable-dev-shm-usage",
                                      "--no-first-run",
                                      "--disable-background-networking",
                                      "--disable-component-update",
                                      "--hide-scrollbars",
                                      "--force-color-profile=srgb",
                                      "--user-data-dir=" + profile_.path().string()};
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  // The ends may be 3 or 4 themselves: first out of the way.
  ::posix_spawn_file_actions_adddup2(&actions, in[0], 103);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 104);
  ::posix_spawn_file_actions_adddup2(&actions, 103, 3);
  ::posix_spawn_file_actions_adddup2(&actions, 104, 4);
  ::posix_spawn_file_actions_addclose(&actions, 103);
  ::posix_spawn_file_actions_addclose(&actions, 104);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  // A group of its own: all its processes are ended together.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  const int error = ::posix_spawn(&pid_, words[0], &actions, &attributes, words.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  if (error != 0) throw std::runtime_error("cannot start Chromium");
}

Browser::~Browser() {
  if (pid_ > 0) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(to_);
  ::close(from_);
}

json Browser::read() {
  for (;;) {
    if (const auto end = unread_.find('\0'); end != std::string::npos) {
      json message = json::parse(unread_.substr(0, end));
      unread_.erase(0, end + 1);
      return message;
    }
    pollfd waits{from_, POLLIN, 0};
    if (::poll(&waits, 1, 60'000) == 0)
      throw std::runtime_error("Chromium has not answered for a minute");
    std::array<char, 65536> buffer;
    const ssize_t got = ::read(from_, buffer.data(), buffer.size());
    if (got <= 0) throw std::runtime_error("Chromium has ended");
    unread_.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

json Browser::ask(const std::string& method, const json& parameters, const std::string& session) {
  json command = {{"id", ++count_}, {"method", method}, {"params", parameters}};
  if (!session.empty()) command["sessionId"] = session;
  std::string text = command.dump();
  text += '\0';
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(to_, text.data() + done, text.size() - done);
    if (wrote <= 0) throw std::runtime_error("Chromium takes no commands");
    done += static_cast<std::size_t>(wrote);
  }
  for (;;) {
    json message = read();
    if (message.value("id", -1) != count_) {
      events_.push_back(std::move(message));
      continue;
    }
    if (message.contains("error"))
      throw std::runtime_error(method + ": " + message["error"].dump());
    return message["result"];
  }
}

Page Browser::open(const fs::path& file, bool dark, int width, int height) {
  return open("file://" + fs::absolute(file).string(), dark, width, height);
}

Page Browser::open(const std::string& address, bool dark, int width, int height) {
  const std::string target = ask("Target.createTarget", {{"url", "about:blank"}})["targetId"];
  const std::string session =
      ask("Target.attachToTarget", {{"targetId", target}, {"flatten", true}})["sessionId"];
  Page page(*this, session, address);
  for (const char* domain : {"Page.enable", "Runtime.enable", "Log.enable", "Network.enable"})
    page.ask(domain);
  page.ask("Emulation.setDeviceMetricsOverride",
           {{"width", width}, {"height", height}, {"deviceScaleFactor", 1}, {"mobile", false}});
  page.ask("Emulation.setEmulatedMedia",
           {{"features",
             {{{"name", "prefers-color-scheme"}, {"value", dark ? "dark" : "light"}},
              {{"name", "prefers-reduced-motion"}, {"value", "reduce"}}}}});
  page.ask("Page.navigate", {{"url", address}});
  page.wait_for("document.readyState === 'complete' && document.querySelector('main') !== null");
  return page;
}

// ---- a page -------------------------------------------------------------------------------------
json Page::ask(const std::string& method, const json& parameters) {
  return browser_.ask(method, parameters, session_);
}

json Page::eval(const std::string& expression) {
  const json answer =
      ask("Runtime.evaluate",
          {{"expression", expression}, {"returnByValue", true}, {"awaitPromise", true}});
  if (answer.contains("exceptionDetails")) {
    ADD_FAILURE() << expression << ": " << answer["exceptionDetails"].dump();
    return nullptr;
  }
  return answer["result"].value("value", json());
}

void Page::wait_for(const std::string& expression) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (eval("!!(" + expression + ")") != true) {
    if (std::chrono::steady_clock::now() > end) {
      ADD_FAILURE() << "not so after 5 seconds: " << expression;
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

bool Page::has(const std::string& selector) { return count(selector) > 0; }

int Page::count(const std::string& selector) {
  return eval("document.querySelectorAll(" + quoted(selector) + ").length").get<int>();
}

std::string Page::text(const std::string& selector) {
  const json text = eval("document.querySelector(" + quoted(selector) + ")?.innerText");
  EXPECT_TRUE(text.is_string()) << "there is no " << selector;
  return text.is_string() ? text.get<std::string>() : "";
}

std::string Page::tip() { return text("#tip"); }

std::pair<double, double> Page::middle_of(const std::string& selector) {
  const json place = eval("(() => { const e = document.querySelector(" + quoted(selector) +
                          "); if (!e) return null; e.scrollIntoView({block: 'center', inline: "
                          "'center', behavior: 'instant'});"
                          " const b = e.getBoundingClientRect(); return [b.left + b.width / 2, "
                          "b.top + b.height / 2]; })()");
  if (place.is_null()) {
    ADD_FAILURE() << "there is no " << selector;
    return {0, 0};
  }
  return {place[0], place[1]};
}

void Page::hover(double x, double y) {
  ask("Input.dispatchMouseEvent", {{"type", "mouseMoved"}, {"x", x}, {"y", y}});
}

void Page::click(double x, double y) {
  hover(x, y);
  for (const char* type : {"mousePressed", "mouseReleased"})
    ask("Input.dispatchMouseEvent",
        {{"type", type}, {"x", x}, {"y", y}, {"button", "left"}, {"clickCount", 1}});
}

void Page::hover(const std::string& selector) {
  const auto [x, y] = middle_of(selector);
  hover(x, y);
}

void Page::click(const std::string& selector) {
  const auto [x, y] = middle_of(selector);
  click(x, y);
}

void Page::press(const std::string& key) {
  static const std::map<std::string, int> kCodes = {
      {"Tab", 9},   {"Enter", 13},     {"Escape", 27},  {" ", 32},          {"End", 35},
      {"Home", 36}, {"ArrowLeft", 37}, {"ArrowUp", 38}, {"ArrowRight", 39}, {"ArrowDown", 40}};
  const auto code = kCodes.find(key);
  json event = {{"key", key}, {"code", key == " " ? "Space" : key}};
  if (code != kCodes.end()) event["windowsVirtualKeyCode"] = code->second;
  if (key == "Enter") event["text"] = "\r";
  if (key == " ") event["text"] = " ";
  event["type"] = event.contains("text") ? "keyDown" : "rawKeyDown";
  ask("Input.dispatchKeyEvent", event);
  event["type"] = "keyUp";
  event.erase("text");
  ask("Input.dispatchKeyEvent", event);
}

void Page::type(const std::string& text) { ask("Input.insertText", {{"text", text}}); }

std::vector<std::string> Page::unreachable() {
  eval(R"((() => {
    window.seen = new Set();
    document.activeElement?.blur();
    document.addEventListener("focusin", (event) => window.seen.add(event.target));
  })())");
  // Tab goes on from what was clicked last: to the end of the page, and then over all of it.
  const int most = 2 * eval("document.querySelectorAll('*').length").get<int>();
  for (int i = 0, ends = 0; i < most && ends < 2; ++i) {
    press("Tab");
    if (i > 0 && eval("document.activeElement === document.body") == true) ++ends;
  }
  // Of a group that arrow keys move in, one element is reached with Tab, the others by its keys.
  return eval(R"((() => {
    const pressed = [...document.querySelectorAll("button, select, input, summary, a[href], [tabindex]")];
    const grouped = (e) => e.tabIndex < 0 && e.parentElement.querySelector("[tabindex='0']");
    return pressed.filter((e) => e.checkVisibility() && !e.disabled && !window.seen.has(e) && !grouped(e))
                  .map((e) => e.outerHTML.slice(0, 120));
  })())")
      .get<std::vector<std::string>>();
}

std::vector<std::string> Page::faint_texts() {
  return eval(R"((() => {
    const numbers = (colour) => { const c = colour.match(/[\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
    const light = (c) => c.slice(0, 3).map((x) => (x / 255 <= 0.03928 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4))
                          .reduce((sum, x, k) => sum + x * [0.2126, 0.7152, 0.0722][k], 0);
    const ground = (element) => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) {
        const c = numbers(getComputedStyle(e).backgroundColor);
        if (c[3] > 0) layers.push(c);
        if (c[3] === 1) break;
      }
      return layers.reverse().reduce((under, c) => under.map((x, k) => x + (c[k] - x) * c[3]), [255, 255, 255]);
    };
    const faint = [];
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
      const box = element.getBoundingClientRect();
      if (!text || !box.width || getComputedStyle(element).visibility === "hidden") continue;
      const style = getComputedStyle(element), drawn = element instanceof SVGElement;
      const ink = numbers(drawn ? style.fill : style.color);
      const inBox = drawn && element.previousElementSibling?.tagName === "rect" ? numbers(getComputedStyle(element.previousElementSibling).fill) : null;
      const [a, b] = [light(ink), light(inBox ?? ground(element))].sort((x, y) => y - x);
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
      const contrast = (a + 0.05) / (b + 0.05);
      if (contrast < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
  })())")
      .get<std::vector<std::string>>();
}

std::string Page::trouble() {
  eval("0");  // what has happened until now has been read
  std::string lines;
  const auto note = [&](const std::string& what) { lines += what + "\n"; };
  for (const json& event : browser_.events_) {
    if (event.value("sessionId", "") != session_) continue;
    const std::string method = event.value("method", "");
    const json& about = event["params"];
    if (method == "Runtime.exceptionThrown") note(about["exceptionDetails"].dump());
    if (method == "Runtime.consoleAPICalled" &&
        (about["type"] == "error" || about["type"] == "warning"))
      note(about["args"].dump());
    if (method == "Log.entryAdded" &&
        (about["entry"]["level"] == "error" || about["entry"]["level"] == "warning"))
      note(about["entry"]["text"].get<std::string>());
    if (method != "Network.requestWillBeSent") continue;
    const std::string url = about["request"]["url"];
    if (!url.starts_with("data:") && !url.starts_with(address_)) note("a request: " + url);
  }
  return lines;
}

double Page::first_paint() {
  wait_for("performance.getEntriesByName('first-contentful-paint').length");
  return eval("performance.getEntriesByName('first-contentful-paint')[0].startTime").get<double>();
}

void Page::screenshot(const fs::path& file) {
  const json seen = eval("[scrollX, scrollY, innerWidth, innerHeight]");
  const json clip = {
      {"x", seen[0]}, {"y", seen[1]}, {"width", seen[2]}, {"height", seen[3]}, {"scale", 0.75}};
  const json shot = ask("Page.captureScreenshot", {{"format", "png"}, {"clip", clip}});
  std::ofstream(file, std::ios::binary) << from_base64(shot["data"]);
}

}  // namespace vitrine::test
