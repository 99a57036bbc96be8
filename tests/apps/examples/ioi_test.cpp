// The IOI example, from beginning to end, against what TransformerLens computes
// (tests/interp/ioi_with_transformer_lens.py wrote tests/data/ioi/golden.safetensors).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

// A tensor of one of the example's files; of a matrix the first columns, where the golden one has
// fewer.
Tensor of_example(const std::filesystem::path& folder, const std::string& name,
                  const Shape& wanted) {
  const std::size_t slash = name.find('/');
  const auto file = SafeTensors::open(folder / (name.substr(0, slash) + ".safetensors"));
  Tensor found = file.at(name.substr(slash + 1));
  if (wanted.size() == 2 && found.dim(1) > wanted[1]) found = found.slice(1, 0, wanted[1]);
  return found.contiguous();
}

TEST(Examples, IoiInTenCommandsAsTransformerLensComputesIt) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "ioi-example";
  std::filesystem::remove_all(folder);
  const auto root = data().parent_path().parent_path();
  const Outcome o = shell("VITRINE='" VITRINE_PROGRAM "' bash '" + root.string() +
                          "/apps/examples/ioi.sh' --out '" + folder.string() + "'");
  ASSERT_EQ(o.exit, 0) << o.err;
  std::size_t commands = 0;
  for (std::size_t at = o.out.find("\n$ vitrine "); at != o.out.npos;
       at = o.out.find("\n$ vitrine ", at + 1))
    ++commands;
  EXPECT_EQ(commands, 10u);
  EXPECT_THAT(o.out, HasSubstr("100.0%"));  // the model names the indirect object
  const auto golden = SafeTensors::open(data() / "ioi" / "golden.safetensors");
  ASSERT_GT(golden.names().size(), 30u);
  for (const std::string& name : golden.names()) {
    const Tensor theirs = golden.at(name);
    expect_close(of_example(folder, name, theirs.shape()), theirs, 1e-4, name);
  }
}

TEST(Examples, IoiSaysWhatItTakes) {
  const auto root = data().parent_path().parent_path();
  const std::string script = "bash '" + root.string() + "/apps/examples/ioi.sh' ";
  EXPECT_THAT(shell(script + "--help").out, HasSubstr("--model smollm2"));
  const Outcome o = shell(script + "--modle x");
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("unknown argument '--modle'"));
}

}  // namespace
}  // namespace vitrine::test
