# deltaw download, against a server that plays the hub. With ORACLE_PYTHON, or the repository's .venv, huggingface_hub
# downloads from that server too, and reads what the program downloaded.
. "$(dirname "$0")/support.sh"

export HOME=$scratch/home
unset HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE \
  XDG_CACHE_HOME HF_HUB_DISABLE_SYMLINKS HF_HUB_DISABLE_IMPLICIT_TOKEN http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY
export HF_HOME=$scratch/hf HF_HUB_DOWNLOAD_TIMEOUT=2 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_XET=1
command -v python3 >/dev/null || { echo 'SKIPPED: no python3'; exit 0; }

mkdir -p hub "$HOME"
python3 "$tests/cli/hub.py" hub &
server=$!
trap 'kill $server; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do [ ! -f hub/port ] || break; sleep 0.1; done
export HF_ENDPOINT=http://127.0.0.1:$(cat hub/port)

repository() { mkdir -p "hub/$1" && cd "hub/$1" || exit 2; }
random() { head -c "$2" /dev/urandom >"$1"; } # FILE BYTES
faults() { printf '%s\n' "$@" >hub/faults; : >hub/log; }
calm() { rm -f hub/faults; : >hub/log; }
fresh() { rm -rf "$HF_HOME" && calm; }
snapshot() { cat out; }
same() { cmp -s "$1" "$2" || fail "$1 is not $2"; }
requests() { grep -c -- "$1" hub/log; } # TEXT

(repository models/org/tiny
  echo '{"model_type": "x"}' >config.json
  cp config.json generation_config.json
  echo '{}' >tokenizer.json
  random model.safetensors 300000
  random pytorch_model.bin 5000
  echo 'print(1)' >modeling_x.py
  echo readme >README.md
  mkdir -p onnx additional_chat_templates && random onnx/model.onnx 3000
  echo '{{ x }}' >additional_chat_templates/tool.jinja)
(repository models/org/shards
  echo '{}' >config.json
  for i in 1 2; do random pytorch_model-0000$i-of-00002.bin 2000; done
  echo '{"weight_map": {}}' >pytorch_model.bin.index.json
  random tf_model.h5 3000)
(repository models/org/adapter
  echo '{}' >adapter_config.json
  random adapter_model.safetensors 2000
  random optimizer.pt 2000)
(repository models/org/many-GGUF
  for name in Q4_K_M Q8_0; do random "many-$name.gguf" 4000; done
  mkdir F16 && for i in 1 2; do random "F16/many-F16-0000$i-of-00002.gguf" 2000; done
  random mmproj-many-F16.gguf 2000)
(repository models/org/gated && echo '{"gated": true}' >.hub && echo '{}' >config.json && random model.safetensors 2000)
(repository models/org/private && echo '{"private": true}' >.hub && echo '{}' >config.json && random model.safetensors 2000)
(repository models/org/bare && echo '{"bare": true}' >.hub && echo '{}' >config.json && random model.safetensors 2000)
(repository models/org/pipeline
  cp -r "$tests/golden/pipelines/first/." .
  rm -f case.json io.safetensors
  for part in unet vae; do
    random $part/diffusion_pytorch_model.bin 2000
    random $part/diffusion_pytorch_model.fp16.safetensors 2000
  done
  mkdir safety_checker && echo '{}' >safety_checker/config.json && random safety_checker/model.safetensors 2000
  random v1-5-pruned.ckpt 2000)
(repository models/org/flax && echo '{}' >config.json && random flax_model.msgpack 2000)
(repository datasets/org/rows && echo 'a,b' >train.csv && mkdir data && echo '{}' >data/dev.jsonl && echo x >load.py)
tiny=hub/models/org/tiny

# The default choice, in the layout of huggingface_hub; nothing is fetched twice.
fresh
expect 0 download org/tiny
lines out 1
where=$(snapshot)
[ "$(cd "$where" && find . -mindepth 1 ! -type d | sort | tr '\n' ' ')" = \
  './additional_chat_templates/tool.jinja ./config.json ./generation_config.json ./model.safetensors ./tokenizer.json ' ] ||
  fail "downloaded: $(cd "$where" && find . ! -type d)"
