// Everything has its entry: ops, the sites of all families, the glossary, verbs, lessons.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "apps/explain/glossary.h"
#include "apps/explain/notes.h"
#include "apps/explain/topics.h"
#include "apps/verbs/verbs.h"
#include "autograd/ops/op_table.h"
#include "nn/families/architecture.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::IsEmpty;

const fs::path kRoot = VITRINE_ROOT;

std::string text_at(std::string_view file) { return read_text((kRoot / file).string()); }

// ---- ops ------------------------------------------------------------------------------------------
TEST(Entries, EveryOpIsFoundInTheSources) {
  for (const OpDef* op : all_ops()) {
    std::vector<std::string> files;
    for (const Defined& row : ops_in_sources()) {
      if (row.name == op->name) files.emplace_back(row.file);
    }
    ASSERT_EQ(files.size(), 1u) << op->name;
    EXPECT_NE(text_at(files[0]).find("\"" + std::string(op->name) + "\""), std::string::npos);
    EXPECT_TRUE(knows_op_file(files[0]))
        << files[0] << ": say in apps/explain/topics.cpp what its ops are about";
    EXPECT_NE(op->doc, "") << op->name;
  }
  EXPECT_EQ(ops_in_sources().size(), all_ops().size());
}

// ---- sites ----------------------------------------------------------------------------------------
// A small model of each type that families read, with all that they may have.
std::vector<Graph> graphs_of_all_families() {
  std::vector<Graph> graphs;
  for (const nn::Architecture* family : nn::architectures()) {
    for (const std::string_view type : family->model_types) {
      const std::string json =
          type == "gpt2"
              ? R"({"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 32, "vocab_size": 20})"
              : R"({"model_type": ")" + std::string(type) +
                    R"(", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "head_dim": 8, "vocab_size": 20,
                    "max_position_embeddings": 32})";
      const nn::Config config = nn::parse_config(json, std::string(type) + "/config.json");
      graphs.push_back(nn::build_model(config, {.rows = 3, .sequences = 1, .positions = 3}));
    }
  }
  return graphs;
}

TEST(Entries, EverySiteOfEveryFamilyIsExplained) {
  std::set<std::string> missing;
  std::set<std::string_view> used;
  for (const Graph& graph : graphs_of_all_families()) {
    for (const std::string& name : graph.site_names()) {
      const SiteNote* note = find_site_note(name);
      if (note == nullptr) missing.insert(name);
      else used.insert(note->inside);
    }
  }
  EXPECT_THAT(missing, IsEmpty()) << "add them to apps/explain/notes.cpp";
  for (const SiteNote& note : site_notes()) {
    const bool of_sae = note.inside.starts_with("hook_sae_");
    EXPECT_TRUE(of_sae || used.contains(note.inside)) << note.inside << " is a site of no model";
  }
}

TEST(Entries, ConstructorsOfSitesAreThoseOfTheHeader) {
  const std::string header = text_at("nn/families/sites.h");
  for (const SiteNote& note : site_notes()) {
    if (note.code.empty()) continue;
    const std::string name(note.code.substr(6, note.code.find('(') - 6));  // of site::NAME(2)
    EXPECT_NE(header.find("inline Site " + name + "("), std::string::npos) << note.code;
  }
  // And each constructor of a site is told.
  const std::regex constructor("inline Site (\\w+)\\((int layer)?\\) \\{");
  for (std::sregex_iterator i(header.begin(), header.end(), constructor), end; i != end; ++i) {
    const std::string code = "site::" + i->str(1) + (i->str(2).empty() ? "()" : "(2)");
    EXPECT_TRUE(std::any_of(site_notes().begin(), site_notes().end(), [&](const SiteNote& n) {
      return n.code == code;
    })) << code;
  }
}

TEST(Entries, SitesOfSplicedSaesAreExplained) {
  const SiteNote* note = find_site_note("blocks.4.hook_mlp_out.hook_sae_acts_post");
  ASSERT_NE(note, nullptr);
  EXPECT_EQ(note->inside, "hook_sae_acts_post");
  EXPECT_EQ(find_site_note("mine.gate"), nullptr);
}

