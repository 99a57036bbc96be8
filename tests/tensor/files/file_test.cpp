#include "tensor/files/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

void put(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size()};
}

TEST(File, MapsAndReads) {
  const test::TemporaryFolder folder;
  const std::string text("some\0bytes\n", 11);
  put(folder / "a", text);
  MappedFile mapped = map_file(folder / "a");
  EXPECT_EQ(text_of(mapped), text);
  EXPECT_EQ(read_text(folder / "a"), text);
  fs::remove(folder / "a");
  EXPECT_EQ(text_of(mapped), text) << "the mapping outlives the name";

  put(folder / "empty", "");
  EXPECT_TRUE(map_file(folder / "empty").bytes.empty());
  EXPECT_EQ(read_text(folder / "empty"), "");

  const std::string large(3'000'001, 'x');
  put(folder / "large", large);
  EXPECT_EQ(read_text(folder / "large"), large);
}

TEST(File, ReadsPipes) {
  const test::TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string text(200'000, 'p');
  {
    std::thread writer([&] { put(pipe, text); });
    EXPECT_EQ(text_of(map_file(pipe)), text);
    writer.join();
  }
  std::thread reader([&] { EXPECT_EQ(read_text(pipe), text); });
  write_text(pipe, text);
  reader.join();
  EXPECT_THAT(folder.names(), ElementsAre("pipe")) << "the pipe was not replaced";
}

TEST(File, MissingFilesTellWhatIsThere) {
  const test::TemporaryFolder folder;
  const std::string path = folder.path().string();
  EXPECT_EQ(test::message_of<FileError>([&] { map_file(folder / "model.safetensors"); }),
            "cannot open '" + path + "/model.safetensors': the folder '" + path + "' is empty");
  for (const char* name : {"config.json", "merges.txt", "models.safetensors"})
    put(folder / name, "x");
  EXPECT_EQ(test::message_of<FileError>([&] { read_text(folder / "model.safetensors"); }),
            "cannot open '" + path + "/model.safetensors': the folder '" + path +
                "' has no such file; it holds models.safetensors, config.json, merges.txt");
  for (const char* name : {"a", "b", "c", "d"}) put(folder / name, "x");
  EXPECT_THAT(test::message_of<FileError>([&] { map_file(folder / "model.safetensors"); }),
              HasSubstr("it holds models.safetensors, a, b, c, config.json and 2 more"));
  EXPECT_ERROR(FileError, "the folder '" + path + "/no' does not exist",
               map_file(folder / "no" / "x"));
  EXPECT_ERROR(FileError, "'" + path + "/a' is not a folder", map_file(folder / "a" / "x"));
  EXPECT_ERROR(FileError, "it is a folder", map_file(folder.path()));
  EXPECT_ERROR(FileError, "it is a folder", read_text(folder.path()));
}

// While it lives, the process has the rights of an ordinary user even if it was started by the
// superuser.
class OrdinaryUser {
 public:
  OrdinaryUser() { ordinary_ = ::geteuid() != 0 || ::seteuid(kNobody) == 0; }
  ~OrdinaryUser() {
    if (::getuid() == 0 && ::seteuid(0) != 0) std::abort();
  }
  bool ordinary() const { return ordinary_; }

 private:
  static constexpr uid_t kNobody = 65534;
  bool ordinary_;
};

TEST(File, MissingRightsAreReported) {
  const test::TemporaryFolder folder;
  write_text(folder / "a", "old");
  fs::permissions(folder / "a", fs::perms::none);
  fs::permissions(folder.path(), static_cast<fs::perms>(0555));
  const OrdinaryUser user;
  if (!user.ordinary())
    GTEST_SKIP() << "the superuser may do everything and cannot become an ordinary user here";
  EXPECT_ERROR(FileError, "/a': Permission denied", map_file(folder / "a"));
  EXPECT_ERROR(SaveError, "/a': Permission denied; the file that was there is untouched",
               write_text(folder / "a", "x"));
  EXPECT_ERROR(SaveError, "/b': Permission denied; no file was made",
               write_text(folder / "b", "x"));
  EXPECT_THAT(folder.names(), ElementsAre("a"));
}

TEST(File, WritesAndReplaces) {
  const test::TemporaryFolder folder;
  write_text(folder / "a", "first");
  EXPECT_EQ(read_text(folder / "a"), "first");
  ::chmod((folder / "a").c_str(), 0640);
  write_atomically(folder / "a", [](const Sink& sink) {
    for (const char* part : {"se", "co", "nd"}) sink(std::as_bytes(std::span(part, 2)));
    sink({});
  });
  EXPECT_EQ(read_text(folder / "a"), "second");
  EXPECT_EQ(fs::status(folder / "a").permissions(), static_cast<fs::perms>(0640))
      << "permissions are kept";
  EXPECT_THAT(folder.names(), ElementsAre("a"));
  write_text(folder / std::string(250, 'n'), "long names leave room for the temporary one");
  EXPECT_EQ(folder.names().size(), 2u);
}

TEST(File, RelativePathsWork) {
  const test::TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_text("here", "x");
  EXPECT_EQ(read_text("here"), "x");
  EXPECT_ERROR(FileError, "cannot open 'there': the folder '.' has no such file; it holds here",
               read_text("there"));
  fs::current_path(before);
}

TEST(File, ReadersOfTheOldFileKeepIt) {
  const test::TemporaryFolder folder;
  write_text(folder / "a", "old");
  const MappedFile old = map_file(folder / "a");
  write_text(folder / "a", "a new and longer text");
  EXPECT_EQ(text_of(old), "old");
}

TEST(File, SymbolicLinksAreFollowed) {
  const test::TemporaryFolder folder;
  fs::create_directory(folder / "real");
  put(folder / "real" / "file", "old");
  fs::create_symlink("real/file", folder / "link");
  fs::create_symlink("link", folder / "second");
  write_text(folder / "second", "new");
  EXPECT_EQ(read_text(folder / "real" / "file"), "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_TRUE(fs::is_symlink(folder / "second"));

  fs::create_symlink("real/fresh", folder / "dangling");
  write_text(folder / "dangling", "made");
  EXPECT_EQ(read_text(folder / "real" / "fresh"), "made");
  EXPECT_TRUE(fs::is_symlink(folder / "dangling"));

  fs::create_symlink("loop", folder / "loop");
  EXPECT_ERROR(SaveError, "symbolic links", write_text(folder / "loop", "x"));
}

TEST(File, WhatCannotBeWrittenTellsWhy) {
  const test::TemporaryFolder folder;
  const std::string path = folder.path().string();
  EXPECT_EQ(test::message_of<SaveError>([&] { write_text(folder / "no" / "x", "x"); }),
            "cannot write '" + path + "/no/x': the folder '" + path +
                "/no' does not exist; no file was made");
  EXPECT_ERROR(SaveError, "it is a folder", write_text(folder.path(), "x"));
  EXPECT_ERROR(SaveError, "folder", write_text(folder.path() / "new" / "", "x"));
  EXPECT_THAT(folder.names(), ElementsAre());
}

TEST(File, AFullDiskIsReported) {
  if (!fs::is_character_file("/dev/full"))
    GTEST_SKIP() << "there is no /dev/full here to stand for a full disk";
  EXPECT_THAT(test::message_of<SaveError>([] { write_text("/dev/full", "x"); }),
              AllOf(HasSubstr("cannot write '/dev/full'"), HasSubstr("No space left on device")));
  EXPECT_TRUE(fs::is_character_file("/dev/full")) << "the device was not replaced";
  write_text("/dev/null", "x");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

// While it lives, files cannot grow beyond `bytes`: writes fail in the middle, as on a disk that
// fills up.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    signal_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit old_{};
  void (*signal_)(int);
};

TEST(File, AFailureInTheMiddleLeavesTheOldFile) {
  const test::TemporaryFolder folder;
  write_text(folder / "a", "old");
  const std::string large(100'000, 'x');
  const auto failure = [&](const std::string& name) {
    return test::message_of<SaveError>([&] {
      const SizeLimit limit(10'000);
      write_text(folder / name, large);
    });
  };
  EXPECT_THAT(failure("a"), AllOf(HasSubstr("/a': File too large"),
                                  HasSubstr("the file that was there is untouched")));
  EXPECT_THAT(failure("b"), AllOf(HasSubstr("/b': File too large"), HasSubstr("no file was made")));
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_THAT(folder.names(), ElementsAre("a")) << "the temporary file is gone";
  write_text(folder / "a", large);
  EXPECT_EQ(read_text(folder / "a"), large) << "and the same works without the limit";
}

TEST(File, AnExceptionOfTheWriterPassesThrough) {
  const test::TemporaryFolder folder;
  write_text(folder / "a", "old");
  EXPECT_THROW(write_atomically(folder / "a",
                                [](const Sink& sink) {
                                  sink(std::as_bytes(std::span("new", 3)));
                                  throw std::logic_error("changed my mind");
                                }),
               std::logic_error);
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_THAT(folder.names(), ElementsAre("a"));
}

}  // namespace
}  // namespace vitrine
