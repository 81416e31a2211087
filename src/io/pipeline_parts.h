// Names of what is read of a pipeline's folder of diffusers.
#pragma once

namespace deltaw::io {

inline constexpr const char* kPipelineFile = "model_index.json";
inline constexpr const char* kPipelineDenoiser = "unet";
inline constexpr const char* kPipelineParts[] = {kPipelineDenoiser, "vae", "text_encoder", "tokenizer", "scheduler"};

}  // namespace deltaw::io
