#include "apps/options/csv_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::app {
namespace {

using ::testing::ElementsAre;

TEST(CsvFile, CellsAreBetweenCommas) {
  const CsvTable t = parse_csv("state,capital\nTexas,Austin\n\nOhio,\n", "t.csv");
  EXPECT_THAT(t.columns, ElementsAre("state", "capital"));
  EXPECT_THAT(t.rows, ElementsAre(ElementsAre("Texas", "Austin"), ElementsAre("Ohio", "")));
}

TEST(CsvFile, QuotesHoldCommasQuotesAndLines) {
  const CsvTable t = parse_csv(
      "\xEF\xBB\xBF"
      "a,b\r\n\"x, y\",\"say \"\"no\"\"\nor yes\"\r\n 1 ,2",
      "t.csv");
  EXPECT_THAT(t.columns, ElementsAre("a", "b"));
  EXPECT_THAT(t.rows,
              ElementsAre(ElementsAre("x, y", "say \"no\"\nor yes"), ElementsAre(" 1 ", "2")));
  EXPECT_THAT(parse_csv_line("a,\"b,c\"", "line"), ElementsAre("a", "b,c"));
}

TEST(CsvFile, MistakesAreRefusedByTheirLine) {
  const auto refuses = [](const char* text, const char* why) {
    EXPECT_ERROR(FileError, why, parse_csv(text, "t.csv"));
  };
  refuses("", "t.csv: it is empty");
  refuses("a,b\n", "t.csv: there are no rows");
  refuses("a,a\n1,2\n", "t.csv:1: two columns are called \"a\"");
  refuses("a,\n1,2\n", "t.csv:1: column 2 has no name");
  refuses("a,b\n\"1\n\",2\n3\n", "t.csv:4: 1 cells, but the first line names 2");
  refuses("a,b\n1,2,3\n", "t.csv:2: 3 cells");
  refuses("a\nx\"y\n", "t.csv:2: there is a quote inside the cell");
  refuses("a\n\"x\"y\n", "t.csv:2: something follows the quotes");
  refuses("a\n\"x\n", "t.csv:2: a cell in quotes has no end");
}

TEST(CsvFile, ComesFromAFile) {
  const test::TemporaryFolder folder;
  write_text(folder / "t.csv", "a\n1\n");
  EXPECT_THAT(read_csv(folder / "t.csv").rows, ElementsAre(ElementsAre("1")));
  EXPECT_THROW((void)read_csv(folder / "none.csv"), FileError);
}

}  // namespace
}  // namespace vitrine::app
