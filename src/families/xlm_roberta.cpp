// XLM-RoBERTa: Conneau et al. 2020, arXiv:1911.02116. RoBERTa's model over another vocabulary.
#include "deltaw/family.h"

namespace deltaw {

const FamilySpec& family_roberta();

const FamilySpec& family_xlm_roberta() {
  static const FamilySpec spec = [] {
    FamilySpec own = family_roberta();
    own.model_type = "xlm-roberta";
    for (HeadSpec& head : own.heads) head.architecture = "XLM" + head.architecture;
    own.adalora_target_modules = {};
    return own;
  }();
  return spec;
}

}  // namespace deltaw
