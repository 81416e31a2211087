// The tools whose configurations are read, one file each.
#pragma once

#include "core/foreign/table.h"

namespace deltaw::foreign {

Tool llama_factory();
Tool llama_factory_v1();
Tool axolotl();
Tool trl();
Tool mlx_lm();
Tool peft();
Tool accelerate();
Tool deepspeed();

/// The keys of transformers' TrainingArguments, which LLaMA-Factory and TRL have among theirs.
std::vector<Key> training_arguments();

/// `own` with those of `shared` that it does not have.
std::vector<Key> with_shared(std::vector<Key> own, const std::vector<Key>& shared);

/// Keys of the places that runs are reported to.
Key trackers();

/// What transformers' Trainer does by default, and deltaw does not: checkpoints every save_steps.
void finish_training_arguments(Reading& reading);

/// An optimiser of transformers: AdamW in any form is ours, any other is refused.
void take_optimizer(Reading& reading, const Json& value);

/// A schedule of transformers.
void take_scheduler(Reading& reading, const Json& value, const std::string& name);

/// What is held out of the training rows: a share below 1, or a number of rows above 1.
void take_held_out_share(Reading& reading, const Json& value, const std::string& name);

/// bf16: true, false or auto.
void take_bf16(Reading& reading, const Json& value);

}  // namespace deltaw::foreign
