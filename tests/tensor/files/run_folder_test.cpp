// Tests tensor/files/run_folder.h: nobody else's files are touched.
#include "tensor/files/run_folder.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(RunFolder, TellsWhatAKillLeaves) {
  EXPECT_TRUE(is_left_over("a.json.tmp.12-0123abcd", {"b", "a.json"}));
  for (const char* name :
       {"a.json", "a.json.tmp.12-0123abc", "a.json.tmp.12-0123abcx", "a.json.tmp.x-0123abcd",
        "a.json.tmp.-0123abcd", "c.json.tmp.12-0123abcd", "a.json.tmp.120123abcd"})
    EXPECT_FALSE(is_left_over(name, {"b", "a.json"})) << name;
}

TEST(RunFolder, RemovesWhatAKillLeft) {
  const test::TemporaryFolder folder;
  for (const char* name :
       {"log.jsonl", "log.jsonl.tmp.1-00000000", "mine.tmp.1-00000000", "vitrine-buffer"})
    write_text(folder / name, "x");
  const RunFolder run(folder.path(), {"log.jsonl"});
  EXPECT_TRUE(fs::exists(folder / "log.jsonl"));
  EXPECT_TRUE(fs::exists(folder / "mine.tmp.1-00000000"));
  EXPECT_FALSE(fs::exists(folder / "log.jsonl.tmp.1-00000000"));
  EXPECT_FALSE(fs::exists(folder / "vitrine-buffer"));

  for (const char* name : {"a", "b"}) {
    fs::create_directories(folder / name);
    write_text(folder / name / "cfg.json.tmp.1-00000000", "x");
  }
  write_text(folder / "b" / "vitrine-lock", "");  // another run's
  for (const char* name : {"a", "b", "absent"}) remove_left_overs(folder / name, {"cfg.json"});
  EXPECT_FALSE(fs::exists(folder / "a/cfg.json.tmp.1-00000000"));
  EXPECT_TRUE(fs::exists(folder / "b/cfg.json.tmp.1-00000000"));
}

TEST(RunFolder, RefusesLinks) {
  const test::TemporaryFolder folder, elsewhere;
  write_text(elsewhere / "log", "theirs");
  for (const char* name : {"log.jsonl", "vitrine-data", "vitrine-lock"}) {
    fs::create_symlink(elsewhere / "log", folder / name);
    EXPECT_THAT(message_of<FileError>([&] { RunFolder(folder.path(), {"log.jsonl"}); }),
                AllOf(HasSubstr(name), HasSubstr("is a symbolic link")));
    EXPECT_EQ(read_text(elsewhere / "log"), "theirs");
    fs::remove(folder / name);
  }
  EXPECT_FALSE(fs::exists(folder / "vitrine-lock"));
  fs::create_symlink(elsewhere / "absent", folder / "log.jsonl");
  EXPECT_ERROR(FileError, "is a symbolic link", RunFolder(folder.path(), {"log.jsonl"}));
  fs::remove(folder / "log.jsonl");
  ASSERT_EQ(::mkfifo((folder / "log.jsonl").c_str(), 0600), 0);
  EXPECT_ERROR(FileError, "log.jsonl' is no ordinary file",
               RunFolder(folder.path(), {"log.jsonl"}));
  fs::remove(folder / "log.jsonl");
  fs::create_symlink(elsewhere / "log", folder / "another");  // no name of the run's
  EXPECT_NO_THROW(RunFolder(folder.path(), {"log.jsonl"}));
  fs::create_directory_symlink(folder.path(), elsewhere / "run");  // the folder itself may be one
  EXPECT_NO_THROW(RunFolder(elsewhere / "run", {"log.jsonl"}));
}

TEST(RunFolder, FindsLinksOnTheWay) {
  const test::TemporaryFolder folder, elsewhere;
  fs::create_directories(folder / "a/b");
  fs::create_directories(elsewhere / "b");
  EXPECT_NO_THROW(require_no_link(folder.path(), "a/b/cfg.json"));
  fs::create_directory_symlink(elsewhere.path(), folder / "c");
  EXPECT_ERROR(FileError, "c' is a symbolic link", require_no_link(folder.path(), "c/b/cfg.json"));
}

}  // namespace
}  // namespace vitrine
