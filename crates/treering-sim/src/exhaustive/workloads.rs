//! The workloads, each for one thing that a database does.

use treering::Durability::{Buffered, Durable, None as NotDurable};
use treering_txn::OpKind;

use super::step::{Op, Step};
use super::workload::Before::{Closed, Killed, Nothing};
use super::workload::{Workload, delete_op, filled, key, key_behind, pairs, put, put_op, value};

/// All of them.
pub fn all() -> Vec<Workload> {
    let mut all = single_keys();
    all.extend(structure());
    all.extend(batches());
    all.extend(large_values());
    all.extend(trees());
    all.extend(checkpoints());
    all.extend(whole_databases());
    all.extend(recoveries());
    all
}

fn single_keys() -> Vec<Workload> {
    let some = || Closed(filled("t", 0..12, 40));
    vec![
        Workload::new("create", Nothing, vec![]).from_opening(),
        Workload::new(
            "first-put",
            Nothing,
            vec![Step::CreateTree("t"), put("t", key(1), value(1, 50))],
        )
        .shows(|_, after| after.keys == 1),
        Workload::new("put", some(), vec![put("t", key_behind(3), value(1, 20))])
            .shows(|before, after| after.keys == before.keys + 1 && after.pages == before.pages),
        Workload::new(
            "overwrite",
            some(),
            vec![put("t", key(3), value(9, 40)), put("t", key(3), value(8, 10))],
        )
        .shows(|before, after| after.keys == before.keys),
        Workload::new("delete", some(), vec![Step::Delete("t", key(3)), Step::Delete("t", key(3))])
            .shows(|before, after| after.keys + 1 == before.keys),
        Workload::new(
            "buffered-then-durable",
            some(),
            vec![
                commit(vec![put_op("t", key(2), value(7, 30))], Buffered),
                commit(vec![put_op("t", key(4), value(7, 30))], NotDurable),
                commit(vec![delete_op("t", 6)], Buffered),
                put("t", key(20), value(7, 30)),
            ],
        ),
    ]
}

fn structure() -> Vec<Workload> {
    vec![
        Workload::new(
            "split",
            Closed(filled("t", 0..12, 100)),
            vec![put("t", key_behind(1), value(1, 100))],
        )
        .shows(|before, after| after.pages == before.pages + 1 && after.height == before.height),
        Workload::new(
            "root-split",
            Closed(filled("t", 0..3, 100)),
            vec![put("t", key_behind(1), value(1, 120))],
        )
        .shows(|before, after| after.height == before.height + 1),
        Workload::new(
            "inner-split",
            Closed(filled("t", 0..92, 100)),
            vec![put("t", key_behind(46), value(1, 100))],
        )
        .shows(|before, after| after.pages == before.pages + 2 && after.height == before.height),
        Workload::new(
            "ascending",
            Closed(filled("t", 0..10, 100)),
            (10..14).map(|number| put("t", key(number), value(number, 100))).collect(),
        )
        .shows(|before, after| after.pages > before.pages),
        Workload::new(
            "merge",
            Closed(filled("t", 0..16, 100)),
            vec![
                commit((4..10).map(|number| delete_op("t", number)).collect(), Durable),
                Step::Tidy,
            ],
        )
        .shows(|before, after| after.merges > 0 && after.pages < before.pages),
        Workload::new(
            "borrow",
            Closed(filled("t", 0..16, 50)),
            vec![
                commit((4..8).map(|number| delete_op("t", number)).collect(), Durable),
                Step::Tidy,
            ],
        )
        .shows(|before, after| after.merges > 0 && after.pages == before.pages),
        Workload::new(
            "collapse",
            Closed(filled("t", 0..6, 100)),
            vec![
                commit((1..6).map(|number| delete_op("t", number)).collect(), Durable),
                Step::Tidy,
            ],
        )
        .shows(|before, after| after.height < before.height),
    ]
}

