// Every reader on files that accidents and strangers have changed: each is refused with an Error of the library, or
// gives something that keeps the reader's promises. VITRINE_MUTATED_FILES says how many files a reader gets.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "autograd/transform/intervention_json.h"
#include "interp/contexts_checkpoint.h"
#include "nn/families/config.h"
#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "nn/text/documents.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "nn/training/trainer.h"
#include "sae/folder.h"
#include "sae/graphs/viewer_graph.h"
#include "sae/other_libraries.h"
#include "sae/trainer.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/gguf.h"
#include "tensor/files/json_value.h"
#include "tensor/files/npy.h"
#include "tensor/files/safetensors.h"
#include "tensor/files/utf8.h"
#include "tensor/torch/torch_file.h"
#include "tests/mutated/mutate.h"
#include "tests/nn/training/small_training.h"
#include "tests/sae/small_sae.h"
#include "tests/sae/synthetic.h"
#include "tests/support.h"
#include "tests/tensor/files/gguf_writer.h"
#include "tests/tensor/temporary_folder.h"
#include "tests/tensor/torch/torch_writer.h"

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;

std::string read_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_bytes(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

// A format: a folder of good files, the one that is changed, and who reads it.
struct Reader {
  std::string name;
  Format format;
  std::string file;                           // in the folder, the one that is changed
  std::function<void(const fs::path&)> make;  // writes the good files into an empty folder
  std::function<void(const fs::path&)> read;  // throws an Error, or checks what it has read
};
void PrintTo(const Reader& reader, std::ostream* out) { *out << reader.name; }

void every_element(const Tensor& tensor) {
  ASSERT_EQ(static_cast<std::int64_t>(tensor.to_vector<double>().size()), tensor.numel());
}

// A GGUF file of nothing but a tokenizer.
std::string gguf_with_tokenizer(const std::string& model) {
  const bool bytes = model == "gpt2";
  std::vector<std::string> tokens = {"<s>", "<unk>", bytes ? "\u0120" : "\u2581"};
  for (const char* token : {"t", "h", "e", "th", "the", "<x>"}) tokens.emplace_back(token);
  tokens.push_back(tokens[2] + "t");
  std::string types, scores;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const bool control = tokens[id] == "<s>", unknown = tokens[id] == "<unk>";
    types += raw<std::int32_t>(control ? 3 : unknown && !bytes ? 2 : tokens[id] == "<x>" ? 4 : 1);
    scores += raw(-static_cast<float>(id));
  }
  GgufWriter out;
  out.text("tokenizer.ggml.model", model)
      .text("tokenizer.ggml.pre", "smollm")
      .texts("tokenizer.ggml.tokens", tokens)
      .list("tokenizer.ggml.token_type", GgufType::int32, tokens.size(), types)
      .integer("tokenizer.ggml.bos_token_id", 0);
  if (bytes) out.texts("tokenizer.ggml.merges", {"t h", "th e", tokens[2] + " t"});
  else out.list("tokenizer.ggml.scores", GgufType::float32, tokens.size(), scores);
  return out.bytes();
}

void copy(const fs::path& from, const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    fs::copy_file(from / name, folder / name, fs::copy_options::overwrite_existing);
}

nn::TrainingSettings small_settings(const fs::path& text, const nn::Tokenizer& tokenizer) {
  nn::TrainingSettings s;
  s.model = nn::small_config(tokenizer.vocabulary_size());
  s.rows = 32;
  s.schedule.steps = 4;
  s.sources = {{text.string(), 1.0}};
  s.validation = 0.2;
  return s;
}

void make_graph_file(const fs::path& folder) {
  sae::ViewerGraph graph{
      .slug = "s", .prompt_tokens = {"a", "b"}, .prompt = "ab", .node_threshold = 0.5};
  using Kind = sae::ViewerNodeKind;
  graph.nodes = {{.id = "0_3_1", .layer = 0, .position = 1, .number = 3, .activation = 0.5},
                 {.id = "1_2_1", .layer = 1, .position = 1, .number = 2, .activation = 1.5},
                 {.id = "error_0_1", .kind = Kind::error, .layer = 0, .position = 1},
                 {.id = "E_7_0", .kind = Kind::token, .position = 0, .number = 7},
                 {.id = "3_9_1", .kind = Kind::logit, .layer = 3, .position = 1, .number = 9}};
  graph.links = {{3, 0, 0.25}, {0, 1, -1}, {2, 1, 0.5}, {1, 4, 2}};
  graph.supernodes = {{"both", {"0_3_1", "1_2_1"}}};
  write_bytes(folder / "graph.json", sae::viewer_json(graph).indented());
}

