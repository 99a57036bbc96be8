// The order of folders and of the rooms in them: no include runs from an earlier one to a later one.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;

const fs::path kRoot = VITRINE_ROOT;

// In the order in which data flows. "tensor" is what lies in the folder itself.
const std::vector<std::string> kRooms = {"tensor",
                                         "tensor/files",
                                         "tensor/torch",
                                         "tensor/simd",
                                         "tensor/gemm",
                                         "tensor/kernels",
                                         "tensor/linalg",
                                         "tensor/machine",
                                         "autograd/graph",
                                         "autograd/ops",
                                         "autograd/transform",
                                         "autograd/compile",
                                         "autograd/sweep",
                                         "autograd/edges",
                                         "autograd/diagnose",
                                         "nn/splitting",
                                         "nn/tokenizer",
                                         "nn/families",
                                         "nn/model",
                                         "nn/text",
                                         "nn/training",
                                         "interp/data",
                                         "interp",
                                         "interp/circuits",
                                         "sae",
                                         "sae/features",
                                         "sae/graphs",
                                         "apps/terminal",
                                         "apps/pages",
                                         "apps/options",
                                         "apps/experiment",
                                         "apps/prompt_sets",
                                         "apps/reports",
                                         "apps/drawings",
                                         "apps/live",
                                         "apps/verbs",
                                         "apps/verbs/sae",
                                         "apps/graphs",
                                         "apps/explain",
                                         "apps/tour",
                                         "apps/lessons",
                                         "apps/lessons/exercises",
                                         "apps/lessons/exercises/solutions",
                                         "apps",
                                         "apps/python"};

bool is_source(const fs::path& p) { return p.extension() == ".h" || p.extension() == ".cpp"; }

std::vector<fs::path> sources() {  // relative to the root
  std::vector<fs::path> found;
  for (const char* folder : {"tensor", "autograd", "nn", "interp", "sae", "apps"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.is_regular_file() && is_source(entry.path()))
        found.push_back(fs::relative(entry.path(), kRoot));
    }
  }
  return found;
}

std::vector<std::string> includes_of(const fs::path& file) {
  static const std::regex kInclude("^#include \"([^\"]+)\"");
  std::vector<std::string> found;
  std::ifstream in(kRoot / file);
  for (std::string line; std::getline(in, line);) {
    std::smatch m;
    if (std::regex_search(line, m, kInclude)) found.push_back(m[1]);
  }
  return found;
}

// The place of a file's room in the order; kRooms.size() when it is in none.
std::size_t place(const fs::path& file) {
  const auto at = std::find(kRooms.begin(), kRooms.end(), file.parent_path().generic_string());
  return static_cast<std::size_t>(at - kRooms.begin());
}

TEST(Rooms, EveryFileIsInOne) {
  std::vector<std::string> outside;
  for (const fs::path& file : sources())
    if (place(file) == kRooms.size()) outside.push_back(file.generic_string());
  EXPECT_THAT(outside, IsEmpty());
}

TEST(Rooms, NoIncludeRunsToALaterOne) {
  std::vector<std::string> backwards;
  for (const fs::path& file : sources()) {
    for (const std::string& include : includes_of(file)) {
      if (!fs::exists(kRoot / include)) continue;  // another library's
      const bool siblings = file.begin()->string() == "sae" && include.rfind("interp/", 0) == 0;
      if (siblings || place(include) > place(file))
        backwards.push_back(file.generic_string() + " includes " + include);
    }
  }
  EXPECT_THAT(backwards, IsEmpty());
}

