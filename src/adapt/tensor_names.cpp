#include "adapt/tensor_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "deltaw/error.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kBelong = "check that config and tensors belong together; ";
constexpr size_t kShown = 3;

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// Parts that two names have in common at their ends, and those at their beginnings.
std::pair<size_t, size_t> likeness(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const auto ends = std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend());
  const auto begins = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return {static_cast<size_t>(ends.first - a.rbegin()), static_cast<size_t>(begins.first - a.begin())};
}

/// The likest of `names` for each of the first few that are missing.
std::vector<std::string> nearest(const std::vector<std::string>& missing, const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> split;
  for (const std::string& name : names) split.push_back(parts_of(name));
  std::vector<std::string> found;
  for (size_t i = 0; i < missing.size() && found.size() < kShown; ++i) {
    const std::vector<std::string> wanted = parts_of(missing[i]);
    const auto best = std::max_element(split.begin(), split.end(), [&](const auto& a, const auto& b) {
      return likeness(wanted, a) < likeness(wanted, b);
    });
    const std::string& name = names[static_cast<size_t>(best - split.begin())];
    if (std::find(found.begin(), found.end(), name) == found.end()) found.push_back(name);
  }
  return found;
}

std::string without(std::string name, const std::string& piece) {
  if (const size_t at = name.find(piece); at != std::string::npos) name.erase(at, piece.size());
  return name;
}

bool any_has(const std::vector<std::string>& names, std::initializer_list<const char*> pieces) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::any_of(pieces.begin(), pieces.end(),
                       [&](const char* piece) { return name.find(piece) != std::string::npos; });
  });
}

struct Guess {
  std::string what, fix;
};

/// Who wrote such names.
Guess guess(const std::vector<std::string>& missing, const std::vector<std::string>& names, const Model& model) {
  const std::set<std::string> wanted(missing.begin(), missing.end());
  const auto fitting = [&](const auto& change) {
    return std::count_if(names.begin(), names.end(), [&](const std::string& n) { return wanted.contains(change(n)); });
  };
  const auto named = [](const std::string& n) { return without(without(n, ".default_0"), ".default"); };
  const auto with_name = fitting(named), bare = fitting([](const std::string&n) { return kPrefix + n; });
  const auto bare_with_name = fitting([&](const std::string& n) { return kPrefix + named(n); });
  const std::string save = "save the adapter by PEFT's save_pretrained, which writes the names that are read; ";
  const std::string prefix = "the prefix base_model.model. is missing",
                    own = "the adapter's own name ('default') was kept in them";
  if (with_name > 0 && with_name >= bare_with_name) return {own, save};
  if (bare > 0 && bare >= bare_with_name) return {prefix, save};
  if (bare_with_name > 0) return {prefix + ", and " + own, save};
  const auto& parameters = model.parameters();
  const bool whole = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::any_of(parameters.begin(), parameters.end(), [&](const Parameter* p) { return p->name == name; });
  });
  if (whole) return {"these are weights of a whole model", "give its folder as model_name_or_path; "};
  if (any_has(names, {"lora_down", "lora_up", "lora_unet_", "lora_te_"}))
    return {"these are names of diffusion models' tools", "convert the file to PEFT's names; "};
  if (any_has(names, {".lora_a", ".lora_b"})) return {"these are MLX's names", "convert the file to PEFT's names; "};
  const auto tail = [](const std::vector<std::string>& parts) {
    return parts.size() < 4 ? parts : std::vector<std::string>(parts.end() - 4, parts.end());
  };
  std::set<std::vector<std::string>> tails;
  for (const std::string& name : missing) tails.insert(tail(parts_of(name)));
  const bool renamed = std::any_of(names.begin(), names.end(),
                                   [&](const std::string& name) { return tails.contains(tail(parts_of(name))); });
  if (renamed) {
    return {
        "its modules have other names: it was made over another class of this model, or by a version of "
        "transformers that renamed them",
        "load and save it by PEFT over " + model.architecture() + ", or rename the tensors; "};
  }
  return {};
}

}  // namespace

NamesInstead names_instead(const std::vector<std::string>& missing, const std::vector<std::string>& unexpected,
                           const Model& model) {
  if (missing.empty() || unexpected.empty()) return {.what = "", .fix = kBelong};
  const std::vector<std::string> shown = nearest(missing, unexpected);
  const Guess who = guess(missing, unexpected, model);
  return {.what = fmt::format("; it has {}{} instead{}{}", fmt::join(shown, ", "),
                              shown.size() < unexpected.size() ? ", ..." : "", who.what.empty() ? "" : ": ", who.what),
          .fix = who.fix.empty() ? kBelong : who.fix};
}

void refuse_non_finite(const std::string& name, const Tensor& value, const std::filesystem::path& file) {
  if (ops::host_flag(value.isfinite().all())) return;
  throw Error({.id = "numeric.non-finite",
               .what = fmt::format("{} of the {} values of '{}' are not finite",
                                   ops::host_integer(value.isfinite().logical_not().sum()), value.numel(), name),
               .where = file.string(),
               .fix = "fetch the file again, or train again with a lower learning rate"});
}

}  // namespace deltaw