void make_training_run(const fs::path& folder) {
  const TemporaryFolder texts;
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "the cat sat on the mat, the rat sat on the cat; that is that. ";
  write_bytes(texts / "text.txt", text);
  ThreadPool pool(1);
  const nn::Tokenizer tokenizer = nn::small_tokenizer();
  nn::Trainer t =
      nn::Trainer::begin(small_settings(texts / "text.txt", tokenizer), tokenizer, folder, pool);
  t.step(pool);
  t.save();
}

void resume_training(const fs::path& folder) {
  nn::Trainer t = nn::Trainer::resume(folder);
  ThreadPool pool(1);
  if (!t.done()) t.step(pool);
}

sae::TrainSettings small_sae_settings() {
  sae::SaeTrainingRules r;
  r.kind = sae::Kind::topk;
  r.d_in = 8;
  r.d_sae = 16;
  r.k = 2;
  r.batch = 32;
  r.schedule = {nn::Schedule::Shape::linear, 4e-3, 2, 1, 0.05};
  r.schedule.steps = 6;
  sae::TrainSettings s;
  s.jobs = {{"", r, {"x"}, {}}};
  s.steps = 6;
  s.buffer.rows = 128;
  return s;
}

void make_sae_run(const fs::path& folder) {
  SyntheticSource source(8, 12, 2, 4000);
  ThreadPool pool(1);
  sae::SaeTrainer t = sae::SaeTrainer::begin(small_sae_settings(), source, folder);
  t.step(pool);
  t.save();
}

void resume_sae(const fs::path& folder) {
  SyntheticSource source(8, 12, 2, 4000);
  ThreadPool pool(1);
  sae::SaeTrainer t = sae::SaeTrainer::resume(source, folder);
  if (!t.done()) t.step(pool);
}

// A key of each kind, and a tensor of each kind of type.
void make_gguf(const fs::path& folder) {
  GgufWriter w;
  w.text("general.architecture", "llama").integer("llama.block_count", 2).real("eps", 1e-5f);
  w.key("yes", GgufType::boolean, "\x01").texts("tokens", {"a", "b", "the"});
  w.list("scores", GgufType::float32, 2, raw(1.f) + raw(2.f));
  w.tensor("token_embd.weight", {64, 3}, 8, std::string(6 * 34, '\x11'));
  w.tensor("blk.0.ffn_up.weight", {256, 2}, 12, std::string(2 * 144, '\x22'));
  w.tensor("output_norm.weight", {4}, 0, raw(1.f) + raw(2.f) + raw(3.f) + raw(4.f));
  write_bytes(folder / "x.gguf", w.bytes());
}

void read_gguf(const fs::path& folder) {
  const Gguf file = Gguf::open(folder / "x.gguf");
  for (const std::string& key : file.metadata().keys())
    ASSERT_EQ(nn::replace_invalid_utf8(file.metadata().describe(key)),
              file.metadata().describe(key));
  if (file.metadata().has("tokens")) file.metadata().texts("tokens");
  if (file.metadata().has("scores")) file.metadata().reals("scores");
  for (const std::string& name : file.names()) every_element(file.at(name));
}

TorchWriter small_torch_file() {
  const std::string storage = py::storage("FloatStorage", "0", 12);
  return {
      .object = py::dict(
          {{"a", py::tensor(storage, 0, {3, 4}, {4, 1})},
           {"b", py::call(py::global("torch._utils", "_rebuild_parameter"),
                          {py::tensor(storage, 2, {2, 3}, {1, 4}), py::kTrue, py::ordered_dict()})},
           {"epoch", py::integer(3)}}),
      .storages = {{"0", std::string(48, '\x3f')}}};
}

void read_torch(const fs::path& folder) {
  const TorchFile file = TorchFile::open(folder / "x.bin");
  for (const std::string& name : file.names()) every_element(file.at(name));
}

