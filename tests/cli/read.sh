# tokenize, methods and info: what reads and computes nothing.
. "$(dirname "$0")/support.sh"
make_model bert_cls model

# Tokens.
printf 'The film was good!\n\nnot fine \303\251\n' >lines.txt
expect 0 tokenize --model_name_or_path model --input_file lines.txt
lines out 3
empty err
contains out '{"ids":[2,15,11,17,5,1,3],"tokens":["[CLS]","the","film","was","good","[UNK]","[SEP]"],"offsets":[[0,0],[0,3],[4,8],[9,12],[13,17],[17,18],[0,0]]}'
contains out '{"ids":[2,3],"tokens":["[CLS]","[SEP]"],"offsets":[[0,0],[0,0]]}'
"$deltaw" tokenize --tokenizer model --add-special-tokens false <lines.txt >piped 2>err || fail 'standard input is not read'
[ "$(head -n 1 piped)" = '{"ids":[15,11,17,5,1],"tokens":["the","film","was","good","[UNK]"],"offsets":[[0,3],[4,8],[9,12],[13,17],[17,18]]}' ] ||
  fail "without special tokens: $(head -n 1 piped)"
expect 0 tokenize --tokenizer model --input_file lines.txt --output_file tokens.jsonl
empty out
lines tokens.jsonl 3
expect 1 tokenize --tokenizer model --input_file lines.txt --text_pair --output_file pairs.jsonl
contains err 'error[data.no-pair]'
contains err 'line 1'
absent pairs.jsonl
[ -z "$(ls | grep partial)" ] || fail 'half a file was left behind'
expect 2 tokenize
contains err 'tokenizer'

# Methods.
expect 0 methods
for method in lora randlora moslora lora2 adalora dora ia3; do contains out "$method"; done
expect 0 methods --markdown
contains out '| `randlora` |'
expect 0 methods randlora
contains out 'randlora_alpha'
expect 0 methods --json
contains out '"peft_type": "RANDLORA"'
contains out '"name": "randlora_alpha"'
expect 2 methods randlroa
contains err 'randlora'

# Checkpoints, adapters, files.
expect 0 info model
contains out 'checkpoint: model'
contains out 'negative, neutral, positive'
contains out 'vocab.txt'
lacks out 'encoder.layer.0'
expect 0 info model --modules --json
contains out '"bert.encoder.layer.1.attention.self.query"'
contains out '"kind": "checkpoint"'
for adapter in lora_default oft_default dora_bert vera_bert ia3_default adalora_unpruned; do
  expect 0 info "$tests/golden/adapters/$adapter" --modules
  contains out 'attention.self.'
  ! grep -E '^  .*\.(lora|oft|vera|ia3)_' out || fail "$adapter: tensors are listed as modules"
done
expect 0 info "$tests/golden/adapters/lora_default"
contains out 'adapter:'
contains out 'lora'
expect 0 info model/model.safetensors
contains out 'tensors: model/model.safetensors'
mkdir nothing
expect 2 info nothing
contains err 'error[config.nothing-known]'

# Damage is told, not read.
cp -r "$tests/golden/adapters/lora_default" cut
size=$(stat -c %s cut/adapter_model.safetensors)
truncate -s $((size - 100)) cut/adapter_model.safetensors
expect 1 info cut
empty out
contains err 'adapter_model.safetensors'
contains err 'error[format.'
echo '{"peft_type": "LORA",' >cut/adapter_config.json
expect 1 info cut
contains err 'error[format.json]'

finish
