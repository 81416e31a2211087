// One tensor for several layers.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapt/builder.h"
#include "core/patterns.h"
#include "core/suggest.h"
#include "deltaw/error.h"
#include "ops/host_read.h"

namespace deltaw {
namespace {

void check_share(const Json& share, const Adapter& adapter) {
  const bool own_steps = adapter.method().rank_budget() || !adapter.method().may_share();
  if (!share.is_object() || own_steps) {
    throw Error({.id = "config.conflict",
                 .what = own_steps ? fmt::format("{} changes each layer's tensors by itself and cannot share them",
                                                 adapter.spec().id)
                                   : "share is no map of tensor names to patterns: " + share.dump(),
                 .where = "key \"share\"",
                 .fix = "for example share: {lora_A: attention.self.query}, with a method such as lora or moslora"});
  }
  std::set<std::string> known;
  for (const AdaptedLayer* layer : adapter.layers()) {
    for (const Param& param : layer->params.all()) known.insert(param.name);
  }
  const std::vector<std::string> names(known.begin(), known.end());
  for (const auto& [name, pattern] : share.items()) {
    if (pattern.is_string() && std::find(names.begin(), names.end(), name) != names.end()) continue;
    throw Error({.id = "config.bad-value",
                 .what = fmt::format("share: '{}' = {}", name, pattern.dump()),
                 .where = "key \"share\"",
                 .fix = names.empty()         ? "leave it out: this adapter has no tensors on layers"
                        : pattern.is_string() ? suggest_names(name, names, "give the name of a tensor of the method")
                                              : "give one regular expression as the value"});
  }
}

[[noreturn]] void refuse_copy(const std::string& name, const std::string& layer) {
  throw Error({.id = "format.conflict",
               .what = fmt::format("'{}' of '{}' is not the tensor that its layers share", name, layer),
               .where = "adapter_model.safetensors, key \"share\" of adapter_config.json",
               .fix = "the file is damaged or was put together by hand: save the adapter again"});
}

}  // namespace

void AdapterBuilder::share_tensors(bool must_agree) {
  const Json& share = adapter_.config_.share;
  if (share.is_null() || share.empty()) return;
  check_share(share, adapter_);
  for (const auto& [name, pattern] : share.items()) {
    std::map<std::vector<int64_t>, Param*> first;  // by shape
    int64_t sharers = 0;
    for (AdaptedLayer* layer : adapter_.ordered_) {
      if (!matches_end(pattern.get<std::string>(), layer->info.name)) continue;
      for (Param& param : layer->params.all()) {
        if (param.name != name) continue;
        const auto [found, is_new] = first.try_emplace(param.value.sizes().vec(), &param);
        if (is_new) continue;
        if (must_agree && !ops::host_equal(param.value, found->second->value)) refuse_copy(name, layer->info.name);
        param.value = found->second->value;
        ++sharers;
      }
    }
    if (sharers == 0) {
      throw Error({.id = "config.unmatched-pattern",
                   .what = fmt::format("no two layers that '{}' matches have a tensor '{}' of one shape",
                                       pattern.get<std::string>(), name),
                   .where = "key \"share\"",
                   .fix = "give the end of the names of two adapted layers of one size, as a regular expression"});
    }
  }
}

}  // namespace deltaw
