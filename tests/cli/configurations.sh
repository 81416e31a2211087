# Configurations of other tools: what they are taken for, what they train, and what is said of the rest.
. "$(dirname "$0")/support.sh"

make_speaker speaker
printf '{%% for m in messages %%}{{ m.content }}{%% endfor %%}' >speaker/chat_template.jinja
mkdir data
printf '{"instruction": "abc", "input": "", "output": "fgh"}\n{"instruction": "ij", "output": "kl"}\n' >data/rows.jsonl
printf '{"prompt": "abc", "completion": "fgh"}\n{"prompt": "ij", "completion": "kl"}\n' >data/train.jsonl
echo '{"letters": {"file_name": "rows.jsonl"}, "far": {"hf_hub_url": "x/far"}}' >data/dataset_info.json

# The same bytes as from deltaw's own keys.
same_as() { # FOLDER FILE FLAGS...: the adapter in FOLDER is that of the keys in FILE
  local folder=$1
  shift
  expect 0 train "$@" --dtype float32 --output_dir own
  lacks err 'is a configuration of'
  cmp -s "$folder/adapter_model.safetensors" own/adapter_model.safetensors || fail "$folder differs from $1"
  rm -rf own
}

cat >factory.yaml <<'END'
model_name_or_path: speaker
trust_remote_code: true
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: all
dataset: letters
template: qwen
cutoff_len: 32
overwrite_cache: true
preprocessing_num_workers: 16
output_dir: factory
plot_loss: true
per_device_train_batch_size: 2
learning_rate: 1.0e-2
num_train_epochs: 2.0
lr_scheduler_type: cosine
report_to: wandb
END
cat >own.yaml <<'END'
model_name_or_path: speaker
r: 4
lora_alpha: 8
target_modules: all-linear
train_file: data/rows.jsonl
as_conversation: true
max_length: 32
per_device_train_batch_size: 2
learning_rate: 1e-2
num_train_epochs: 2
lr_scheduler_type: cosine
END
expect 0 train factory.yaml --dtype float32
contains err 'factory.yaml is a configuration of LLaMA-Factory, known by template'
contains err 'lora_alpha is twice the rank, 8'
contains err 'passed over: trust_remote_code, do_train, overwrite_cache, preprocessing_num_workers, plot_loss, report_to'
[ "$(grep -c 'passed over' err)" = 1 ] || fail 'keys are passed over in more than one line'
contains factory/run.json '"train_file": "data/rows.jsonl"'
same_as factory own.yaml

cat >ax.yml <<'END'
base_model: speaker
datasets:
  - path: data/rows.jsonl
    type: chat_template
adapter: lora
lora_r: 4
lora_alpha: 8
lora_target_linear: true
sequence_len: 32
micro_batch_size: 2
num_epochs: 2
learning_rate: 1e-2
optimizer: adamw_bnb_8bit
saves_per_epoch: 1
wandb_project: letters
output_dir: ax
END
expect 0 train ax.yml --dtype float32 --as_conversation true
contains err 'ax.yml is a configuration of axolotl'
contains err 'optimizer adamw_bnb_8bit is AdamW with its state in float32'
contains err 'passed over: wandb_project'
same_as ax own.yaml --save_strategy epoch

cat >mlx.yaml <<'END'
model: speaker
train: true
fine_tune_type: lora
data: data
num_layers: 1
iters: 2
batch_size: 2
learning_rate: 1e-2
adapter_path: mlx
mask_prompt: true
max_seq_length: 32
lora_parameters: {rank: 4, scale: 2.0, dropout: 0.0}
END
blocks=$(sed -n 's/.*"n_layer": *\([0-9]*\).*/\1/p' speaker/config.json)
expect 0 train mlx.yaml --dtype float32
contains err 'mlx.yaml is a configuration of mlx-lm'
contains err "num_layers 1 of $blocks is layers_to_transform $((blocks - 1)) to $((blocks - 1))"
contains err 'scale 2 is lora_alpha 8, scale times rank 4'
same_as mlx own.yaml --train_file data/train.jsonl --max_steps 2 --seed 0 --lr_scheduler_type constant --max_grad_norm 0 \
  --layers_to_transform $((blocks - 1))

# Flags win over the file, and settle what it cannot have.
expect 0 train factory.yaml --dtype float32 --output_dir flags --lora_rank 2 --learning_rate 1e-3
contains flags/run.json '"r": 2'
contains flags/run.json '"learning_rate": 0.001'
contains flags/run.json '"lora_alpha": 4' # twice the rank that counts
sed 's/dataset: letters/dataset: far/; s/report_to: wandb/optim: lion_8bit/' factory.yaml >far.yaml
expect 2 train far.yaml
contains err "the data set 'far' of dataset_info.json is one of a hub"
contains err "'optim' is lion_8bit, and the optimiser of deltaw is AdamW"
lacks err 'needs train_file' # it is meant
[ "$(grep -c '^error\[' err)" = 2 ] || fail 'not both errors are told, or more'
expect 0 validate far.yaml --dtype float32 --train_file data/rows.jsonl --optim adamw_torch

# Several data sets are one split.
sed 's/dataset: letters/dataset: letters, letters/; s/output_dir: factory/output_dir: twice/' factory.yaml >twice.yaml
expect 0 validate twice.yaml --dtype float32 --json
contains out '"train_rows": 4'

# Another method with the same file, by a key of deltaw in it.
{ cat factory.yaml; printf 'method: randlora\nrandlora_alpha: 8\n'; } | sed 's/output_dir: factory/output_dir: random/' >mixed.yaml
expect 0 train mixed.yaml --dtype float32
contains err 'keys of deltaw in it, as they are: method, randlora_alpha'
contains random/adapter_config.json '"RANDLORA"'

# An adapter's configuration, and what is none of a training.
expect 0 validate factory/adapter_config.json --model_name_or_path speaker --train_file data/train.jsonl --dtype float32
contains err 'is a configuration of PEFT'
echo '{"peft_type": "BOFT", "inference_mode": true, "boft_block_size": 4}' >boft.json
expect 2 validate boft.json --model_name_or_path speaker --train_file data/rows.jsonl
contains err "PEFT's BOFT is none of the methods of deltaw"
printf 'compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\n' >accelerate.yaml
expect 2 train accelerate.yaml
contains err 'it says how processes are started'
printf 'use_peft: true\nmodel_name_or_path: speaker\ndataset_name: data/rows.jsonl\nlora_rr: 3\n' >trl.yaml
expect 2 train trl.yaml
contains err "the key 'lora_rr' is neither one of TRL"
contains err "did you mean 'lora_r'?"

# LLaMA-Factory's file of an export is one of `deltaw merge`.
printf 'model_name_or_path: speaker\nadapter_name_or_path: factory\ntemplate: qwen\nexport_dir: merged\nexport_size: 5\n' >export.yaml
expect 0 merge export.yaml --dtype float32
present merged/model.safetensors

# The page of the documentation.
expect 0 help --markdown configurations
cmp -s out "$tests/../docs/configurations.md" || fail 'docs/configurations.md is not what the program says'
finish
