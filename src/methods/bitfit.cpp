// BitFit: bias terms only. Ben Zaken et al. 2021, arXiv:2106.10199.
//
// Every bias of the base trains, norms' included, and the task's head; target_modules chooses among the modules whose
// bias it is. The file holds the biases under the names they have in the model.
#include "methods/layerless.h"

namespace deltaw {

const MethodSpec& method_bitfit() {
  static const MethodSpec spec = make_spec<BaseOnly>({
      .id = "bitfit",
      .title = "BitFit",
      .paper = "arXiv:2106.10199",
      .peft_type = "BITFIT",
      .acts_on = {ActsOn::biases},
      .parameter_count = "d_out",
  });
  return spec;
}

}  // namespace deltaw