fn batches() -> Vec<Workload> {
    let two_trees = || Closed([filled("t", 0..12, 100), filled("u", 0..5, 30)].concat());
    let refused = |kind, key| Op { tree: "t", kind, key, value: value(1, 10) };
    vec![
        Workload::new(
            "batch-pages",
            Closed(filled("t", 0..16, 100)),
            vec![commit(
                vec![
                    put_op("t", key(0), value(50, 90)),
                    put_op("t", key_behind(6), value(51, 100)),
                    delete_op("t", 15),
                ],
                Durable,
            )],
        ),
        Workload::new(
            "batch-trees",
            two_trees(),
            vec![
                commit(
                    vec![
                        put_op("t", key(3), value(50, 90)),
                        delete_op("u", 2),
                        put_op("u", key_behind(3), value(51, 100)),
                    ],
                    Durable,
                ),
                commit(vec![delete_op("t", 3), put_op("u", key(2), value(3, 30))], Durable),
            ],
        ),
        Workload::new(
            "batch-refused",
            two_trees(),
            vec![
                commit(vec![put_op("u", key(1), value(50, 30))], Buffered),
                commit(
                    vec![
                        put_op("u", key(9), value(50, 30)),
                        refused(OpKind::Insert, key(4)),
                        refused(OpKind::Update, key(40)),
                    ],
                    Durable,
                ),
                commit(
                    vec![refused(OpKind::RequireValue, key(3)), put_op("t", key(3), value(2, 9))],
                    Durable,
                ),
                commit(
                    vec![refused(OpKind::RequireAbsent, key(30)), put_op("t", key(3), value(2, 9))],
                    Durable,
                ),
            ],
        ),
        Workload::new(
            "batches-beside",
            Closed(filled("t", 0..16, 100)),
            vec![
                commit(vec![put_op("t", key(3), value(50, 90)), delete_op("t", 9)], Durable),
                commit(vec![put_op("t", key(3), value(51, 80)), delete_op("t", 12)], Durable),
                commit(vec![put_op("t", key_behind(3), value(52, 80))], Buffered),
            ],
        )
        .beside(),
        Workload::new(
            "big-batch",
            Closed(filled("t", 0..20, 60)),
            vec![
                put("t", key(2), value(3, 50)),
                commit(
                    (5..70)
                        .map(|number| match number % 5 {
                            0 => delete_op("t", number),
                            _ => put_op("t", key(number), value(number + 9, 100)),
                        })
                        .collect(),
                    Durable,
                ),
            ],
        )
        .shows(|before, after| after.keys > before.keys),
        Workload::new(
            "range-delete",
            Closed(filled("t", 0..40, 100)),
            vec![Step::DeleteRange("t", key(5), key(35)), put("t", key(7), value(3, 50))],
        )
        .shows(|before, after| after.keys < before.keys),
        Workload::new(
            "duplicates",
            Closed(vec![
                Step::CreateMultiTree("m"),
                Step::InsertDuplicate("m", b"colour".to_vec(), b"red".to_vec()),
                Step::InsertDuplicate("m", b"colour".to_vec(), b"green".to_vec()),
            ]),
            vec![
                Step::InsertDuplicate("m", b"colour".to_vec(), b"red".to_vec()),
                Step::DeleteDuplicate("m", b"colour".to_vec(), b"red".to_vec()),
                Step::InsertDuplicate("m", b"shape".to_vec(), b"round".to_vec()),
                Step::DeleteDuplicate("m", b"colour".to_vec(), b"blue".to_vec()),
            ],
        ),
    ]
}

fn large_values() -> Vec<Workload> {
    let large = || {
        let steps = [filled("t", 0..8, 40), vec![put("t", key(3), value(1, 3000))]];
        Closed(steps.concat())
    };
    vec![
        Workload::new(
            "large-put",
            Closed(filled("t", 0..8, 40)),
            vec![put("t", key_behind(2), value(1, 1500)), put("t", key(5), value(2, 700))],
        )
        .shows(|before, after| after.large_values == before.large_values + 2),
        Workload::new(
            "large-overwrite",
            large(),
            vec![put("t", key(3), value(2, 1700)), put("t", key(3), value(3, 20))],
        )
        .shows(|before, after| after.large_values + 1 == before.large_values),
        Workload::new("large-delete", large(), vec![Step::Delete("t", key(3)), Step::Checkpoint])
            .shows(|before, after| after.large_values + 1 == before.large_values),
        Workload::new(
            "value-stream",
            large(),
            vec![
                Step::Stream("t", key(3), value(4, 4000)),
                Step::Stream("t", key(30), value(5, 2000)),
            ],
        )
        .shows(|before, after| after.large_values == before.large_values + 1),
    ]
}

fn trees() -> Vec<Workload> {
    let two_trees = || Closed([filled("t", 0..12, 100), filled("u", 0..5, 30)].concat());
    vec![
        Workload::new(
            "create-tree",
            two_trees(),
            vec![Step::CreateTree("v"), put("v", key(1), value(1, 30)), Step::CreateTree("t")],
        )
        .shows(|before, after| after.trees == before.trees + 1),
        Workload::new("drop-tree", two_trees(), vec![Step::DropTree("t"), Step::DropTree("t")])
            .shows(|before, after| after.trees + 1 == before.trees),
        Workload::new(
            "drop-and-make-again",
            two_trees(),
            vec![Step::DropTree("t"), Step::CreateTree("t"), put("t", key(2), value(77, 30))],
        )
        .shows(|before, after| after.trees == before.trees && after.keys < before.keys),
        Workload::new(
            "rename-tree",
            two_trees(),
            vec![
                Step::RenameTree("t", "u"),
                Step::RenameTree("t", "v"),
                put("v", key(1), value(7, 30)),
                Step::RenameTree("u", "t"),
            ],
        )
        .shows(|before, after| after.trees == before.trees),
        Workload::new(
            "bulk-load",
            Closed([filled("t", 0..5, 30), vec![Step::CreateTree("l")]].concat()),
            vec![Step::Load("l", pairs(0..24, 100)), put("l", key_behind(3), value(1, 20))],
        )
        .shows(|before, after| after.keys == before.keys + 25),
    ]
}

