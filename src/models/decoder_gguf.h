// How positions turn, by llama.cpp's names; from a file and into one.
#pragma once

#include "models/decoder.h"

namespace deltaw {

constexpr const char *kRopeFactors = "rope_freqs.weight", *kLongRopeFactors = "rope_factors_long.weight",
                     *kShortRopeFactors = "rope_factors_short.weight";

/// What Llama 3 divides a frequency of that wavelength by: 1 for short waves, `factor` for long ones, a blend between
/// (Grattafiori et al. 2024, arXiv:2407.21783).
double llama3_factor(double wavelength, double original, double factor, double low, double high);

/// What a file says of a model of the decoder: keys that all architectures have. Throws config.unsupported.
void describe_decoder(const DecoderConfig& config, const ConfigValues& values, const DecoderGguf& form,
                      GgufFacts& facts);

/// Throws config.unsupported for a key of config.json that llama.cpp has not, or has in another way.
[[noreturn]] void refuse_in_gguf(const GgufFacts& facts, const std::string& key, const std::string& why);

/// The values that llama.cpp's own architecture has besides, which other families share.
void describe_turned_pairs(const DecoderConfig& config, const ConfigValues& values, GgufFacts& facts);

/// Refuses heads that are not hidden_size / num_attention_heads wide, and biases of attention.
void need_usual_heads(const DecoderConfig& config, const GgufFacts& facts);
void need_no_biases(const DecoderConfig& config, const GgufFacts& facts);

/// Tells of windows that llama.cpp does not have for the architecture.
void lose_windows(const DecoderConfig& config, GgufFacts& facts);

}  // namespace deltaw
