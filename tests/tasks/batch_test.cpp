#include "deltaw/batch.h"
#include "deltaw/error.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deltaw/task.h"
#include "support/data.h"
#include "support/temporary.h"
#include "train/tiny_run.h"

namespace deltaw {
namespace {

Batch batch_of(std::vector<int64_t> positions, int64_t length) {
  const auto rows = static_cast<int64_t>(positions.size());
  return {.rows = rows,
          .tensors = {{"labels", at::arange(rows)}, {"input_ids", at::ones({rows, length}, at::kLong)}},
          .positions = std::move(positions),
          .costs = std::vector<int64_t>(static_cast<size_t>(rows), length)};
}

TEST(Batch, NamesItsTensors) {
  const Batch batch = batch_of({4, 2}, 3);
  EXPECT_EQ(batch["input_ids"].size(1), 3);
  EXPECT_FALSE(batch.get("pixel_values").defined());
  const Error error = test::error_of([&] { batch["pixel_values"]; });
  EXPECT_EQ(error.id(), "data.no-tensor");
  EXPECT_NE(error.parts().where.find("input_ids, labels"), std::string::npos) << error.parts().where;
}

TEST(Batch, MovesToADeviceWithWhatTheHostKnows) {
  const Batch moved = batch_of({4, 2}, 3).to(at::kMeta);
  EXPECT_EQ(moved["labels"].device().type(), at::kMeta);
  EXPECT_EQ(moved.positions, (std::vector<int64_t>{4, 2}));
}

TEST(Batch, LeavesOnTheHostWhatIsPadded) {
  Batch batch = batch_of({4, 2}, 3);
  batch.tensors["attention_mask"] = at::ones({2, 3}, at::kLong);
  const Batch moved = batch.to(at::kMeta);
  EXPECT_EQ(moved["input_ids"].device().type(), at::kMeta);
  EXPECT_TRUE(moved["attention_mask"].is_cpu());
}

TEST(Batch, JoinsRowsAndLeavesOutWhatDoesNotFit) {
  const Batch all = joined({batch_of({4, 2}, 3), batch_of({1}, 5)});
  EXPECT_EQ(all.rows, 3);
  EXPECT_EQ(all.positions, (std::vector<int64_t>{4, 2, 1}));
  EXPECT_EQ(all.costs, (std::vector<int64_t>{3, 3, 5}));
  EXPECT_EQ(all["labels"].size(0), 3);
  EXPECT_FALSE(all.get("input_ids").defined()) << "padded to other lengths";
  EXPECT_EQ(joined({batch_of({4, 2}, 3), batch_of({1}, 3)})["input_ids"].size(0), 3);
}

TEST(Task, SaysWhichRowsItReads) {
  const auto words = load_model(test::fixture("golden/models/gpt2").string(), {.dtype = "float32"});
  const Error error =
      test::error_of([&] { task_of(*words)->check(*words, nullptr, *test::invented_source(2, 1), "training"); });
  EXPECT_EQ(error.id(), "data.other-rows");
  EXPECT_NE(error.parts().what.find("CausalRows"), std::string::npos) << error.parts().what;
}

TEST(Task, IsFoundByItsName) {
  EXPECT_EQ(find_task("SEQ_CLS").id, "SEQ_CLS");
  const Error error = test::error_of([] { find_task("SEQ_2_SEQ_LM"); });
  EXPECT_EQ(error.id(), "config.unknown-task-type");
  EXPECT_NE(error.parts().fix.find("CAUSAL_LM (causal language modelling)"), std::string::npos) << error.parts().fix;
}

}  // namespace
}  // namespace deltaw
