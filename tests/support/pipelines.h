// The pipelines of oracle/make_pipelines.py.
#pragma once

#include <ATen/core/grad_mode.h>

#include <filesystem>
#include <memory>
#include <string>

#include "core/files.h"
#include "deltaw/pipeline.h"
#include "support/golden.h"
#include "support/unets.h"

namespace deltaw::test {

inline std::filesystem::path pipeline_folder(const std::string& name) {
  return fixture("golden/pipelines/" + name);
}

inline Golden pipeline_io(const std::string& name) {
  return Golden(pipeline_folder(name) / "io.safetensors");
}

inline Json pipeline_case(const std::string& name) {
  return read_json(pipeline_folder(name) / "case.json");
}

inline std::unique_ptr<Model> load_pipeline_unet(const std::string& name, const std::string& dtype = "float32") {
  return load_model(pipeline_folder(name).string(), {.dtype = dtype});
}

}  // namespace deltaw::test
