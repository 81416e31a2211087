// Which modules an adapter acts on: PEFT's matching.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deltaw/adapter.h"

namespace deltaw {

/// An adapter is made, where a name that means nothing is a mistake; or read, where it is passed over, as in PEFT.
enum class Purpose { training, reading };

/// The layers that `config` targets, in the model's order. `modules_to_save` are never targeted, nor is the head of a
/// classifier, unless the file of an adapter without a task names it. Throws config.no-target, and in training, for a
/// list, config.unmatched-target naming the entry that matches no layer.
std::vector<const Layer*> find_targets(const Model& model, const AdapterConfig& config, const MethodSpec& spec,
                                       Purpose purpose = Purpose::training);

/// The parameters below the modules whose names end as an entry of `modules_to_save` says, at a dot or not: `norm`
/// takes `post_attention_layernorm`, as in PEFT. In training, throws config.unmatched-module for an entry that names
/// nothing, save the head names that PEFT writes for any model.
std::vector<const Parameter*> find_saved(const Model& model, const std::vector<std::string>& modules_to_save,
                                         Purpose purpose = Purpose::training);

/// The base's own tensors that the method trains. Where it has none on layers (BitFit), target_modules,
/// exclude_modules and layers_to_transform choose among their modules. Throws config.no-target.
std::vector<const Parameter*> find_base_tensors(const Model& model, const AdapterConfig& config,
                                                const MethodSpec& spec);

/// What PEFT's all-linear takes.
bool is_linear(const Layer& layer);

/// Whether `targets`, exclude_modules, layers_to_transform and layers_pattern take a module of this name. All-linear
/// and null take any.
bool selects(const AdapterConfig& config, const Json& targets, const std::string& name);

/// The number after the first "<layers_pattern>." in a module's name, as a text, by PEFT's own pattern where none is
/// given; nothing where there is none.
std::optional<std::string> layer_number(const std::string& name, const std::vector<std::string>& patterns);

/// Throws config.wrong-type for what is no list of names or an expression, and config.conflict for layers chosen by
/// number beside an expression.
void check_selection(const AdapterConfig& config);

/// Whether the head trains and is saved without being named: a classifier's is.
bool saves_head(const Model& model);

/// "all-linear", in any case.
bool is_all_linear(const Json& targets);

/// An expression that `name` matches and nothing else does.
std::string escaped(const std::string& name);

/// Adds the modules whose names begin with `scope` to exclude_modules, which an expression alone can say.
void exclude_scope(AdapterConfig& config, std::string_view scope);

/// True where `name` is `module`, or a part of it, wherever that is: PEFT's re.match of "(^|.*\.)module($|\..*)".
bool stands_below(const std::string& name, const std::string& module);

/// target_modules as it acts: the method's defaults for the model where `config` has none.
Json effective_targets(const Model& model, const AdapterConfig& config, const MethodSpec& spec);

}  // namespace deltaw
