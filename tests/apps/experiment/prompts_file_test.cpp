// Files of prompts, read by the program: answers, roles, fields, and every mistake by file and line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const char* const kTexas = R"({"prompt": "The capital of Texas is", "answer": " Austin"})";

// What `predict --prompts -` makes of these lines.
json read(const std::string& lines, const Words& more = {}) {
  const Outcome o =
      vitrine(Words{"predict", "--prompts", "-", "--format", "json"} + more, {.input = lines});
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.json();
}
std::string refused(const std::string& line) {
  const Outcome o =
      vitrine({"predict", "--prompts", "-"}, {.input = std::string(kTexas) + "\n\n" + line + "\n"});
  EXPECT_EQ(o.exit, 3) << line;
  EXPECT_EQ(o.out, "") << line;
  EXPECT_THAT(o.err, HasSubstr("stdin:3: ")) << line;
  return o.err;
}

TEST(PromptsFile, TextsAndIds) {
  const json by_text = read(kTexas)["prompts"][0];
  EXPECT_EQ(by_text["str_tokens"], json({"The", " capital", " of", " Texas", " is"}));
  const json ids = {{"prompt_tokens", by_text["tokens"]},
                    {"answer_token", by_text["answers"][0][0]}};
  EXPECT_EQ(read(ids.dump())["prompts"][0], by_text);
  const json clean = {{"clean_tokens", by_text["tokens"]}, {"answer", " Austin"}};
  EXPECT_EQ(read(clean.dump())["prompts"][0], by_text);
  EXPECT_EQ(read(kTexas, {"--prepend-bos"})["prompts"][0]["str_tokens"][0], "<|endoftext|>");
  EXPECT_EQ(read("{\"prompt\": \"The capital of Texas is\"}")["prompts"][0]["answers"],
            json::array());
}

TEST(PromptsFile, SeveralAndLongAnswers) {
  const json several = read(R"({"prompt": "The capital of Texas is", "answer": [" Austin", )"
                            R"(" Dallas"], "wrong": [" Columbus"]})")["prompts"][0];
  EXPECT_EQ(several["answers"].size(), 2u);
  EXPECT_EQ(several["wrongs"].size(), 1u);
  const json text = read(R"({"prompt": "The capital of Texas is", )"
                         R"("answer": " Austin and Dallas"})")["prompts"][0];
  ASSERT_EQ(text["answers"].size(), 1u);
  EXPECT_GT(text["answers"][0].size(), 2u);
  const json ids = {{"prompt_tokens", text["tokens"]}, {"answer_token", text["answers"]}};
  EXPECT_EQ(read(ids.dump())["prompts"][0], text);
  const json two = {{"prompt_tokens", text["tokens"]}, {"answer_token", text["answers"][0]}};
  EXPECT_EQ(read(two.dump())["prompts"][0]["answers"].size(),
            text["answers"][0].size());  // as many answers of one token
}

TEST(PromptsFile, KeysThatAreNearlyKnownAreRefused) {
  const std::string prompt = R"({"prompt": "The capital of Texas is", )";
  for (const auto& [key, meant] : {std::pair("anwser", "answer"),
                                   {"corupt", "corrupt"},
                                   {"wrongs", "wrong"},
                                   {"promt", "prompt"},
                                   {"role", "roles"},
                                   {"answer_tokens", "answer_token"}}) {
    const std::string said = refused(prompt + "\"" + key + "\": \" a\"}");
    EXPECT_THAT(said, HasSubstr("the key \"" + std::string(key) +
                                "\" is not known; expected one "
                                "{\"prompt\": "));
    EXPECT_THAT(said, HasSubstr("did you mean \"" + std::string(meant) + "\"?"));
  }
  for (const char* own : {"order", "subject", "class", "group", "template"})
    read(prompt + "\"" + own + "\": \"x\"}");
}

