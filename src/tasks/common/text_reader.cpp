#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "deltaw/task_reader.h"
#include "deltaw/text_rows.h"
#include "tasks/common/check_rows.h"
#include "tasks/common/shown.h"
#include "tasks/common/text_files.h"

namespace deltaw {
namespace {

constexpr int64_t kUnknownLength = 1024;  // of rows, where neither model nor tokenizer says what it reads; as in TRL

constexpr const char* kProbe[] = {
    "The committee met on Tuesday and put the decision off until spring.",
    "A cat sleeps on the warm stones beside the harbour wall.",
    "Who wrote the letter, and why was it never sent?",
    "Profits fell by 3.7 % in the second quarter, the company said.",
    "I have seldom laughed so much at a film that meant to be sad!",
    "Water boils at a lower temperature on high mountains.",
};

/// Tokens spread over the vocabulary, where there is no tokenizer.
Batch plain_probe(const Model& model) {
  const int64_t vocabulary = model.vocab_size();
  const int64_t length = std::min<int64_t>(model.max_positions() > 0 ? model.max_positions() : 16, 16);
  const Tensor ids = at::remainder(at::arange(4 * length, at::kLong) * 7919 + 5, vocabulary).view({4, length});
  return {.rows = 4, .tensors = {{"input_ids", ids}, {"attention_mask", at::ones_like(ids)}}};
}

/// Null where there are none, or none of text.
const TextRows* text_rows(const std::shared_ptr<const RowSource>& rows) {
  return dynamic_cast<const TextRows*>(rows.get());
}

}  // namespace

void TextReader::load_preprocessors(const TaskFiles& files) {
  folders_ = files.folders();
  adapters_ = files.adapters;
  const std::filesystem::path adapter = adapters_.empty() ? std::filesystem::path() : adapters_.front();
  tokenizer_ = Tokenizer::from_folder(tasks::tokenizer_folder(files.base, adapter), files.base);
}

void TextReader::begin_training(const Model& model, TaskFiles& files) {
  files.data.max_length = tasks::checked_length(model, files.data.max_length, files.length_asked);
  pad_id_ = tasks::pad_id_of(*tokenizer_, model);
}

void TextReader::begin_asking(const AskedModel& asked, TaskFiles& files) {
  load_preprocessors(files);
  int64_t& length = files.data.max_length;
  readable_ = tasks::readable_length(asked.model, asked.adapter, *tokenizer_);
  if (files.length_given) {
    length = tasks::checked_length(asked.model, length, files.length_asked);
  } else {  // nothing is cut that need not be
    length = readable_ > 0 ? readable_ : kUnknownLength;
  }
  pad_id_ = tasks::pad_id_of(*tokenizer_, asked.model);
}

void TextReader::check(const Model& model, const Adapter* adapter) const {
  for (const auto& rows : {train_, validation_}) {
    if (const TextRows* texts = text_rows(rows)) tasks::check_rows(model, adapter, texts->rows(), &*tokenizer_);
  }
}

std::optional<int64_t> TextReader::cut_rows(Split split) const {
  const TextRows* rows = text_rows(split == Split::train ? train_ : validation_);
  return rows ? truncated_rows(rows->rows()) : 0;
}

Json TextReader::row(Split split, int64_t position) const {
  const TextRows* rows = text_rows(split == Split::train ? train_ : validation_);
  if (!rows) return Json::object();
  const EncodedRow& row = rows->rows()[static_cast<size_t>(position)];
  Json line = {{"ids", row.ids}};
  if (row.token_labels.empty()) {
    line["label"] = row.labels.empty() ? Json(row.label) : Json(row.labels);
  } else {
    line["token_labels"] = row.token_labels;
  }
  if (!row.documents.empty()) line["documents"] = row.documents;
  return line;
}

Json TextReader::facts(const DataOptions& data) const {
  const std::vector<int64_t> lengths = costs_of(*train_);
  int64_t sum = 0, longest = 0, full = 0;
  for (const int64_t length : lengths) {
    sum += length;
    longest = std::max(longest, length);
    full += length >= data.max_length;
  }
  return {{"labels", labels()},
          {"mean_tokens", static_cast<double>(sum) / static_cast<double>(std::max<size_t>(1, lengths.size()))},
          {"longest_row", longest},
          {"full_rows", full},
          {"truncated_rows", *cut_rows(Split::train)},
          {"validation_truncated_rows", *cut_rows(Split::validation)},
          {"max_length", data.max_length},
          {"sample", sample()}};
}

std::string TextReader::facts_text(const Json& facts) const {
  const Json& sample = facts["sample"];
  std::string lines = counts_text(facts);
  lines += fmt::format(
      "         {:.0f} tokens in the mean row, {} in the longest; {} rows fill max_length {}, {} were cut\n",
      facts["mean_tokens"].get<double>(), tasks::count_text(facts["longest_row"]),
      tasks::count_text(facts["full_rows"]), facts["max_length"].get<int64_t>(),
      tasks::count_text(facts["truncated_rows"]));
  if (sample.empty()) return lines;
  return lines + sample_text(sample) + " tokens  " + tasks::first_words(sample["tokens"], 64) + "\n";
}

Json TextReader::sample() const {
  const TextRows* rows = text_rows(train_);
  if (!rows || rows->rows().empty()) return Json::object();
  const std::vector<int64_t>& ids = rows->rows().front().ids;
  return {{"text", tokenizer_->decode(ids)}, {"ids", ids}, {"tokens", tasks::token_names(ids, *tokenizer_)}};
}

std::string TextReader::sample_text(const Json& sample) const {
  return "input    " + sample["text"].get<std::string>() + "\n";
}

std::vector<std::string> TextReader::warnings(const Model& model, const Adapter* adapter,
                                              const DataOptions& data) const {
  std::vector<std::string> found;
  const int64_t readable = tasks::readable_length(model, adapter, *tokenizer_);
  const auto note_cut = [&](Split split, const RowSource& rows, const char* which) {
    const int64_t cut = *cut_rows(split);
    if (cut > 0) found.push_back(which + truncation_warning(cut, rows.size(), data.max_length, readable));
  };
  note_cut(Split::train, *train_, "");
  note_cut(Split::validation, *validation_, "validation: ");
  return found;
}

void TextReader::write_companions(const Model& /*model*/, const std::filesystem::path& folder) const {
  if (tokenizer_) tasks::write_tokenizer(*tokenizer_, folder, tokens_added_);
  tasks::write_chat_template(chat_template_file(), folders_, folder);
}

Batch TextReader::probe(const AskedModel& asked, const TaskFiles& files) const {
  if (!tokenizer_) return plain_probe(asked.model);
  std::vector<EncodedRow> rows;
  std::vector<int64_t> positions;
  for (const char* text : kProbe) {
    const Encoding encoding = tokenizer_->encode(text, {.max_length = files.data.max_length});
    positions.push_back(static_cast<int64_t>(rows.size()));
    rows.push_back({.ids = encoding.ids, .label = 0, .index = positions.back()});
  }
  tasks::check_rows(asked.model, asked.adapter, rows, &*tokenizer_);
  return TextRows(std::move(rows), pad_id_, tokenizer_->pads_left()).collate(positions, {});
}

std::vector<EncodedRow> TextReader::encoded(const Dataset& dataset, const AskedModel& asked,
                                            const TaskFiles& files) const {
  for (const std::string& sentence : dataset.warnings) files.warn(sentence);
  std::vector<EncodedRow> rows = encode_rows(dataset, *tokenizer_, files.data.max_length);
  tasks::check_rows(asked.model, asked.adapter, rows, &*tokenizer_);
  warn_of_cut_rows(truncated_rows(rows), static_cast<int64_t>(rows.size()), files);
  return rows;
}

void TextReader::warn_of_cut_rows(int64_t cut, int64_t rows, const TaskFiles& files) const {
  if (cut > 0) files.warn(truncation_warning(cut, rows, files.data.max_length, readable_));
}

}  // namespace deltaw
