//! The engine on smol, and futures that are dropped half-way.
//!
//! A request that times out drops its futures. Nobody has to be told: a write that was dropped is
//! wholly there or wholly absent, and nothing waits for it.
//!
//! `cargo run --release -p treering --example smol`

use std::future::IntoFuture;

use futures::FutureExt;
use treering::{Error, ErrorKind, Options, Tree};

fn main() -> Result<(), Error> {
    smol::block_on(bank())
}

async fn bank() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("data.tr");
    let db = Options::new().cache_size(16 << 20).open(&path).await?;
    let accounts = db.tree("accounts").await?;
    accounts.put("ada", "100").await?;
    accounts.put("alan", "50").await?;

    // All or nothing, and only if nothing has changed since it was read.
    let mut transfer = db.batch();
    transfer.require_value(&accounts, "ada", "100").put(&accounts, "ada", "70");
    transfer.require_value(&accounts, "alan", "50").put(&accounts, "alan", "80");
    transfer.commit().await?;

    // Another one that believes to know better is refused, by the operation that is wrong.
    let mut late = db.batch();
    late.require_value(&accounts, "alan", "80").put(&accounts, "alan", "0");
    late.require_value(&accounts, "ada", "100").put(&accounts, "ada", "150");
    let refused = late.commit().await.expect_err("ada has 70 by now");
    assert_eq!((refused.kind(), refused.operation()), (ErrorKind::ValueDiffers, Some(2)));
    assert_eq!(balances(&accounts).await?, [("ada", 70), ("alan", 80)].map(owned));

    // A hundred transfers, each polled once and then dropped, and a hundred that are awaited.
    let executor = smol::Executor::new();
    for n in 0..100 {
        let mut dropped = db.batch();
        dropped.put(&accounts, format!("left {n:02}"), "1");
        dropped.put(&accounts, format!("right {n:02}"), "1");
        let _ = dropped.commit().into_future().now_or_never();
    }
    let kept: Vec<_> = (0..100)
        .map(|n| executor.spawn(accounts.put(format!("saver {n:02}"), "1").into_future()))
        .collect();
    executor
        .run(async {
            for saved in kept {
                saved.await?;
            }
            Ok::<(), Error>(())
        })
        .await?;
    db.close().await?;
    drop((accounts, db));

    let db = Options::new().create(false).open(&path).await?;
    let accounts = db.find_tree("accounts")?.expect("the tree was made");
    let balances = balances(&accounts).await?;
    let with = |prefix: &str| balances.iter().filter(|(name, _)| name.starts_with(prefix)).count();
    assert_eq!(with("saver"), 100, "what was awaited is there");
    for n in 0..100 {
        let there =
            [accounts.contains(format!("left {n:02}")), accounts.contains(format!("right {n:02}"))];
        let [left, right] = futures::future::try_join_all(there).await?.try_into().expect("two");
        assert_eq!(left, right, "what was dropped is wholly there or wholly absent");
    }
    println!("100 commits awaited; of 100 dropped after one poll, {} stand", with("left"));
    db.close().await
}

async fn balances(accounts: &Tree) -> Result<Vec<(String, u32)>, Error> {
    let (mut balances, mut range) = (Vec::new(), accounts.range(..));
    while let Some(chunk) = range.next_chunk().await? {
        balances.extend(chunk.iter().map(|(name, balance)| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(name), text(balance).parse().expect("balances are numbers"))
        }));
    }
    Ok(balances)
}

fn owned((name, balance): (&str, u32)) -> (String, u32) {
    (name.to_owned(), balance)
}
