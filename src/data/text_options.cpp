#include "deltaw/text_data.h"

namespace deltaw {

void TextOptions::fields(FieldVisitor& f) {
  f.field("packing", packing,
          "Put several rows into one of up to max_length tokens; they do not see each other. Saves padding.");
  f.field("completion_only_loss", completion_only_loss,
          "Train on answers only: completions, outputs and the assistant's turns. Plain text trains on all.");
  f.field("as_conversation", as_conversation,
          "Word rows of a prompt and an answer as a user's and an assistant's turn, by the chat template: prompt and "
          "completion, instruction and output, question and answer.");
  f.field("max_bad_rows", max_bad_rows,
          "Share of a file's rows that may be left out, rounded up to whole rows: those without an answer, and those "
          "that the template refuses. They are counted and shown; more are an error, and with 0 any.",
          between(0, 1));
  f.field("chat_template", chat_template, "A file with the Jinja template of messages. Default: the model's own.");
}

}  // namespace deltaw