fn checkpoints() -> Vec<Workload> {
    let some = || Closed(filled("t", 0..20, 100));
    let buffered =
        |number, len| commit(vec![put_op("t", key(number), value(number, len))], Buffered);
    vec![
        Workload::new(
            "checkpoint",
            some(),
            vec![buffered(3, 60), buffered(30, 60), Step::Checkpoint],
        ),
        Workload::new(
            "checkpoint-beside",
            some(),
            vec![Step::Checkpoint, put("t", key(3), value(1, 60)), buffered(3, 10)],
        )
        .beside(),
        Workload::new(
            "two-checkpoints",
            some(),
            vec![
                buffered(3, 60),
                Step::Checkpoint,
                put("t", key(4), value(1, 60)),
                buffered(15, 60),
                Step::Checkpoint,
                put("t", key(5), value(1, 60)),
            ],
        )
        .frames(16),
        Workload::new(
            "log-wrap",
            Closed(filled("t", 0..40, 100)),
            (0..6)
                .map(|round| {
                    let numbers = round * 5..round * 5 + 12;
                    let ops = numbers.map(|number| put_op("t", key(number), value(round, 100)));
                    let ops = ops.chain([put_op("t", key(60), value(round, 120))]);
                    commit(ops.collect(), Durable)
                })
                .collect(),
        )
        .frames(256)
        .shows(|_, after| after.checkpoints > 2),
        Workload::new("sync", some(), vec![buffered(3, 60), Step::Sync, buffered(4, 60)]),
    ]
}

fn whole_databases() -> Vec<Workload> {
    let some = || Closed(filled("t", 0..12, 100));
    vec![
        Workload::new(
            "compact",
            Closed(
                [filled("t", 0..40, 100), vec![Step::DeleteRange("t", key(3), key(33))]].concat(),
            ),
            vec![put("t", key(2), value(1, 60)), Step::Compact, put("t", key(1), value(1, 60))],
        ),
        Workload::new("backup", some(), vec![put("t", key(2), value(1, 60)), Step::Backup]),
        Workload::new(
            "backup-beside",
            some(),
            vec![Step::Backup, put("t", key(2), value(1, 60)), Step::Delete("t", key(7))],
        )
        .beside(),
        Workload::new("close", some(), vec![put("t", key(2), value(1, 60)), Step::Close]),
        Workload::new(
            "reopen",
            some(),
            vec![
                commit(vec![put_op("t", key(2), value(1, 60))], NotDurable),
                Step::Reopen,
                put("t", key(3), value(1, 60)),
            ],
        )
        .frames(16),
    ]
}

fn recoveries() -> Vec<Workload> {
    let churn = || {
        let churn = [
            commit((2..6).map(|number| delete_op("t", number)).collect(), Durable),
            put("t", key_behind(9), value(5, 100)),
            put("t", key(30), value(5, 100)),
        ];
        [filled("t", 0..14, 100), vec![Step::Checkpoint], churn.to_vec()].concat()
    };
    let much = || {
        let much = [
            put("t", key(2), value(1, 1500)),
            Step::DropTree("u"),
            put("t", key(2), value(1, 900)),
            Step::CreateTree("v"),
            commit((0..6).map(|number| put_op("v", key(number), value(5, 100))).collect(), Durable),
            Step::RenameTree("v", "u"),
        ];
        let before = [filled("t", 0..8, 60), filled("u", 0..12, 60), vec![Step::Checkpoint]];
        [before.concat(), much.to_vec()].concat()
    };
    vec![
        Workload::new("recovery", Killed(churn()), vec![])
            .from_opening()
            .shows(|_, after| after.replayed >= 3),
        Workload::new("recovery-of-much", Killed(much()), vec![])
            .from_opening()
            .frames(16)
            .shows(|_, after| after.replayed >= 5),
        Workload::new("recovery-and-put", Killed(churn()), vec![put("t", key(5), value(1, 60))])
            .from_opening()
            .frames(16),
    ]
}

fn commit(ops: Vec<Op>, durability: treering::Durability) -> Step {
    Step::Commit(ops, durability)
}
