// What transformers' tokenizer classes of CLIP, SigLIP and SigLIP 2 do beside what their files say.
#pragma once

#include <string>

#include "text/tokenizer/tokenizer_files.h"

namespace deltaw::text {

inline constexpr const char* kClipTokenizer = "CLIPTokenizer";
inline constexpr const char* kSiglipTokenizer = "SiglipTokenizer";
inline constexpr const char* kSiglip2Tokenizer = "Siglip2Tokenizer";

/// CLIP's way with a text: composed, blanks as one, lower case; cut by one pattern, then written as bytes.
TokenizerJson clip_normalizer();
TokenizerJson clip_pre_tokenizer();
/// Each end of a word becomes a blank; none is left at the ends of the text.
TokenizerJson clip_decoder();

/// What SiglipTokenizer does to a text before SentencePiece sees it, then `charsmap` (null: none) and, where
/// `removes_blanks`, what SentencePiece does about blanks: lower case unless do_lower_case is false, no ASCII
/// punctuation, blanks as one. The blank that begins a text is put there first, so one that the text itself begins
/// with stays beside it.
TokenizerJson siglip_normalizer(const TokenizerConfig& config, const TokenizerJson& charsmap, bool removes_blanks);
TokenizerJson siglip_decoder();

/// Changes a tokenizer.json as the class of tokenizer_class() does when it reads one: CLIP's decoder, SigLIP 2's lower
/// case.
void add_class_parts(TokenizerJson& json, const TokenizerConfig& config);

/// Whether the class pads with its end token where no file names a token for it: CLIP's and SigLIP's do.
bool pads_with_end(const TokenizerConfig& config);

/// The padding_side of a class whose files name none: "left" for SigLIP 2, else "right".
std::string default_padding_side(const TokenizerConfig& config);

}  // namespace deltaw::text