// A type has a name of its own: of two that are called Trainer a reader cannot tell which is meant, and
// where both are in scope the compiler cannot either. What lies in a class, or in a .cpp file, is its
// own affair.
TEST(Rooms, DeclareNoTypeOfTheSameNameTwice) {
  static const std::regex kType(
      R"(^(?:template <.*> )?(?:class|struct|union|enum|enum class|using) (\w+)( final)?( :.*| =.*| \{.*)$)");
  std::map<std::string, std::set<std::string>> headers;  // of each name
  for (const fs::path& file : sources()) {
    if (file.extension() != ".h") continue;
    std::ifstream in(kRoot / file);
    for (std::string line; std::getline(in, line);) {
      std::smatch m;  // namespaces are not indented, classes are
      if (std::regex_match(line, m, kType)) headers[m[1]].insert(file.generic_string());
    }
  }
  EXPECT_GT(headers.size(), 200U);  // they are found at all
  std::vector<std::string> twice;
  for (const auto& [name, where] : headers) {
    if (where.size() == 1) continue;
    std::string line = name + " in";
    for (const std::string& file : where) line += " " + file;
    twice.push_back(line);
  }
  EXPECT_THAT(twice, IsEmpty());
}

// What a library says is in its own terms: a program may have other options, or none.
TEST(Rooms, LibrariesNameNoOptionOfTheProgram) {
  static const std::regex kOption("\"[^\"]*(--[a-z]|'vitrine )");
  std::vector<std::string> named;
  for (const fs::path& file : sources()) {
    if (file.begin()->string() == "apps") continue;
    std::ifstream in(kRoot / file);
    for (std::string line; std::getline(in, line);) {
      const bool folder_of_the_hub = line.find("\"models--") != std::string::npos;
      if (!folder_of_the_hub && std::regex_search(line.substr(0, line.find("//")), kOption))
        named.push_back(file.generic_string() + ": " + line);
    }
  }
  EXPECT_THAT(named, IsEmpty());
}

// interp and sae are flat until they pass 40 files; a room has 3 to 25.
TEST(Rooms, AreNeitherFullNorEmpty) {
  std::map<std::string, int> files;
  for (const fs::path& file : sources()) ++files[file.parent_path().generic_string()];
  for (const auto& [room, count] : files) {
    const bool flat = room == "interp" || room == "sae";
    EXPECT_LE(count, flat ? 40 : 25) << room;
    EXPECT_GE(count, room == "apps" ? 1 : 3) << room;
  }
}

// Each folder's README has its rooms, in this order.
TEST(Rooms, AreInTheReadmesInOrder) {
  for (const char* folder : {"tensor", "autograd", "nn", "apps"}) {
    std::ifstream in(kRoot / folder / "README.md");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    std::size_t before = 0;
    for (const std::string& room : kRooms) {
      if (room.rfind(std::string(folder) + "/", 0) != 0) continue;
      const std::string name = "`" + room.substr(room.find('/') + 1) + "/`";
      const std::size_t at = text.find(name);
      EXPECT_NE(at, std::string::npos) << folder << "/README.md does not name " << name;
      EXPECT_GE(at, before) << name << " in " << folder << "/README.md";
      before = at;
    }
  }
}

// The scripts of a page are one script: a name that two of them declared would be the later one in both.
TEST(Rooms, ScriptsOfPagesDeclareNoNameTwice) {
  const std::regex declared(R"(^(?:async )?(?:function|const|let|class) (\w+))");
  std::map<std::string, std::string> first;
  std::vector<std::string> twice;
  for (const char* room : {"parts", "views"}) {
    for (const auto& entry : fs::directory_iterator(kRoot / "apps/pages" / room)) {
      std::ifstream in(entry.path());
      std::smatch match;
      for (std::string line; std::getline(in, line);) {
        if (!std::regex_search(line, match, declared)) continue;
        const std::string file = entry.path().filename().string();
        const auto [at, is_new] = first.try_emplace(match[1], file);
        if (!is_new) twice.push_back(match[1].str() + " in " + at->second + " and " + file);
      }
    }
  }
  EXPECT_GT(first.size(), 30U);
  EXPECT_THAT(twice, IsEmpty());
}

}  // namespace
}  // namespace vitrine