std::vector<Reader> readers() {
  const std::vector<std::string> model = {"config.json", "model.safetensors"};
  const std::vector<std::string> sae = {"cfg.json", "sae_weights.safetensors"};
  const auto tiny = [=](const fs::path& folder) { copy(data() / "tiny-gpt2", folder, model); };
  const auto read_model = [](const fs::path& folder) {
    const nn::Config config = nn::load_config(folder);
    ASSERT_EQ(config.d_model % config.heads, 0);
    for (const auto& [name, tensor] : nn::load_checkpoint(folder, config)) every_element(tensor);
  };
  const auto read_sae = [](const fs::path& folder) {
    const sae::Sae found = sae::load(folder);
    for (const auto& [name, tensor] : found.weights) every_element(tensor);
  };
  const auto read_tokenizer = [](const fs::path& folder) {
    const nn::Tokenizer t = nn::Tokenizer::load(folder);
    try {
      const std::string text = "the cat's  mat, <|endoftext|> 12";
      const std::string decoded = t.decode(t.encode(text));
      ASSERT_TRUE(!t.steps().keeps_text() || !decoded.empty());
    } catch (const Error&) {  // a byte without a token
    }
  };
  const auto small_tokenizer = [](const fs::path& folder) {
    nn::save_tokenizer(nn::small_tokenizer(15), folder);
  };
  const auto slow_tokenizer = [=](const fs::path& folder) {
    small_tokenizer(folder);
    fs::remove(folder / "tokenizer.json");
    write_bytes(folder / "added_tokens.json", R"({"<pad>": 272, "<mask>": 273})");
  };
  const auto named_tokenizer = [=](const fs::path& folder) {
    slow_tokenizer(folder);
    write_bytes(folder / "tokenizer_config.json",
                R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "image_token": "<i>",
                    "pad_token": {"__type": "AddedToken", "content": "<pad>", "lstrip": false},
                    "added_tokens_decoder": {"272": {"content": "<pad>", "special": true}}})");
  };
  const auto mapped_tokenizer = [=](const fs::path& folder) {
    slow_tokenizer(folder);
    write_bytes(folder / "special_tokens_map.json",
                R"({"bos_token": "<s>", "additional_special_tokens": ["<x>", "<pad>"],
                    "eos_token": {"content": "</s>", "normalized": true}})");
  };
  std::vector<Reader> all;
  all.push_back({"Config", Format::text, "config.json", tiny, read_model});
  all.push_back({"Model", Format::safetensors, "model.safetensors", tiny, read_model});
  all.push_back({"ShardIndex", Format::text, "model.safetensors.index.json",
                 [=](const fs::path& folder) {
                   tiny(folder);
                   std::string map;
                   const SafeTensors file = SafeTensors::open(folder / "model.safetensors");
                   for (const std::string& name : file.names())
                     map += (map.empty() ? "\"" : ", \"") + name + "\": \"part.safetensors\"";
                   fs::rename(folder / "model.safetensors", folder / "part.safetensors");
                   write_bytes(
                       folder / "model.safetensors.index.json",
                       "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" + map + "}}");
                 },
                 read_model});
  all.push_back({"Safetensors", Format::safetensors, "x.safetensors",
                 [](const fs::path& folder) {
                   save_safetensors(folder / "x.safetensors",
                                    {{"a", draw("a", {3, 4})},
                                     {"b", draw("b", {2, 2}).to(DType::f16)},
                                     {"c", Tensor::of<std::int64_t>({2}, {1, 2})},
                                     {"empty", Tensor::zeros({0, 3}, DType::f32)}},
                                    {{"note", "{\"k\": [1, 2]}"}});
                 },
                 [](const fs::path& folder) {
                   const SafeTensors file = SafeTensors::open(folder / "x.safetensors");
                   for (const std::string& name : file.names()) every_element(file.at(name));
                 }});
  all.push_back({"Gguf", Format::bytes, "x.gguf", make_gguf, read_gguf});
  all.push_back(
      {"TorchZip", Format::bytes, "x.bin",
       [](const fs::path& folder) { write_bytes(folder / "x.bin", small_torch_file().bytes()); },
       read_torch});
  all.push_back({"TorchLegacy", Format::bytes, "x.bin",
                 [](const fs::path& folder) {
                   write_bytes(folder / "x.bin", small_torch_file().legacy_bytes());
                 },
                 read_torch});
  all.push_back({"Npy", Format::bytes, "x.npy",
                 [](const fs::path& folder) {
                   save_npy(folder / "x.npy", draw("npy", {3, 5}));
                 },
                 [](const fs::path& folder) { every_element(load_npy(folder / "x.npy")); }});
  all.push_back({"TokenizerJson", Format::text, "tokenizer.json", small_tokenizer, read_tokenizer});
  all.push_back(
      {"TokenizerBytes", Format::bytes, "tokenizer.json", small_tokenizer, read_tokenizer});
  all.push_back({"VocabJson", Format::text, "vocab.json", slow_tokenizer, read_tokenizer});
  all.push_back({"MergesTxt", Format::text, "merges.txt", slow_tokenizer, read_tokenizer});
  all.push_back({"AddedTokens", Format::text, "added_tokens.json", slow_tokenizer, read_tokenizer});
  all.push_back(
      {"TokenizerConfig", Format::text, "tokenizer_config.json", named_tokenizer, read_tokenizer});
  all.push_back({"SpecialTokensMap", Format::text, "special_tokens_map.json", mapped_tokenizer,
                 read_tokenizer});
  for (const char* family : {"llama3", "neox", "gemma", "mistral"}) {
    const auto make = [=](const fs::path& folder) {
      const fs::path file = data() / "tokenizer" / "families" / (std::string(family) + ".json");
      write_bytes(folder / "tokenizer.json",
                  JsonValue::parse(read_text(file), "fixture").find("tokenizer")->line());
    };
    all.push_back({std::string("TokenizerJson_") + family, Format::text, "tokenizer.json", make,
                   read_tokenizer});
  }
  for (const char* kind : {"llama", "gpt2"}) {
    all.push_back({std::string("GgufTokenizer_") + kind, Format::bytes, "tokens.gguf",
                   [=](const fs::path& folder) {
                     write_bytes(folder / "tokens.gguf", gguf_with_tokenizer(kind));
                   },
                   [=](const fs::path& folder) { read_tokenizer(folder / "tokens.gguf"); }});
  }
  for (const char* kind : {"standard", "gated", "topk", "jumprelu", "batchtopk"}) {
    const auto make = [=](const fs::path& folder) { copy(data() / "sae" / kind, folder, sae); };
    all.push_back({std::string("SaeConfig_") + kind, Format::text, "cfg.json", make, read_sae});
    all.push_back({std::string("SaeWeights_") + kind, Format::safetensors,
                   "sae_weights.safetensors", make, read_sae});
  }
  // SAEs of other libraries, and what stands beside them.
  const auto read_import = [](const fs::path& folder) {
    const sae::Sae found = sae::import_weights(folder, 0);
    for (const auto& [name, tensor] : found.weights) every_element(tensor);
  };
  const auto of_sparsify = [](const fs::path& folder) {
    save_safetensors(folder / "sae.safetensors", {{"encoder.weight", draw("e", {6, 4})},
                                                  {"encoder.bias", draw("b", {6})},
                                                  {"W_dec", draw("d", {6, 4})},
                                                  {"b_dec", draw("c", {4})}});
    write_bytes(folder / "cfg.json",
                R"({"activation": "topk", "expansion_factor": 2, "normalize_decoder": true, )"
                R"("num_latents": 6, "k": 2, "multi_topk": false, "transcode": true, "d_in": 4})");
  };
  const auto of_dictionaries = [](const fs::path& folder) {
    save_safetensors(folder / "ae.safetensors", {{"encoder.weight", draw("e", {6, 4})},
                                                 {"encoder.bias", draw("b", {6})},
                                                 {"decoder.weight", draw("d", {4, 6})},
                                                 {"b_dec", draw("c", {4})},
                                                 {"k", Tensor::scalar<std::int32_t>(2)},
                                                 {"threshold", Tensor::scalar<float>(0.5F)}});
    write_bytes(
        folder / "config.json",
        R"({"trainer": {"dict_class": "BatchTopKSAE", "activation_dim": 4, "dict_size": 6, )"
        R"("k": 2, "lm_name": "gpt2"}})");
  };
  all.push_back({"SparsifyConfig", Format::text, "cfg.json", of_sparsify, read_import});
  all.push_back(
      {"SparsifyWeights", Format::safetensors, "sae.safetensors", of_sparsify, read_import});
  all.push_back({"DictionaryConfig", Format::text, "config.json", of_dictionaries, read_import});
  all.push_back(
      {"DictionaryWeights", Format::safetensors, "ae.safetensors", of_dictionaries, read_import});
  all.push_back(
      {"Interventions", Format::text, "edits.json",
       [](const fs::path& folder) {
         const Interventions what = {replace(Site{"blocks.2.hook_resid_post"},
                                             Tensor::full({4}, DType::f32, 0.25), {.pos = {2}})};
         write_bytes(folder / "edits.json", to_json(what));
       },
       [](const fs::path& folder) {
         const Interventions what = interventions_from_json(read_bytes(folder / "edits.json"));
         ASSERT_EQ(to_json(interventions_from_json(to_json(what))), to_json(what));
       }});
  all.push_back(
      {"AttributionGraph", Format::text, "graph.json", make_graph_file, [](const fs::path& folder) {
         const sae::ViewerGraph graph = sae::read_viewer_graph(folder / "graph.json");
         const auto nodes = static_cast<std::int32_t>(graph.nodes.size());
         for (const sae::ViewerLink& l : graph.links) {
           ASSERT_TRUE(l.source >= 0 && l.source < nodes && l.target >= 0 && l.target < nodes);
         }
         ASSERT_LE(sae::merged_links(graph).size(), graph.links.size());
         const std::string text = sae::viewer_json(graph).line();
         ASSERT_EQ(sae::viewer_json(sae::viewer_graph_of(text, "again")).line(), text);
       }});
  all.push_back({"Jsonl", Format::text, "texts.jsonl",
                 [](const fs::path& folder) {
                   write_bytes(folder / "texts.jsonl",
                               "{\"text\": \"The cat\\u00e9 sat\"}\n{\"tokens\": [1, 2, 3], "
                               "\"more\": {\"a\": [null]}}\n");
                 },
                 [](const fs::path& folder) {
                   nn::for_each_document(folder / "texts.jsonl", nn::Split::whole_file,
                                         [](const nn::Document& d) {
                                           for (const int id : d.tokens) ASSERT_GE(id, 0);
                                         });
                 }});
  all.push_back({"TrainingState", Format::safetensors, "training.safetensors", make_training_run,
                 resume_training});
  all.push_back(
      {"SaeTrainingState", Format::safetensors, "training.safetensors", make_sae_run, resume_sae});
  return all;
}