TEST(PromptsFile, Roles) {
  const auto with = [](const std::string& roles) {
    return R"({"prompt": "The capital of Texas is", "answer": " Austin", "roles": )" + roles + "}";
  };
  for (const char* fine :
       {"{}",
        R"({"subject": " Texas", "end": -1, "first": 0, "phrase": " capital of", "two": [1, 3]})"})
    read(with(fine));
  const std::pair<const char*, const char*> mistakes[] = {
      {"[1]", "\"roles\" must be an object"},
      {R"({"s": " Ohio"})", "the role \"s\": \" Ohio\" does not occur in the prompt"},
      {R"({"s": "a"})", "the role \"s\": \"a\" occurs 3 times; give the position"},
      {R"({"s": "Texas"})", "\"Texas\" does not begin and end where tokens do: \" Texas\""},
      {R"({"s": " capital o"})", "does not begin and end where tokens do: \" capital\" \" of\""},
      {R"({"s": ""})", "the role \"s\" is an empty text"},
      {R"({"s": 5})", "there is no position 5: the prompt has 5 tokens, 0 to 4"},
      {R"({"s": -6})", "there is no position -6"},
      {R"({"s": [1, 6]})", "[1, 6] is not a part of the prompt's 5 tokens"},
      {R"({"s": [2, 2]})", "[2, 2] is not a part"},
      {R"({"s": [1]})", "expected a text that occurs once in the prompt, a position"},
      {R"({"s": 1.5})", "expected a text that occurs once in the prompt, a position"},
      {R"({"s": null})", "expected a text that occurs once in the prompt, a position"},
      {R"({"-1": 2})", "a role cannot be called \"-1\""},
      {R"({"all": 2})", "a role cannot be called \"all\""},
      {R"({"": 2})", "a role cannot be called \"\""}};
  for (const auto& [roles, said] : mistakes) EXPECT_THAT(refused(with(roles)), HasSubstr(said));
  const Outcome ids = vitrine({"predict", "--model", tiny_model(), "--prompts", "-"},
                              {.input = R"({"prompt_tokens": [1, 2], "roles": {"s": "a"}})"});
  EXPECT_THAT(ids.err, HasSubstr("the role \"s\" is text, but this model has no tokenizer"));
}

TEST(PromptsFile, OtherMistakes) {
  const std::string prompt = R"({"prompt": "The capital of Texas is", )";
  const std::pair<std::string, const char*> mistakes[] = {
      {"{\"answer\": \" a\"}", "there is neither \"prompt\" nor \"prompt_tokens\""},
      {prompt + "\"clean\": \"a\"}", "there are both \"clean\" and \"prompt\""},
      {prompt + "\"answer\": [1]}", "\"answer\" must be a string or a list of strings"},
      {prompt + "\"answer\": []}", "\"answer\" is an empty list"},
      {prompt + "\"answer\": \"\"}", "the empty text is not a token"},
      {prompt + "\"answer\": \"Austin\"}", "did you mean \" Austin\", with a leading space?"},
      {prompt + "\"answer_token\": [[]]}", "\"answer_token\" holds an answer without tokens"},
      {prompt + "\"answer_token\": 6000}", "the answer's id 6000 is outside 0 to 5999"},
      {prompt + "\"answer\": \" Austin\", \"wrong\": [\" Ohio\", \" Austin\"]}",
       "are the same token"},
      {prompt + "\"answer_token\": [[1, 2]], \"wrong_token\": [[1, 2]]}", "are the same tokens"},
      {prompt + "\"corrupt\": \"The capital of\"}", "the clean prompt has 5 tokens"},
      {prompt + "\"own\": null}", "\"own\" is \"null\"; a field of your own is a text"},
      {prompt + "\"own\": []}", "\"own\" is \"[]\"; a field of your own is a text"},
      {prompt + "\"own\": {}}", "\"own\" is \"{}\"; a field of your own is a text"},
      {prompt + "\"own\": [\"several tokens\"]}", "\"own\", a list of single tokens: "},
      {prompt + "\"own\": [6000]}", "6000 is outside 0 to 5999"},
      {"{\"prompt_tokens\": []}", "is empty"},
      {"{\"prompt_tokens\": [6000]}", "6000"}};
  for (const auto& [line, said] : mistakes) EXPECT_THAT(refused(line), HasSubstr(said)) << line;
  const Outcome none = vitrine({"predict", "--prompts", "-"}, {.input = "\n"});
  EXPECT_EQ(none.exit, 3);
  EXPECT_THAT(none.err, HasSubstr("stdin: there are no prompts; expected one {\"prompt\": "));
}

TEST(PromptsFile, OptionsThatDoNotGoTogether) {
  const auto refused_by = [](const Words& options, const char* said) {
    const Outcome o = vitrine(Words{"predict"} + options);
    EXPECT_EQ(o.exit, 2) << said;
    EXPECT_THAT(o.err, HasSubstr(said));
  };
  refused_by({"--prompts", "x", "--pairs", "y"}, "give --prompts or --pairs, not both");
  refused_by({"--prompts", "x", "--prompt", "y"}, "give --prompts or --prompt, not both");
  refused_by({"--pairs", "x", "--tokens", "1"}, "give --pairs or --tokens, not both");
  refused_by({"--prompt", "x", "--each"}, "--each is about the prompts of a file; give --prompts");
  refused_by({"--prompt", "x", "--group-by", "y"}, "--group-by is about the prompts of a file");
  refused_by({"--prompt", "x", "--metric", "rank"}, "--metric is about the prompts of a file");
  refused_by({"--prompts", "x", "--top", "3"}, "--top is about one prompt");
}

}  // namespace
}  // namespace vitrine::test
