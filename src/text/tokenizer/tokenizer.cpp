#include "deltaw/tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "deltaw/error.h"
#include "io/gguf.h"
#include "text/convert/image_text.h"
#include "text/convert/vocabulary_files.h"
#include "text/tokenizer/tokenizer_impl.h"
#include "text/tokenizer/truncation.h"
#include "text/tokenizer/type_ids.h"

namespace deltaw {

namespace {

template <class Part>
std::unique_ptr<Part> optional_part(const TokenizerValue& file, const char* name,
                                    std::unique_ptr<Part> (*make)(const TokenizerValue&)) {
  return file.has(name) ? make(file.at(name)) : nullptr;
}

void add_piece(const Pieces& pieces, const Piece& piece, int64_t id, const std::string& token, Encoding& out) {
  out.ids.push_back(id);
  out.tokens.push_back(token);
  out.offsets.emplace_back(pieces.buffer.spans[piece.begin].begin, pieces.buffer.spans[piece.end - 1].end);
}

/// transformers writes 1e30 where there is no limit.
int64_t model_max_length(const TokenizerJson& config) {
  const auto found = config.is_object() ? config.find("model_max_length") : config.end();
  if (found == config.end() || !found->is_number()) return 0;
  const auto length = found->get<double>();
  return length >= 1 && length <= 1e9 ? static_cast<int64_t>(length) : 0;
}

/// Where U+2581 first follows another character; the size of `text` where it never does.
size_t blank_inside(std::string_view text) {
  size_t at = 0;
  while (text.substr(at).starts_with(kBlank)) at += std::string_view(kBlank).size();
  return std::min(text.find(kBlank, at), text.size());
}

}  // namespace

Tokenizer::Impl::Impl(const TokenizerJson& json, const std::string& file) {
  const TokenizerValue reader(json, file);
  if (!json.is_object()) reader.fail("expected an object");
  if (reader.has("version") && reader.text("version") != "1.0") {
    reader.at("version").unsupported(fmt::format("version {} of the format", reader.text("version")));
  }
  normalizer = optional_part(reader, "normalizer", make_normalizer);
  pre_tokenizer = optional_part(reader, "pre_tokenizer", make_pre_tokenizer);
  model = make_model(reader.at("model"));
  post_processor = optional_part(reader, "post_processor", make_post_processor);
  decoder = optional_part(reader, "decoder", make_decoder);
  const TokenizerJson none = TokenizerJson::array();
  added = std::make_unique<AddedTokens>(
      reader.has("added_tokens") ? reader.at("added_tokens") : TokenizerValue(none, file, "added_tokens"),
      model->vocabulary(), normalizer.get());
}

std::optional<int64_t> Tokenizer::Impl::token_to_id(std::string_view token) const {
  if (const auto id = added->id(token)) return id;
  const int32_t id = model->vocabulary().id(token);
  return id < 0 ? std::nullopt : std::optional<int64_t>(id);
}

void Tokenizer::Impl::configure(const TokenizerConfig& config) {
  files.insert(files.end(), config.files.begin(), config.files.end());
  pad_id = named(config, "pad_token", {"[PAD]", "<pad>"});
  bos_id = named(config, "bos_token", {"<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"});
  eos_id = named(config, "eos_token", {"</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"});
  if (!pad_id && pads_with_end(config)) pad_id = eos_id;
  mask_id = named(config, "mask_token", {"[MASK]", "<mask>"});
  const TokenizerValue reader(config.config, "tokenizer_config.json");
  const std::string side = reader.text("padding_side", default_padding_side(config));
  if (side != "left" && side != "right") {
    reader.at("padding_side").fail(fmt::format("expected \"left\" or \"right\", found \"{}\"", side));
  }
  pads_left = side == "left";
  max_length = model_max_length(config.config);

  // Flags that contradict the file's own template replace it, for the classes whose template follows the flags.
  const std::string kind = tokenizer_class(config);
  if (!kind.starts_with("Llama") && !kind.starts_with("CodeLlama") && !kind.starts_with("Gemma")) return;
  const bool wants_bos = reader.flag("add_bos_token", false) && bos_id;
  const bool wants_eos = reader.flag("add_eos_token", false) && eos_id;
  const auto [has_bos, has_eos] = surroundings();
  if ((!reader.has("add_bos_token") || wants_bos == has_bos) &&
      (!reader.has("add_eos_token") || wants_eos == has_eos)) {
    return;
  }
  const auto mark = [&](bool wanted, std::optional<int64_t> id) -> Mark {
    if (!wanted) return std::nullopt;
    const AddedToken* token = added->find(*id);
    return std::pair{token != nullptr ? token->content : model->vocabulary().piece(*id), *id};
  };
  const Mark bos = mark(wants_bos, bos_id);
  const Mark eos = mark(wants_eos, eos_id);
  const TokenizerJson plain = plain_template(bos, eos);
  post_processor = make_template(TokenizerValue(plain, "tokenizer_config.json"));
}

/// Whether a text begins with bos_id and ends with eos_id, both from the template.
std::pair<bool, bool> Tokenizer::Impl::surroundings() const {
  Encoding text{.ids = {0}, .type_ids = {0}, .tokens = {""}, .offsets = {{0, 0}}, .special = {0}, .words = {0}};
  const Encoding whole = finish({std::move(text)}, {});
  return {bos_id && whole.special.front() != 0 && whole.ids.front() == *bos_id,
          eos_id && whole.special.back() != 0 && whole.ids.back() == *eos_id};
}

/// The id of the token that the configuration names, else of the first usual name among the special tokens. In a
/// vocabulary alone such a name is text like any other, as "<s>" is in Qwen2's.
std::optional<int64_t> Tokenizer::Impl::named(const TokenizerConfig& config, const char* name,
                                              std::initializer_list<const char*> usual) const {
  std::optional<int64_t> id;
  if (const auto token = config.token(name)) id = token_to_id(*token);
  for (const char* other : usual) {
    const std::optional<int64_t> usual_id = id ? std::nullopt : token_to_id(other);
    if (usual_id && added->is_special(other)) id = usual_id;
  }
  return id;
}

/// What stands for `id` before decoding; null where nothing does.
const std::string* Tokenizer::Impl::shown(int64_t id, bool skip_special_tokens) const {
  const bool is_added = added->find(id) != nullptr;
  if (!is_added && !model->vocabulary().has(id)) return nullptr;
  const std::string& token = is_added ? added->decoding_form(id) : model->vocabulary().piece(id);
  return skip_special_tokens && added->is_special(token) ? nullptr : &token;
}

std::string Tokenizer::Impl::join(std::vector<std::string> tokens) const {
  if (decoder) decoder->decode(tokens);
  std::string result;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !decoder) result += ' ';
    result += tokens[i];
  }
  return result;
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
  for (size_t i = 0; i < pieces.list.size(); ++i) {
    encode_piece(pieces, pieces.list[i], *cache, out);
    out.words.resize(out.ids.size(), static_cast<int64_t>(i));
  }
  out.type_ids.assign(out.ids.size(), type_id);
  out.special.assign(out.ids.size(), 0);
  const std::lock_guard lock(idle_mutex);
  idle.push_back(std::move(cache));
  return out;
}

