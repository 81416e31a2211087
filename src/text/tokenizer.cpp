#include "deltaw/tokenizer.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "text/added_tokens.h"
#include "text/tokenizer_files.h"
#include "text/truncation.h"
#include "text/word_cache.h"

namespace deltaw {

using namespace text;  // NOLINT: the parts this file puts together

struct Tokenizer::Impl {
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<AddedTokens> added;
  std::optional<int64_t> pad_id;
  bool pads_left = false;
  std::vector<std::filesystem::path> files;

  // Caches that no call uses at the moment.
  std::mutex idle_mutex;
  std::vector<std::unique_ptr<WordCache>> idle;

  Impl(const PartJson& json, const std::string& file);

  Encoding encode_text(std::string_view text, int64_t type_id);
  Encoding finish(std::vector<Encoding> parts, const EncodeOptions& options) const;
  void configure(const TokenizerConfig& config);
  std::optional<int64_t> token_to_id(std::string_view token) const;
};

namespace {

template <class Part>
std::unique_ptr<Part> optional_part(const PartReader& file, const char* name,
                                    std::unique_ptr<Part> (*make)(const PartReader&)) {
  return file.has(name) ? make(file.at(name)) : nullptr;
}

void add_piece(const Pieces& pieces, const Piece& piece, int64_t id, const std::string& token, Encoding& out) {
  out.ids.push_back(id);
  out.tokens.push_back(token);
  out.offsets.emplace_back(pieces.buffer.spans[piece.begin].begin, pieces.buffer.spans[piece.end - 1].end);
}

}  // namespace

Tokenizer::Impl::Impl(const PartJson& json, const std::string& file) {
  const PartReader reader(json, file);
  if (!json.is_object()) reader.fail("expected an object");
  if (reader.has("version") && reader.text("version") != "1.0") {
    reader.at("version").unsupported(fmt::format("version {} of the format", reader.text("version")));
  }
  normalizer = optional_part(reader, "normalizer", make_normalizer);
  pre_tokenizer = optional_part(reader, "pre_tokenizer", make_pre_tokenizer);
  model = make_model(reader.at("model"));
  post_processor = optional_part(reader, "post_processor", make_post_processor);
  decoder = optional_part(reader, "decoder", make_decoder);
  const PartJson none = PartJson::array();
  added = std::make_unique<AddedTokens>(
      reader.has("added_tokens") ? reader.at("added_tokens") : PartReader(none, file, "added_tokens"),
      model->vocabulary(), normalizer.get());
}

std::optional<int64_t> Tokenizer::Impl::token_to_id(std::string_view token) const {
  if (const auto id = added->id(token)) return id;
  const int32_t id = model->vocabulary().id(token);
  return id < 0 ? std::nullopt : std::optional<int64_t>(id);
}

void Tokenizer::Impl::configure(const TokenizerConfig& config) {
  files.insert(files.end(), config.files.begin(), config.files.end());
  if (const auto named = config.token("pad_token")) pad_id = token_to_id(*named);
  for (const char* usual : {"[PAD]", "<pad>"}) {
    if (!pad_id) pad_id = token_to_id(usual);
  }
  const PartReader reader(config.config, "tokenizer_config.json");
  const std::string side = reader.text("padding_side", "right");
  if (side != "left" && side != "right") {
    reader.at("padding_side").fail(fmt::format("expected \"left\" or \"right\", found \"{}\"", side));
  }
  pads_left = side == "left";
}

Encoding Tokenizer::Impl::encode_text(std::string_view text, int64_t type_id) {
  if (text.size() > std::numeric_limits<int32_t>::max() / 4) {
    throw Error{{.id = "data.text-too-long",
                 .what = fmt::format("a text of {} bytes; the limit is {}", text.size(),
                                     std::numeric_limits<int32_t>::max() / 4),
                 .where = "the text to encode",
                 .fix = "split it into several rows"}};
  }
  std::unique_ptr<WordCache> cache;
  {
    const std::lock_guard lock(idle_mutex);
    if (!idle.empty()) {
      cache = std::move(idle.back());
      idle.pop_back();
    }
  }
  if (!cache) cache = std::make_unique<WordCache>();
  Pieces pieces = added->extract(repaired(text), normalizer.get());
  if (pre_tokenizer) pre_tokenizer->cut(pieces);
  Encoding out;
  const size_t guess = pieces.list.size() + pieces.list.size() / 4;
  out.ids.reserve(guess);
  out.tokens.reserve(guess);
  out.offsets.reserve(guess);
  for (const Piece& piece : pieces.list) {
    if (piece.added >= 0) {
      add_piece(pieces, piece, piece.added, std::string(pieces.text(piece)), out);
      continue;
    }
    for (const WordToken& token : cache->tokens(*model, pieces.text(piece))) {
      add_piece(pieces, {piece.begin + token.begin, piece.begin + token.end, -1}, token.id,
                model->vocabulary().piece(token.id), out);
    }
  }
  out.type_ids.assign(out.ids.size(), type_id);
  out.special.assign(out.ids.size(), 0);
  const std::lock_guard lock(idle_mutex);
  idle.push_back(std::move(cache));
  return out;
}

Encoding Tokenizer::Impl::finish(std::vector<Encoding> parts, const EncodeOptions& options) const {
  if (options.max_length > 0) {
    const bool counts = options.add_special_tokens && post_processor;
    truncate(parts, options.max_length, counts ? post_processor->added_tokens(parts.size() == 2) : 0);
  }
  if (post_processor) post_processor->process(parts, options.add_special_tokens);
  Encoding result = std::move(parts.front());
  for (size_t i = 1; i < parts.size(); ++i) append(result, parts[i]);
  return result;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_file(const std::filesystem::path& file) {
  auto impl = std::make_unique<Impl>(read_part_json(file), file.string());
  impl->files.push_back(file);
  impl->configure({});
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  const auto exists = [&](const char* name) { return std::filesystem::exists(folder / name); };
  const TokenizerConfig config = read_tokenizer_config(folder);
  std::unique_ptr<Impl> impl;
  std::vector<std::filesystem::path> files;
  if (exists("tokenizer.json")) {
    files = {folder / "tokenizer.json"};
    impl = std::make_unique<Impl>(read_part_json(files.front()), files.front().string());
  } else if (exists("vocab.txt")) {
    files = {folder / "vocab.txt"};
    impl = std::make_unique<Impl>(from_vocab_txt(folder, config), files.front().string());
  } else if (exists("vocab.json") && exists("merges.txt")) {
    files = {folder / "vocab.json", folder / "merges.txt"};
    impl = std::make_unique<Impl>(from_vocab_json(folder, config), "vocab.json with merges.txt of " + folder.string());
  } else {
    throw Error{{.id = "io.not-found",
                 .what = "there is no tokenizer.json, no vocab.txt and no vocab.json with merges.txt",
                 .where = folder.string(),
                 .fix = "copy the tokenizer's files of the checkpoint into this folder"}};
  }
  impl->files = std::move(files);
  impl->configure(config);
  return Tokenizer(std::move(impl));
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<Encoding> parts;
  parts.push_back(impl_->encode_text(text, 0));
  return impl_->finish(std::move(parts), options);
}

Encoding Tokenizer::encode(std::string_view text, std::string_view pair, const EncodeOptions& options) const {
  std::vector<Encoding> parts;
  parts.push_back(impl_->encode_text(text, 0));
  parts.push_back(impl_->encode_text(pair, 1));
  return impl_->finish(std::move(parts), options);
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const {
  const Vocabulary& vocabulary = impl_->model->vocabulary();
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    const bool is_added = impl_->added->find(id) != nullptr;
    if (!is_added && !vocabulary.has(id)) continue;
    const std::string& token = is_added ? impl_->added->decoding_form(id) : vocabulary.piece(id);
    if (!skip_special_tokens || !impl_->added->is_special(token)) tokens.push_back(token);
  }
  if (impl_->decoder) impl_->decoder->decode(tokens);
  std::string result;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !impl_->decoder) result += ' ';
    result += tokens[i];
  }
  return result;
}

int64_t Tokenizer::vocab_size() const {
  return std::max(impl_->model->vocabulary().size(), impl_->added->bound());
}

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->token_to_id(token);
}

std::optional<std::string> Tokenizer::id_to_token(int64_t id) const {
  if (const AddedToken* token = impl_->added->find(id)) return token->content;
  if (!impl_->model->vocabulary().has(id)) return std::nullopt;
  return impl_->model->vocabulary().piece(id);
}

std::optional<int64_t> Tokenizer::pad_id() const {
  return impl_->pad_id;
}
bool Tokenizer::pads_left() const {
  return impl_->pads_left;
}
const std::vector<std::filesystem::path>& Tokenizer::files() const {
  return impl_->files;
}

}  // namespace deltaw
