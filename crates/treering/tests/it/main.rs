//! The tests of the public face, one program of them all, so that it is built and linked once. Each file
//! has one story; what they share is in `common`, `history` and `machine`.

#![allow(missing_docs, clippy::unwrap_used)] // Tests, and what they are made of.

mod abandoned;
mod backup;
mod big_changes;
mod blocking;
mod bulk_load;
mod bulk_load_beside;
mod busy;
mod common;
mod concurrency;
mod conditions;
mod contracts;
mod cursor_beside_writers;
mod cursor_model;
mod deferred_order;
mod docs;
mod duplicates;
mod duplicates_model;
mod first_steps;
mod fixtures;
mod history;
mod large_values;
mod latch_order;
mod librarian;
mod linearizable;
mod machine;
mod model;
mod read_only;
mod runtimes;
mod scan_ahead;
mod scan_beside_writers;
mod shrink;
mod state_machine;
mod state_machine_multi;
mod t05_page_sizes;
mod t06_raw_block_device;
mod trees;
mod trouble;
mod typed_keys;
mod typed_tree;
mod typed_values;