class MutatedFiles : public ::testing::TestWithParam<Reader> {};
INSTANTIATE_TEST_SUITE_P(Readers, MutatedFiles, ::testing::ValuesIn(readers()),
                         [](const auto& tested) { return tested.param.name; });

int files_each() {
  const char* wanted = std::getenv("VITRINE_MUTATED_FILES");
  return wanted == nullptr ? 200 : std::atoi(wanted);
}

// So much address space more than now: an allocation out of all proportion to these small files fails, as bad_alloc,
// which is no Error. Not under sanitizers, which take terabytes of it (ASAN_OPTIONS=max_allocation_size_mb=256 does
// the same there).
void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  statm >> pages;
  const rlim_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + (256ULL << 20);
  const rlimit limit = {bytes, bytes};
  ::setrlimit(RLIMIT_AS, &limit);
#endif
}

TEST_P(MutatedFiles, AreRefusedOrKeepTheirPromises) {
  const Reader& reader = GetParam();
  const TemporaryFolder good, folder;
  reader.make(good.path());
  reader.read(good.path());
  if (HasFatalFailure()) return;
  const std::string original = read_bytes(good / reader.file);
  fs::copy(good.path(), folder.path(),
           fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  limit_memory();
  int refused = 0;
  for (int i = 0; i < files_each(); ++i) {
    const std::string changed = Mutator(static_cast<std::uint64_t>(i))(original, reader.format);
    write_bytes(folder / reader.file, changed);
    const auto begun = std::chrono::steady_clock::now();
    ::alarm(20);  // ends the program, naming this test as the one that hangs
    try {
      reader.read(folder.path());
    } catch (const Error& error) {
      ++refused;
      const std::string text = error.what();
      EXPECT_FALSE(text.empty());
      EXPECT_EQ(text.find("json.exception"), std::string::npos) << "change " << i << ": " << text;
      EXPECT_EQ(nn::replace_invalid_utf8(text), text) << "change " << i;
      EXPECT_LT(text.size(), 4000u) << "change " << i;
    } catch (const std::exception& error) {
      ADD_FAILURE() << reader.name << ", change " << i
                    << ": not an Error of the library: " << error.what();
    }
    ::alarm(0);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    EXPECT_LT(took.count(), 10) << "change " << i;
    if (HasFailure()) {
      const fs::path kept =
          fs::temp_directory_path() / ("vitrine-mutated-" + reader.name + "-" + std::to_string(i));
      write_bytes(kept, changed);
      FAIL() << "the file is kept as " << kept;
    }
  }
  EXPECT_GT(refused, 0);  // else the changes reach nothing
}

}  // namespace
}  // namespace vitrine::test