// ---- the glossary ---------------------------------------------------------------------------------
TEST(Entries, TheTableOfTheReadmeIsTheGlossarys) {
  const std::string readme = text_at("autograd/README.md");
  const std::size_t begin = readme.find("| here | elsewhere |\n|---|---|\n");
  ASSERT_NE(begin, std::string::npos);
  std::string table = "| here | elsewhere |\n|---|---|\n";
  for (const Term& term : glossary()) {
    if (!term.in_readme.empty())
      table += "| " + std::string(term.in_readme) + " | " + std::string(term.meaning) + " |\n";
  }
  EXPECT_EQ(readme.substr(begin, readme.find("\n\n", begin) + 1 - begin), table)
      << "the rows come from apps/explain/glossary_terms.cpp";
}

TEST(Entries, TermsAreFoundByAllTheirNames) {
  std::set<std::string> all;
  for (const Term& term : glossary()) {
    EXPECT_FALSE(term.meaning.empty()) << term.names;
    for (const std::string& name : names_of(term)) {
      EXPECT_TRUE(all.insert(name).second) << name << " is said twice";
      EXPECT_THAT(find_terms(name), Contains(&term)) << name;
    }
  }
  EXPECT_EQ(names_of({"edge attribution patching (EAP, EAP-IG)", "", "", Topic::graph}),
            (std::vector<std::string>{"edge attribution patching", "EAP", "EAP-IG"}));
  EXPECT_EQ(find_terms("Logit-Lens"), find_terms("logit lens"));
  EXPECT_EQ(find_terms("induction_heads"), find_terms("induction head"));
  EXPECT_THAT(find_terms("nothing of the kind"), IsEmpty());
}

TEST(Entries, CommandsOfTermsTakeThePromptsWords) {
  const Term term = {"x", "", "vitrine lens --prompt @prompt --answer @answer", Topic::lens};
  EXPECT_EQ(command_of(term, {}),
            "vitrine lens --prompt 'The capital of Texas is' --answer ' Austin'");
  EXPECT_EQ(command_of(term, {"1,2", "3", "4", true}),
            "vitrine lens --tokens 1,2 --answer-token 3");
}

// ---- verbs ----------------------------------------------------------------------------------------
TEST(Entries, EveryVerbIsExplained) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.emplace_back(verb.name);
  for (const Verb& verb : sae_verbs()) names.push_back(std::string("sae ") + verb.name);
  for (const std::string& name : names) {
    const VerbNote* note = find_verb_note(name);
    ASSERT_NE(note, nullptr) << name << ": add its row to apps/explain/notes.cpp";
    if (!note->library.empty()) {
      EXPECT_TRUE(fs::exists(kRoot / note->library)) << note->library;
    }
    std::string function = name;
    std::replace(function.begin(), function.end(), ' ', '_');
    const auto rows = verbs_in_sources();
    EXPECT_EQ(std::count_if(rows.begin(), rows.end(),
                            [&](const Defined& row) { return row.name == function; }),
              1)
        << name;
  }
  for (const VerbNote& note : verb_notes())
    EXPECT_THAT(names, Contains(std::string(note.verb))) << "there is no such verb";
}

// ---- lessons --------------------------------------------------------------------------------------
TEST(Entries, LessonsAreFiles) {
  for (int number = 1; number <= kTopics; ++number) {
    const LessonFile* lesson = lesson_on(static_cast<Topic>(number));
    ASSERT_NE(lesson, nullptr) << "there is no lesson " << number;
    EXPECT_TRUE(fs::exists(kRoot / lesson->file)) << lesson->file;
    EXPECT_FALSE(lesson->title.empty()) << lesson->file;
    fs::path program = kRoot / lesson->file;
    EXPECT_TRUE(fs::exists(program.replace_extension(".cpp"))) << program;
  }
  for (const LessonFile& lesson : lessons_in_sources())
    EXPECT_LE(lesson.number, kTopics) << lesson.file << ": give it a topic in topics.h";
}

}  // namespace
}  // namespace vitrine::app