/// The tokens of a piece: the added token that it is, or those of its word.
void Tokenizer::Impl::encode_piece(const Pieces& pieces, const Piece& piece, WordCache& cache, Encoding& out) const {
  if (piece.added >= 0) {
    add_piece(pieces, piece, piece.added, std::string(pieces.text(piece)), out);
    return;
  }
  std::string_view word = pieces.text(piece);
  if (model->cuts_before_blanks()) {
    for (size_t end = blank_inside(word); end < word.size(); end = blank_inside(word)) {
      encode_word(word.substr(0, end), piece.end - static_cast<uint32_t>(word.size()), pieces, cache, out);
      word.remove_prefix(end);
    }
  }
  encode_word(word, piece.end - static_cast<uint32_t>(word.size()), pieces, cache, out);
}

/// `word` begins at byte `begin` of the pieces' buffer.
void Tokenizer::Impl::encode_word(std::string_view word, uint32_t begin, const Pieces& pieces, WordCache& cache,
                                  Encoding& out) const {
  const Vocabulary& vocabulary = model->vocabulary();
  const int32_t as_text = model->shown_as_text();
  for (const WordToken& token : cache.tokens(*model, word)) {
    const Piece place{begin + token.begin, begin + token.end, -1};
    if (token.id == as_text) {
      add_piece(pieces, place, token.id, std::string(pieces.text(place)), out);
    } else {
      add_piece(pieces, place, token.id, vocabulary.piece(token.id), out);
    }
  }
}

Encoding Tokenizer::Impl::finish(std::vector<Encoding> parts, const EncodeOptions& options) const {
  bool truncated = false;
  if (options.max_length > 0) {
    const bool counts = options.add_special_tokens && post_processor;
    truncated = truncate(parts, options.max_length, counts ? post_processor->added_tokens(parts.size() == 2) : 0);
  }
  if (post_processor) post_processor->process(parts, options.add_special_tokens);
  Encoding result = std::move(parts.front());
  for (size_t i = 1; i < parts.size(); ++i) append(result, parts[i]);
  result.truncated = truncated;
  return result;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_file(const std::filesystem::path& file) {
  if (io::is_gguf(file)) return from_folder(file);
  auto impl = std::make_unique<Impl>(read_tokenizer_json(file), file.string());
  impl->files.push_back(file);
  impl->home = file.parent_path();
  impl->configure({});
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder, const std::filesystem::path& model_folder) {
  TokenizerConfig config = read_tokenizer_config(folder);
  config.model_folder = model_folder;
  TokenizerSource source = read_tokenizer_source(folder, config);
  auto impl = std::make_unique<Impl>(source.json, source.name);
  impl->files = std::move(source.files);
  impl->home = folder;
  impl->model_folder = model_folder;
  impl->configure(config);
  impl->gives_type_ids = text::gives_type_ids(config, model_folder.empty() ? folder : model_folder);
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
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    if (const std::string* token = impl_->shown(id, skip_special_tokens)) tokens.push_back(*token);
  }
  return impl_->join(std::move(tokens));
}

int64_t Tokenizer::vocab_size() const {
  return std::max(impl_->model->vocabulary().bound(), impl_->added->bound());
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
std::optional<int64_t> Tokenizer::bos_id() const {
  return impl_->bos_id;
}
std::optional<int64_t> Tokenizer::eos_id() const {
  return impl_->eos_id;
}
std::optional<int64_t> Tokenizer::mask_id() const {
  return impl_->mask_id;
}
bool Tokenizer::is_special(int64_t id) const {
  const AddedToken* token = impl_->added->find(id);
  return token != nullptr && token->special;
}
bool Tokenizer::is_added(int64_t id) const {
  return impl_->added->find(id) != nullptr;
}
bool Tokenizer::prepends_bos() const {
  return impl_->surroundings().first;
}
bool Tokenizer::appends_eos() const {
  return impl_->surroundings().second;
}
bool Tokenizer::gives_type_ids() const {
  return impl_->gives_type_ids;
}
bool Tokenizer::pads_left() const {
  return impl_->pads_left;
}

int64_t Tokenizer::max_length() const {
  return impl_->max_length;
}
const std::vector<std::filesystem::path>& Tokenizer::files() const {
  return impl_->files;
}

}  // namespace deltaw
