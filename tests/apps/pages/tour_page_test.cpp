// The page of `tour`.
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using TourPage = PageTest;

TEST_F(TourPage, TellsEachStepWithItsPictureAndCommands) {
  Page page = made_by({"tour"});
  EXPECT_EQ(page.count("section"), 12);
  EXPECT_EQ(page.count("nav a"), 12);
  EXPECT_EQ(page.count(".claim.denied"), 0);
  EXPECT_NE(page.text("#step-1 .bars").find("Paris"), std::string::npos);
  page.hover("#step-2 circle:last-of-type");
  EXPECT_NE(page.tip().find("layer 5"), std::string::npos);
  EXPECT_NE(page.tip().find("Paris"), std::string::npos);
  EXPECT_EQ(page.count("#step-4 .panel"), 3);
  // The numbers and the commands are there on a click.
  EXPECT_EQ(page.eval("document.querySelector('#step-6 details:last-of-type').open"), false);
  page.click("#step-6 details:last-of-type summary");
  EXPECT_NE(page.text("#step-6 details:last-of-type .command").find("vitrine patch --clean"),
            std::string::npos);
  page.click("nav li:nth-of-type(12) a");
  page.wait_for("scrollY > 0");
  EXPECT_NE(page.text("#step-12").find("off by one is found"), std::string::npos);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test