for file in config.json model.safetensors additional_chat_templates/tool.jinja; do
  same "$where/$file" "$tiny/$file"
  [ -L "$where/$file" ] && [[ $(readlink "$where/$file") != /* ]] || fail "$file is no relative link"
done
commit=$(basename "$where")
[ "$where" = "$HF_HOME/hub/models--org--tiny/snapshots/$commit" ] || fail "the snapshot is $where"
[ "$(cat "$HF_HOME/hub/models--org--tiny/refs/main")" = "$commit" ] || fail 'refs/main is not the commit'
present "$HF_HOME/hub/models--org--tiny/blobs/$(sha256sum <$tiny/model.safetensors | cut -c 1-64)"
[ "$(ls "$HF_HOME/hub/models--org--tiny/blobs" | grep -c incomplete)" = 0 ] || fail 'something is left half done'
[ ! -x "$(readlink -f "$where/config.json")" ] || fail 'a downloaded file may be run'
contains err 'model.safetensors  293 KiB'
calm
expect 0 download org/tiny
[ "$(snapshot)" = "$where" ] || fail 'another folder'
[ "$(requests resolve)" = 0 ] || fail 'it was fetched twice'
echo '{"model_type": "y"}' >$tiny/config.json
calm
expect 0 download org/tiny
[ "$(requests resolve)" = 1 ] || fail 'more than the changed file was fetched'
[ "$(cat "$HF_HOME/hub/models--org--tiny/refs/main")" = "$(basename "$(snapshot)")" ] || fail 'refs/main is old'
present "$where/config.json"

# What is chosen.
dry() { expect 0 download "$@" --dry_run; }
dry org/shards
for file in config.json pytorch_model.bin.index.json pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin; do
  contains out "$file"
done
lacks out tf_model
dry org/adapter
contains out adapter_model.safetensors
lacks out optimizer.pt
dry org/tiny --include '*.json' --exclude 'gen*,tok*'
contains out config.json
for file in generation_config tokenizer model.safetensors; do lacks out $file; done
dry org/tiny --include '*'
lacks out modeling_x.py
contains out onnx/model.onnx
contains err 'programs are not downloaded: modeling_x.py'
expect 2 download org/tiny --include '*.py'
contains err 'error[config.hub-choice]'
expect 2 download org/tiny --include '*.gguf'
contains err 'no file matches *.gguf'
contains err 'model.safetensors'
expect 2 download org/many-GGUF
contains err 'fix:   name one, as in org/many-GGUF:Q4_K_M'
contains err 'many-Q8_0.gguf'
lacks err mmproj
dry org/many-GGUF:f16
contains out 'F16/many-F16-00001-of-00002.gguf'
contains out 'F16/many-F16-00002-of-00002.gguf'
lacks out Q8_0
expect 2 download org/many-GGUF:Q3_K_S
contains err "no GGUF file of 'Q3_K_S'"
expect 0 download hf.co/org/many-GGUF:Q4_K_M
same "$(snapshot)" hub/models/org/many-GGUF/many-Q4_K_M.gguf
expect 1 info org/many-GGUF:q4_k_m # its bytes are none of a model
contains err 'error[format.gguf]'
contains err many-Q4_K_M.gguf
expect 2 info org/many-GGUF:Q8_0
contains err "no GGUF file of 'Q8_0'"
contains err 'there are many-Q4_K_M.gguf'
contains err 'deltaw download org/many-GGUF:Q8_0'
expect 2 download org/flax
contains err 'no weights that deltaw reads'
contains err flax_model.msgpack
expect 0 download org/rows --repo_type dataset
present "$HF_HOME/hub/datasets--org--rows" "$(snapshot)/data/dev.jsonl" "$(snapshot)/train.csv"
absent "$(snapshot)/load.py"
dry datasets/org/rows
contains out train.csv
lacks out load.py

# A pipeline of diffusers: the folders that are read, and its name is that of a model then.
draw="--model_name_or_path org/pipeline --prompt dog --num_inference_steps 2 --dtype float32"
expect 2 generate $draw --output_dir drawn
contains err 'fix:   download it: deltaw download org/pipeline'
expect 0 download org/pipeline
where=$(snapshot)
absent "$where/safety_checker" "$where/v1-5-pruned.ckpt"
[ "$(cd "$where" && find . -name 'diffusion_pytorch_model*' | sort | tr '\n' ' ')" = \
  './unet/diffusion_pytorch_model.safetensors ./vae/diffusion_pytorch_model.safetensors ' ] || fail 'other weights'
expect 0 generate $draw --output_dir drawn
expect 0 generate --model_name_or_path "$tests/golden/pipelines/first" --prompt dog --num_inference_steps 2 --dtype float32 \
  --output_dir drawn_here
same drawn/00000.png drawn_here/00000.png
rm -r "$where/unet"
expect 2 generate $draw --output_dir none
contains err 'fix:   download it: deltaw download org/pipeline'

# A dry run writes nothing.
fresh
dry org/tiny
contains out '293 KiB in 5 files'
contains out 'model.safetensors'
contains out 'to fetch'
absent "$HF_HOME"

# A server that says neither sizes nor checksums in its list says them of each file.
expect 0 download org/bare
same "$(snapshot)/model.safetensors" hub/models/org/bare/model.safetensors
fresh
faults 'etag:d41d8cd98f00b204e9800998ecf8427e 9 HEAD /org/bare'
expect 1 download org/bare
contains err 'error[io.checksum]'

# The token opens what is private and gated, goes to the hub alone, and is never shown.
fresh
expect 1 download org/private
contains err 'error[io.hub-access]'
contains err 'HF_TOKEN'
expect 1 download org/gated
contains err 'is only for those who have accepted its terms'
contains err "$HF_ENDPOINT/org/gated"
contains err 'settings/tokens'
absent "$HF_HOME/hub/models--org--gated/refs"
HF_TOKEN=hf_bad expect 1 download org/gated
contains err 'the token of HF_TOKEN'
HF_TOKEN=hf_bad expect 1 download org/nothing
contains err 'error[io.hub-access]'
lacks err hf_bad
: >hub/log
HF_TOKEN=hf_good expect 0 download org/private
[ "$(requests 'hub .*token=yes')" -ge 3 ] || fail 'the hub got no token'
[ "$(requests 'store .*token=no')" = 1 ] && [ "$(requests 'store .*token=yes')" = 0 ] || fail 'the store got the token'
lacks err hf_good
mkdir -p "$HF_HOME" && echo hf_good >"$HF_HOME/token"
expect 0 download org/gated
echo hf_good >token
rm -rf "$HF_HOME"
HF_TOKEN_PATH=$scratch/token expect 0 download org/gated
HF_TOKEN=$'hf_a\nX-Other: b' expect 2 download org/tiny
contains err 'error[config.hub-token]'
lacks err X-Other

# Names that are not there.
fresh
HF_TOKEN=hf_good expect 2 download org/tyny
contains err 'error[config.hub-not-found]'
contains err "did you mean 'org/tiny'"
contains err '--repo_type dataset'
expect 2 download org/tiny --revision v1.1
contains err "has no revision 'v1.1'"
contains err "did you mean 'v1.0'"
expect 0 download org/tiny --revision refs/pr/1
present "$HF_HOME/hub/models--org--tiny/refs/refs/pr/1"
expect 0 download org/tiny --revision "$(basename "$(snapshot)")"
for name in '' ../x a/b/c org/tiny: 'org/ti ny' org--tiny; do
  expect 2 download "$name"
done
expect 2 download org/tiny --revision ../../x
contains err 'is no name of a revision'
HF_HUB_OFFLINE=1 expect 2 download org/tiny
contains err 'HF_HUB_OFFLINE is set'
HF_ENDPOINT=127.0.0.1 expect 2 download org/tiny
contains err 'error[config.hub-endpoint]'
HF_ENDPOINT=http://127.0.0.1:1 expect 1 download org/tiny
contains err 'HF_ENDPOINT can name a mirror'

# Trouble that passes, and trouble that stays.
fresh
faults 'status:500 1 /api/models' 'status:429 1 resolve' 'cut:100000 2 store GET' 'stall:4 1 tokenizer.json'
expect 0 download org/tiny
same "$(snapshot)/model.safetensors" $tiny/model.safetensors
contains err 'the server answers with status 500 (the server says: Something is wrong); trying again in 1 s'
[ "$(requests 'range=bytes=100000-')" -ge 1 ] && [ "$(requests 'range=bytes=200000-')" -ge 1 ] || fail "$(cat hub/log)"
fresh
faults 'wrong:1 1 store GET' 'longer:1 1 tokenizer.json'
expect 0 download org/tiny
contains err 'fetching it again'
same "$(snapshot)/model.safetensors" $tiny/model.safetensors
fresh
faults 'wrong:1 9 store GET'
expect 1 download org/tiny
contains err 'error[io.checksum]'
contains err 'model.safetensors'
absent "$HF_HOME/hub/models--org--tiny/refs/main" "$HF_HOME"/hub/models--org--tiny/snapshots/*/config.json
fresh
faults 'address:file:///etc/passwd 9 resolve'
expect 1 download org/tiny
contains err 'no address on the web'
faults "address:$HF_ENDPOINT/org/tiny/resolve/main/x 99 resolve"
expect 1 download org/tiny
contains err 'more than 10 times'

# What a hostile list holds is not followed.
repository models/org/hostile
echo '{}' >config.json
cd "$scratch" || exit 2
hostile() { # LISTING
  printf '{"listing": %s}' "$1" >hub/models/org/hostile/.hub
  fresh
}
entry='"size": 3, "blobId": "ca9c491ac66b2c62500882e93f3719a8da6a0aa6"'
hostile "{\"siblings\": [{\"rfilename\": \"config.json\", $entry}, {\"rfilename\": \"model.safetensors\", $entry},
  {\"rfilename\": \"../../../../../evil.json\", $entry}, {\"rfilename\": \"/tmp/evil.json\", $entry}, {\"rfilename\": \"a\\u001b[31mb\", $entry}]}"
dry org/hostile --include '*'
contains err 'left out, for no file should have such a name'
lacks out evil
LC_ALL=C grep -q "$(printf '\033')" err && fail 'a control character is shown'
hostile '{"sha": "../../../x"}'
expect 1 download org/hostile
contains err 'error[format.hub-listing]'
hostile '{"siblings": [{"rfilename": "config.json", "size": -4}]}'
expect 1 download org/hostile --include '*'
contains err 'error[format.hub-listing]'
hostile "{\"siblings\": [{\"rfilename\": \"a.bin\", \"size\": 900000000000000, \"lfs\": {\"size\": 900000000000000, \"sha256\": \"$(printf x | sha256sum | cut -c 1-64)\"}}]}"
expect 1 download org/hostile --include '*'
contains err 'error[io.full-disk]'

# Killed in the middle of a file, it goes on from there; nothing of a model is seen before all is there.
random $tiny/model.safetensors 3000000
fresh
faults 'drip:0.1 1 store GET'
"$deltaw" download org/tiny >out 2>err &
run=$!
blobs=$HF_HOME/hub/models--org--tiny/blobs
for _ in $(seq 200); do
  [ "$(stat -c %s "$blobs"/*.incomplete 2>/dev/null || echo 0)" -le 500000 ] || break
  sleep 0.02
done
kill -9 $run
wait $run 2>/dev/null
absent "$HF_HOME"/hub/models--org--tiny/snapshots/*/* "$HF_HOME/hub/models--org--tiny/refs/main"
begun=$(stat -c %s "$blobs"/*.incomplete)
[ "$begun" -gt 500000 ] && [ "$begun" -lt 3000000 ] || fail "$begun bytes were there when it was killed"
dry org/tiny
contains out 'are here'
calm
expect 0 download org/tiny
[ "$(requests "range=bytes=$begun-")" -ge 1 ] || fail 'it did not go on where it was'
same "$(snapshot)/model.safetensors" $tiny/model.safetensors
rm "$(readlink -f "$(snapshot)/model.safetensors")" # a link that leads nowhere is mended
expect 0 download org/tiny
same "$(snapshot)/model.safetensors" $tiny/model.safetensors

# What others left half done: under the name of older versions, of newer ones, or spoilt; a server without ranges.
digest=$(sha256sum <$tiny/model.safetensors | cut -c 1-64)
left() { # FILE BYTES
  fresh
  mkdir -p "$blobs"
  head -c "$2" $tiny/model.safetensors >"$blobs/$1"
  touch -d '2 hours ago' "$blobs/$1"
}
for name in "$digest.incomplete" "$digest.0123abcd.incomplete"; do
  left "$name" 1234567
  expect 0 download org/tiny
  [ "$(requests 'range=bytes=1234567-')" -ge 1 ] || fail "$name was not used"
  same "$(snapshot)/model.safetensors" $tiny/model.safetensors
  absent "$blobs/$name"
done
left "$digest.incomplete" 1000000
printf x | dd of="$blobs/$digest.incomplete" conv=notrunc seek=5000 bs=1 2>/dev/null
expect 0 download org/tiny
same "$(snapshot)/model.safetensors" $tiny/model.safetensors
left "$digest.incomplete" 3000000
expect 0 download org/tiny
[ "$(requests 'store')" = 0 ] || fail 'a whole file was fetched again'
left "$digest.incomplete" 1000
faults 'whole:1 1 store GET'
expect 0 download org/tiny
same "$(snapshot)/model.safetensors" $tiny/model.safetensors

# Several at once fetch a file once.
fresh
faults 'drip:0.01 9 store GET'
for i in 1 2 3; do "$deltaw" download org/tiny >out$i 2>err$i & runs[i]=$!; done
for i in 1 2 3; do wait "${runs[i]}" || fail "run $i of three failed: $(cat err$i)"; done
[ "$(sort -u out1 out2 out3 | wc -l)" = 1 ] || fail 'three runs, several folders'
[ "$(requests 'store GET')" = 1 ] || fail "the file was fetched $(requests 'store GET') times"
same "$(cat out1)/model.safetensors" $tiny/model.safetensors

# Without links, and into a folder of the user's.
fresh
HF_HUB_DISABLE_SYMLINKS=1 expect 0 download org/tiny
[ -f "$(snapshot)/model.safetensors" ] && [ ! -L "$(snapshot)/model.safetensors" ] || fail 'a link without links'
same "$(snapshot)/config.json" $tiny/config.json
same "$(snapshot)/generation_config.json" $tiny/generation_config.json
calm
HF_HUB_DISABLE_SYMLINKS=1 expect 0 download org/tiny
[ "$(requests resolve)" = 0 ] || fail 'files that are there were fetched again'
expect 0 download org/tiny --local_dir folder
[ "$(snapshot)" = "$scratch/folder" ] || fail "the folder is $(snapshot)"
[ -f folder/model.safetensors ] && [ ! -L folder/model.safetensors ] || fail 'no plain file'
same folder/additional_chat_templates/tool.jinja $tiny/additional_chat_templates/tool.jinja
calm
expect 0 download org/tiny --local_dir folder
[ "$(requests resolve)" = 0 ] || fail 'files of the folder were fetched again'
echo '{"model_type": "z"}' >$tiny/config.json
expect 0 download org/tiny --local_dir folder
same folder/config.json $tiny/config.json
echo mine >folder/config.json
touch -d 'next hour' folder/config.json
echo '{"model_type": "other"}' >$tiny/config.json
expect 2 download org/tiny --local_dir folder
contains err 'error[config.output-foreign]'
[ "$(cat folder/config.json)" = mine ] || fail "the user's file is gone"

expect 2 download
contains err 'error[usage.missing-name]'
expect 2 download org/many-GGUF:Q8_0 --include x
contains err 'error[config.conflict]'

# huggingface_hub takes the server for the hub, and finds what was downloaded.
python=${ORACLE_PYTHON:-$tests/../.venv/bin/python}
if "$python" -c 'import huggingface_hub' 2>/dev/null; then
  fresh
  "$python" "$tests/../oracle/check_download.py" "$deltaw" hub >out 2>err || fail 'huggingface_hub does not agree'
  cat out
else
  echo 'SKIPPED: the comparison with huggingface_hub, which scripts/setup --oracle installs'
fi

finish
